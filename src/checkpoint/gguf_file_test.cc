// Goal: the container is read as pip gguf writes it, blocks mean what pip gguf makes of them, bit for bit,
// and no bytes make the reader crash or grow. Method: tests/gguf (tools/make_gguf_goldens.py); one wrong
// value at a time; every beginning of a file, and every byte of a header changed.
#include "checkpoint/gguf_file.h"

#include <gtest/gtest.h>

#include <cmath>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/gguf_header.h"
#include "checkpoint/gguf_testing.h"
#include "checkpoint/safetensors.h"

namespace fovea {
namespace {

using testing::expect_error;
using testing::GgufBuilder;
using testing::kGgmlF16;
using testing::kGgmlF32;
using testing::TemporaryFolder;
using testing::write_bytes;

const std::filesystem::path kGoldens = std::filesystem::path(FOVEA_SOURCE_DIR) / "tests" / "gguf";

TEST(BlockFormats, MeanWhatTheOracleMakesOfThem) {
  const SafetensorsFile file = SafetensorsFile::open(kGoldens / "layouts.safetensors");
  int formats = 0;
  for (const auto format :
       {BlockFormat::q4_0, BlockFormat::q4_1, BlockFormat::q5_0, BlockFormat::q5_1, BlockFormat::q8_0,
        BlockFormat::q4_k, BlockFormat::q5_k, BlockFormat::q6_k, BlockFormat::iq4_nl, BlockFormat::iq4_xs}) {
    const std::string name = name_of(format);
    const StoredTensor &blocks = file.tensor(name + ".blocks"), &values = file.tensor(name + ".values");
    const int64_t count = element_count(values.shape, name);
    ASSERT_EQ(count / elements_of(format) * bytes_of(format), blocks.bytes) << name;
    std::vector<float> ours(static_cast<size_t>(count));
    widen_blocks(format, blocks.data, count, ours.data());
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(ours[static_cast<size_t>(i)]),
                std::bit_cast<uint32_t>(values.as<float>()[i]))
          << name << " " << i;
    }
    ++formats;
  }
  EXPECT_EQ(formats, 10);
}

// Every kind of value, a tensor in blocks and a plain one.
GgufBuilder small_file() {
  GgufBuilder builder;
  builder.text("general.architecture", "clip")
      .u32("a.number", 7)
      .f32("a.fraction", 1e-6f)
      .boolean("a.flag", true)
      .texts("a.texts", {"x", "", "longer than that"})
      .i32s("a.list", {8, 12, -1})
      .f32s("a.fractions", {0.1, 0.5})
      .raw("a.wide", 10, std::string(8, '\x01'))
      .raw("a.double", 12, std::string("\0\0\0\0\0\0\xf0\x3f", 8))
      .tensor("w", 8, {2, 32}, std::string(68, '\x3c'))
      .tensor("v", kGgmlF32, {3}, std::string(12, '\0'));
  return builder;
}

GgufHeader parsed(const std::string& bytes) { return parse_gguf_header(bytes, "model.gguf"); }

TEST(GgufFile, ValuesAreReadByTheirTypes) {
  const TemporaryFolder folder;
  write_bytes(folder / "x.gguf", small_file().bytes());
  const GgufFile file = GgufFile::open(folder / "x.gguf");
  EXPECT_EQ(file.string("general.architecture"), "clip");
  EXPECT_EQ(file.integer("a.number"), 7);
  EXPECT_EQ(file.integer("a.wide"), 0x0101010101010101);
  EXPECT_EQ(file.number("a.fraction"), 1e-6);  // the shortest decimal, not the float's own value
  EXPECT_EQ(file.number("a.double"), 1.0);
  EXPECT_EQ(file.number("a.number"), 7.0);
  EXPECT_EQ(file.boolean("a.flag"), true);
  EXPECT_EQ(file.integers("a.list"), (std::vector<int64_t>{8, 12, -1}));
  EXPECT_EQ(file.numbers("a.fractions"), (std::vector<double>{0.1, 0.5}));
  std::vector<std::string> texts;
  EXPECT_EQ(file.each_string("a.texts", [&](std::string_view text) { texts.emplace_back(text); }), 3);
  EXPECT_EQ(texts, (std::vector<std::string>{"x", "", "longer than that"}));
  EXPECT_EQ(file.string("absent"), std::nullopt);
  EXPECT_TRUE(file.integers("absent").empty());
  ASSERT_NE(file.find("w"), nullptr);
  EXPECT_EQ(file.find("w")->shape, (std::vector<int64_t>{2, 32}));
  EXPECT_EQ(file.find("w")->bytes, 68);
  EXPECT_STREQ(file.find("w")->type_name(), "Q8_0");
  EXPECT_EQ(static_cast<const char*>(file.find("w")->data)[67], '\x3c');
  EXPECT_EQ(file.find("v")->offset % 32, 0);
  for (const char* key : {"general.architecture", "a.flag", "a.list"}) {
    expect_error(ErrorKind::corrupt, {"x.gguf", key}, [&] { file.integer(key); });
  }
  expect_error(ErrorKind::corrupt, {"a.number"}, [&] { file.string("a.number"); });
  expect_error(ErrorKind::corrupt, {"a.texts"}, [&] { file.integers("a.texts"); });
}

TEST(GgufFile, EveryBeginningOfAFileIsRefused) {
  const std::string bytes = small_file().bytes();
  ASSERT_EQ(parsed(bytes).tensors.size(), 2u);
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THROW(parsed(bytes.substr(0, length)), Error) << length;
  }
}

TEST(GgufFile, NoByteOfAHeaderDoesHarm) {
  const std::string bytes = small_file().bytes();
  int refused = 0;
  for (size_t at = 0; at < bytes.size() - 100; ++at) {
    for (const char value : {'\x00', '\x01', '\x7f', '\xff'}) {
      std::string changed = bytes;
      changed[at] = value;
      try {
        for (const GgufTensor& tensor : parsed(changed).tensors) {
          const char* end = static_cast<const char*>(tensor.data) + tensor.bytes;
          EXPECT_LE(end, changed.data() + changed.size());
        }
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 200);
}

TEST(GgufFile, WhatIsNotAHeaderIsRefusedByName) {
  const auto refused = [](ErrorKind kind, const std::vector<std::string>& words, const auto& change) {
    GgufBuilder builder = small_file();
    change(builder);
    std::vector<std::string> all = words;
    all.emplace_back("model.gguf");
    expect_error(kind, all, [&] { parsed(builder.bytes()); });
  };
  using B = GgufBuilder;
  refused(ErrorKind::corrupt, {"GGUF"}, [](B& b) { b.magic = "GGML"; });
  refused(ErrorKind::unsupported, {"version", "1"}, [](B& b) { b.version = 1; });
  refused(ErrorKind::unsupported, {"big-endian"}, [](B& b) { b.version = 3u << 24; });
  refused(ErrorKind::corrupt, {"claims", "tensors"}, [](B& b) { b.extra_tensors = 1ull << 60; });
  refused(ErrorKind::corrupt, {"claims", "keys"}, [](B& b) { b.extra_keys = 1ull << 60; });
  refused(ErrorKind::corrupt, {"a.number", "twice"}, [](B& b) { b.u32("a.number", 1); });
  refused(ErrorKind::corrupt, {"w", "twice"}, [](B& b) { b.tensor("w", kGgmlF32, {1}, "0000"); });
  refused(ErrorKind::unsupported, {"array of arrays"},
          [](B& b) { b.raw("deep", 9, std::string("\x09\0\0\0\1\0\0\0\0\0\0\0", 12)); });
  refused(ErrorKind::corrupt, {"long", "do not fit"},
          [](B& b) { b.raw("long", 9, std::string("\x04\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f", 12)); });
  refused(ErrorKind::unsupported, {"type 99"}, [](B& b) { b.raw("odd", 99, ""); });
  refused(ErrorKind::corrupt, {"alignment"}, [](B& b) { b.u32("general.alignment", 24); });
  refused(ErrorKind::corrupt, {"alignment"}, [](B& b) { b.u32("general.alignment", 0); });
  refused(ErrorKind::unsupported, {"q", "Q2_K"}, [](B& b) { b.tensor("q", 10, {1, 256}, ""); });
  refused(ErrorKind::unsupported, {"q", "type 77"}, [](B& b) { b.tensor("q", 77, {1}, ""); });
  refused(ErrorKind::corrupt, {"q", "rows of 48"}, [](B& b) { b.tensor("q", 8, {1, 48}, ""); });
  refused(ErrorKind::corrupt, {"q", "5 dimensions"},
          [](B& b) { b.tensor("q", kGgmlF32, {1, 1, 1, 1, 1}, ""); });
  refused(ErrorKind::corrupt, {"q", "size 0"}, [](B& b) { b.tensor("q", kGgmlF32, {0}, ""); });
  refused(ErrorKind::corrupt, {"q", "size"},
          [](B& b) { b.tensor("q", kGgmlF16, {1ll << 39, 1ll << 39}, ""); });
  refused(ErrorKind::corrupt, {"q", "end of the file"}, [](B& b) { b.tensor("q", kGgmlF32, {1000}, "x"); });
  refused(ErrorKind::corrupt, {"q", "begins at byte"}, [](B& b) { b.tensor_at("q", kGgmlF32, {1}, 4); });
  refused(ErrorKind::corrupt, {"q", "begins at byte"},
          [](B& b) { b.tensor_at("q", kGgmlF32, {1}, 1ull << 63); });
  refused(ErrorKind::corrupt, {"w", "q", "overlap"}, [](B& b) { b.tensor_at("q", kGgmlF32, {4}, 32); });
}

}  // namespace
}  // namespace fovea
