// Every input in corpus/ is read or refused with an Error: seeds, inputs that reach far, and each that once
// ended a fuzzer. Needs no clang; under the sanitizers it is what a fuzzer does, without new inputs.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "base/error.h"
#include "scratch.h"
#include "target.h"

namespace fovea::fuzz {
namespace {

namespace fs = std::filesystem;
const fs::path kCorpus = fs::path(FOVEA_SOURCE_DIR) / "tests/fuzz/corpus";

std::string bytes_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

class Corpus : public ::testing::TestWithParam<Target> {};

TEST_P(Corpus, IsReadOrRefused) {
  int read = 0;
  for (const auto& entry : fs::directory_iterator(kCorpus / GetParam().name)) {
    SCOPED_TRACE(entry.path().string());
    const std::string bytes = bytes_of(entry.path());
    EXPECT_NO_THROW(read += run(GetParam(), bytes));
  }
  EXPECT_GT(read, 0) << "no seed is valid: none leads to what comes behind the reader's checks";
}

std::vector<Target> all() {
  std::vector<Target> list = targets();
  std::sort(list.begin(), list.end(),
            [](const Target& a, const Target& b) { return std::string_view(a.name) < b.name; });
  return list;
}

INSTANTIATE_TEST_SUITE_P(Fuzz, Corpus, ::testing::ValuesIn(all()),
                         [](const auto& instance) { return std::string(instance.param.name); });

// An input kept for a target that no longer exists would never run.
TEST(FuzzCorpus, EveryFolderHasATarget) {
  for (const auto& entry : fs::directory_iterator(kCorpus)) {
    const std::string name = entry.path().filename().string();
    EXPECT_TRUE(std::any_of(targets().begin(), targets().end(), [&](const Target& target) {
      return target.name == name;
    })) << name;
  }
}

TEST(FuzzTarget, WhatIsNoErrorIsNotSwallowed) {
  const Target throws{"throws", [](std::string_view) { throw std::length_error("too long"); }};
  EXPECT_THROW(run(throws, "bytes"), std::length_error);
  const Target refuses{"refuses", [](std::string_view) { throw Error(ErrorKind::corrupt, "no", "none"); }};
  EXPECT_FALSE(run(refuses, "bytes"));
  EXPECT_DEATH(require(false, "the property"), "does not hold: the property");
}

TEST(FuzzPieces, AreSeparatedByALine) {
  const std::vector<std::string_view> three{"a", "", "b%%c"};
  EXPECT_EQ(pieces("a\n%%\n\n%%\nb%%c"), three);
  EXPECT_EQ(pieces(""), std::vector<std::string_view>{""});
}

}  // namespace
}  // namespace fovea::fuzz
