// Goal: what the reader accepts is what the format allows, byte for byte; anything else is an Error that
// names it. Method: hand-made files, one defect each, and round trips through the writer.
#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "checkpoint/checkpoint_testing.h"

namespace fovea {
namespace {

using testing::expect_error;
using testing::safetensors_bytes;
using testing::TemporaryFolder;
using testing::write_bytes;

constexpr const char* kTwo =
    R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"I64","shape":[1],"data_offsets":[24,32]}})";

std::string padded(std::string header) {
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return header;
}

class Safetensors : public ::testing::Test {
 protected:
  void expect_refused(ErrorKind kind, const std::vector<std::string>& words, const std::string& bytes) {
    write_bytes(folder_ / "x.safetensors", bytes);
    SCOPED_TRACE(bytes.substr(0, 300));
    expect_error(kind, words, [&] { SafetensorsFile::open(folder_ / "x.safetensors"); });
  }
  // One tensor "t" with these fields over 8 bytes of data.
  void expect_refused_tensor(ErrorKind kind, const std::vector<std::string>& words,
                             const std::string& fields) {
    expect_refused(kind, words, safetensors_bytes(padded("{\"t\":" + fields + "}"), 8));
  }

  TemporaryFolder folder_;
};

TEST_F(Safetensors, ReadsTensorsInFileOrderWithTheirData) {
  std::string bytes = safetensors_bytes(padded(kTwo), 32);
  write_bytes(folder_ / "x.safetensors", bytes);
  const SafetensorsFile file = SafetensorsFile::open(folder_ / "x.safetensors");
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].name, "a");
  EXPECT_EQ(file.tensor("a").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.tensor("a").type, StoredType::f32);
  EXPECT_EQ(file.tensor("b").as<int64_t>()[0], 0x0101010101010101);
  EXPECT_EQ(file.find("c"), nullptr);
  expect_error(ErrorKind::not_found, {"x.safetensors", "c"}, [&] { file.tensor("c"); });
}

TEST_F(Safetensors, AcceptsScalarsEmptyTensorsAndMetadata) {
  write_bytes(folder_ / "x.safetensors",
              safetensors_bytes(
                  padded(R"({"__metadata__":{"format":"pt"},"e":{"dtype":"F32","shape":[0,7],)"
                         R"("data_offsets":[8,8]},"s":{"dtype":"F64","shape":[],"data_offsets":[0,8]}})"),
                  8));
  const SafetensorsFile file = SafetensorsFile::open(folder_ / "x.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.tensor("e").bytes, 0);
  EXPECT_EQ(file.tensor("s").shape.size(), 0u);
}

TEST_F(Safetensors, RefusesTruncatedAndOversizedHeaders) {
  const std::string whole = safetensors_bytes(padded(kTwo), 32);
  expect_refused(ErrorKind::corrupt, {"x.safetensors", "0 bytes"}, "");
  expect_refused(ErrorKind::corrupt, {"7 bytes"}, whole.substr(0, 7));
  expect_refused(ErrorKind::corrupt, {"does not fit"}, whole.substr(0, 60));
  expect_refused(ErrorKind::corrupt, {"'{'"}, std::string(8, '\0'));
  expect_refused(ErrorKind::corrupt, {"header of 100000001 bytes"},
                 std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10));
  expect_refused(ErrorKind::corrupt, {"header of 18446744073709551615 bytes"}, std::string(8, '\xff') + "{}");
  expect_refused(ErrorKind::corrupt, {"'{'"}, safetensors_bytes("[]      ", 0));
  expect_refused(ErrorKind::corrupt, {"safetensors"},
                 "version https://git-lfs.github.com/spec/v1\noid sha256:00\n");
}

TEST_F(Safetensors, RefusesTruncatedAndSurplusData) {
  expect_refused(ErrorKind::corrupt, {"tensor b", "32"}, safetensors_bytes(padded(kTwo), 31));
  expect_refused(ErrorKind::corrupt, {"tensor a"}, safetensors_bytes(padded(kTwo), 0));
  expect_refused(ErrorKind::corrupt, {"1 bytes that no tensor owns"}, safetensors_bytes(padded(kTwo), 33));
}

TEST_F(Safetensors, RefusesOverlapsAndHoles) {
  const auto pair = [](const char* second, size_t data) {
    return safetensors_bytes(
        padded(std::string(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":)") +
               R"({"dtype":"U8","shape":[8],"data_offsets":)" + second + "}}"),
        data);
  };
  expect_refused(ErrorKind::corrupt, {"overlap"}, pair("[0,8]", 8));
  expect_refused(ErrorKind::corrupt, {"tensor b", "overlap"}, pair("[4,12]", 12));
  expect_refused(ErrorKind::corrupt, {"tensor b", "hole"}, pair("[16,24]", 24));
  expect_refused(ErrorKind::corrupt, {"tensor t", "hole"},
                 safetensors_bytes(padded(R"({"t":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}})"), 16));
}

TEST_F(Safetensors, RefusesImpossibleShapesAndOffsets) {
  const auto tensor = [&](const char* shape, const char* offsets) {
    return fmt::format(R"({{"dtype":"F32","shape":{},"data_offsets":{}}})", shape, offsets);
  };
  expect_refused_tensor(ErrorKind::corrupt, {"negative number -2"}, tensor("[-2]", "[0,8]"));
  expect_refused_tensor(ErrorKind::corrupt, {"tensor t", "8 bytes for 3"}, tensor("[3]", "[0,8]"));
  expect_refused_tensor(ErrorKind::corrupt, {"tensor t"}, tensor("[2]", "[0,7]"));
  expect_refused_tensor(ErrorKind::corrupt, {"tensor t", "no range"}, tensor("[2]", "[8,0]"));
  expect_refused_tensor(ErrorKind::corrupt, {"tensor t", "no range"}, tensor("[2]", "[0]"));
  expect_refused_tensor(ErrorKind::corrupt, {"tensor t", "no range"}, tensor("[2]", "[0,8,8]"));
  expect_refused_tensor(ErrorKind::corrupt, {"tensor t", "impossible"},
                        tensor("[4294967296,4294967296]", "[0,8]"));
  expect_refused_tensor(ErrorKind::corrupt, {"tensor t", "impossible"},
                        tensor("[9223372036854775807,9223372036854775807]", "[0,8]"));
  expect_refused_tensor(ErrorKind::corrupt, {"2^63"}, tensor("[9223372036854775808]", "[0,8]"));
  expect_refused_tensor(ErrorKind::corrupt, {"64 bits"}, tensor("[2]", "[0,184467440737095516160]"));
  expect_refused_tensor(ErrorKind::corrupt, {"tensor t", "a hole"},
                        tensor("[2]", "[9223372036854775799,9223372036854775807]"));
  expect_refused_tensor(ErrorKind::corrupt, {"list longer"},
                        tensor("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2]", "[0,8]"));
}

TEST_F(Safetensors, RefusesNumbersThatAreNone) {
  for (const char* number : {"NaN", "Infinity", "-Infinity", "1e999", "nan", "0x10", "+1", "01", "2.0", "2e0",
                             "\"2\"", "null", "true", "[2]", "{}"}) {
    expect_refused_tensor(ErrorKind::corrupt, {"header of"},
                          fmt::format(R"({{"dtype":"F32","shape":[{}],"data_offsets":[0,8]}})", number));
  }
}

TEST_F(Safetensors, RefusesMissingDoubleAndUnknownFields) {
  expect_refused_tensor(ErrorKind::corrupt, {"no dtype"}, R"({"shape":[2],"data_offsets":[0,8]})");
  expect_refused_tensor(ErrorKind::corrupt, {"no shape"}, R"({"dtype":"F32","data_offsets":[0,8]})");
  expect_refused_tensor(ErrorKind::corrupt, {"no data_offsets"}, R"({"dtype":"F32","shape":[2]})");
  expect_refused_tensor(ErrorKind::corrupt, {"\"shape\" twice"},
                        R"({"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]})");
  expect_refused_tensor(ErrorKind::corrupt, {"\"stride\""}, R"({"dtype":"F32","shape":[2],"stride":[1]})");
  expect_refused_tensor(ErrorKind::corrupt, {"near \"t\""}, "7");
  expect_refused_tensor(ErrorKind::corrupt, {"\"t\" twice"},
                        R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]},"t":)"
                        R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})");
  expect_refused(ErrorKind::corrupt, {"__metadata__"},
                 safetensors_bytes(padded(R"({"__metadata__":{"a":1}})"), 0));
  expect_refused(ErrorKind::corrupt, {"\"a\" twice"},
                 safetensors_bytes(padded(R"({"__metadata__":{"a":"","a":""}})"), 0));
  expect_refused(ErrorKind::corrupt, {"JSON"}, safetensors_bytes(padded(std::string(kTwo) + "{}"), 32));
}

TEST_F(Safetensors, RefusesTypesItDoesNotKnow) {
  for (const char* type : {"BOOL", "F8_E4M3", "U64", "I16", "f32", ""}) {
    expect_refused_tensor(ErrorKind::unsupported, {"tensor t", type},
                          fmt::format(R"({{"dtype":"{}","shape":[8],"data_offsets":[0,8]}})", type));
  }
  expect_error(ErrorKind::unsupported, {"t", "I64"}, [] { weight_dtype(StoredType::i64, "t"); });
}

TEST_F(Safetensors, RefusesNonUtf8AndDeepNesting) {
  expect_refused(
      ErrorKind::corrupt, {"JSON"},
      safetensors_bytes(padded("{\"\xff\xfe\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"), 0));
  expect_refused(ErrorKind::corrupt, {"array"},
                 safetensors_bytes(padded("{\"t\":" + std::string(1 << 20, '[')), 0));
  std::string objects;
  for (int i = 0; i < 1 << 16; ++i) objects += "{\"t\":";
  expect_refused(ErrorKind::corrupt, {"header of"}, safetensors_bytes(padded(objects), 0));
}

TEST_F(Safetensors, RefusesDataThatIsNotAligned) {
  const std::string header = R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  std::string unaligned = padded(header) + " ";
  expect_refused(ErrorKind::unsupported, {"tensor t", "aligned"}, safetensors_bytes(unaligned, 8));
  const std::string mixed = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                            R"("t":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})";
  expect_refused(ErrorKind::unsupported, {"tensor t", "aligned"}, safetensors_bytes(padded(mixed), 5));
}

TEST_F(Safetensors, RefusesWhatIsNoFile) {
  expect_error(ErrorKind::not_found, {"absent"}, [&] { SafetensorsFile::open(folder_ / "absent"); });
  expect_error(ErrorKind::io, {"regular file"}, [&] { SafetensorsFile::open(folder_.path()); });
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  expect_error(ErrorKind::io, {"regular file"}, [&] { SafetensorsFile::open(folder_ / "pipe"); });
}

TEST_F(Safetensors, ReadAheadReportsEveryByteOnce) {
  write_bytes(folder_ / "x.safetensors", safetensors_bytes(padded(kTwo), 32));
  const SafetensorsFile file = SafetensorsFile::open(folder_ / "x.safetensors");
  std::vector<int64_t> reports;
  file.read_ahead([&](int64_t done) { reports.push_back(done); });
  EXPECT_EQ(reports, std::vector<int64_t>{file.bytes()});
}

}  // namespace
}  // namespace fovea
