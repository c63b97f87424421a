// Goal: what is written reads back equal, and a failed write leaves nothing under the final name.
// Method: round trips of every type; failures provoked by file size limits, missing folders and abandoned
// writers.
#include "checkpoint/safetensors_writer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <numeric>

#include "checkpoint/checkpoint_testing.h"

namespace fovea {
namespace {

using testing::expect_error;
using testing::TemporaryFolder;

TEST(SafetensorsWriter, EveryTypeReadsBackEqual) {
  const TemporaryFolder folder;
  std::vector<uint8_t> bytes(64);
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  std::vector<TensorToWrite> tensors;
  // An odd number of bytes first: the writer must reorder to keep the wider types aligned.
  tensors.push_back({"u8", StoredType::u8, {3}, bytes.data()});
  for (const StoredType type : {StoredType::bf16, StoredType::f16, StoredType::i32, StoredType::f32,
                                StoredType::i64, StoredType::f64}) {
    tensors.push_back({name_of(type), type, {1, 3}, bytes.data()});
  }
  tensors.push_back({"scalar \"\xc3\xa9\"", StoredType::f32, {}, bytes.data()});
  tensors.push_back({"empty", StoredType::f64, {0, 5}, nullptr});
  write_safetensors(folder / "x.safetensors", tensors, {{"made", "by a test"}});

  const SafetensorsFile file = SafetensorsFile::open(folder / "x.safetensors");
  EXPECT_EQ(file.metadata().at("made"), "by a test");
  ASSERT_EQ(file.tensors().size(), tensors.size());
  for (const TensorToWrite& written : tensors) {
    const StoredTensor& read = file.tensor(written.name);
    EXPECT_EQ(read.type, written.type);
    EXPECT_EQ(read.shape, written.shape);
    EXPECT_EQ(std::memcmp(read.data, bytes.data(), static_cast<size_t>(read.bytes)), 0) << written.name;
  }
  EXPECT_EQ(folder.names(), std::vector<std::string>{"x.safetensors"});
}

TEST(SafetensorsWriter, ReplacesAnOlderFile) {
  const TemporaryFolder folder;
  const float one = 1, two = 2;
  write_safetensors(folder / "x", {{"t", StoredType::f32, {1}, &one}}, {});
  write_safetensors(folder / "x", {{"t", StoredType::f32, {1}, &two}}, {});
  EXPECT_EQ(*SafetensorsFile::open(folder / "x").tensor("t").as<float>(), 2);
}

TEST(SafetensorsWriter, RefusesTwoTensorsOfOneNameAndNamesBeyondUtf8) {
  const TemporaryFolder folder;
  const float one = 1;
  const TensorToWrite tensor{"t", StoredType::f32, {1}, &one};
  expect_error(ErrorKind::invalid_argument, {"t"},
               [&] { write_safetensors(folder / "x", {tensor, tensor}, {}); });
  const TensorToWrite strange{"\xff", StoredType::f32, {1}, &one};
  expect_error(ErrorKind::invalid_argument, {"UTF-8"},
               [&] { write_safetensors(folder / "x", {strange}, {}); });
  EXPECT_TRUE(folder.names().empty());
}

TEST(SafetensorsWriter, AnAbandonedFileLeavesNothing) {
  const TemporaryFolder folder;
  {
    SafetensorsWriter writer(folder / "x", {{"t", StoredType::f32, {4}, nullptr}}, {});
    const float values[2] = {1, 2};
    writer.append(values, sizeof(values));
  }
  EXPECT_TRUE(folder.names().empty());
}

TEST(SafetensorsWriter, AFailedWriteKeepsTheOlderFile) {
  const TemporaryFolder folder;
  const float one = 1;
  write_safetensors(folder / "x", {{"t", StoredType::f32, {1}, &one}}, {});
  const std::vector<float> large(1 << 18);
  // The limit on file sizes stands for a full disk: the kernel refuses both alike, with EFBIG and ENOSPC.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1 << 16, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error(ErrorKind::exhausted, {"x"}, [&] {
    write_safetensors(folder / "x", {{"t", StoredType::f32, {1 << 18}, large.data()}}, {});
  });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(SafetensorsFile::open(folder / "x").tensor("t").shape, std::vector<int64_t>{1});
  EXPECT_EQ(folder.names(), std::vector<std::string>{"x"});
}

TEST(SafetensorsWriter, NamesAFolderThatIsMissing) {
  const TemporaryFolder folder;
  expect_error(ErrorKind::io, {"absent/x"}, [&] { write_safetensors(folder / "absent/x", {}, {}); });
}

}  // namespace
}  // namespace fovea
