// fovea run --attention-map: where an answer looked, as numbers and as a picture.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "command_line_testing.h"

namespace fovea {
namespace {

using nlohmann::json;

class AttentionMapFile : public CommandLineTest {
 protected:
  Outcome map(const std::string& file, const std::string& more = "") const {
    return run(ask(fmt::format("--image {} 'what is it' --attention-map {}/{} {}", kPicture, folder_.string(),
                               file, more)));
  }
  json weights(const std::string& more = "") const {
    const Outcome outcome = map("map.json", more);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return json::parse(read(folder_ / "map.json"));
  }
  // Big-endian, as PNG's header has them.
  int64_t header(const std::string& png, size_t at) const {
    int64_t value = 0;
    for (size_t i = 0; i < 4; ++i) value = value * 256 + static_cast<uint8_t>(png.at(at + i));
    return value;
  }
};

double sum_of(const json& row) {
  double sum = 0;
  for (const json& weight : row) sum += weight.get<double>();
  return sum;
}

TEST_F(AttentionMapFile, HoldsAWeightForEachLayerHeadAndTokenOfThePicture) {
  const json file = weights();
  const json& grid = file["pictures"][0]["grid"];
  const size_t tokens = grid[0].get<size_t>() * grid[1].get<size_t>() * grid[2].get<size_t>();
  EXPECT_GT(tokens, 1u);
  EXPECT_EQ(file["tokens"].size(), 4u);  // as many as ask() wants
  ASSERT_EQ(file["weights"].size(), file["layers"].get<size_t>());
  double all = 0;
  for (const json& layer : file["weights"]) {
    ASSERT_EQ(layer.size(), file["heads"].get<size_t>());
    for (const json& head : layer) {
      ASSERT_EQ(head.size(), tokens);
      const double share = sum_of(head);
      EXPECT_GT(share, 0);
      EXPECT_LE(share, 1 + 1e-3);  // printed with four digits
      all += share;
    }
  }
  // The mean is that of all layers and heads; each number was rounded to four digits, 5e-4 of itself.
  const double rows = file["layers"].get<double>() * file["heads"].get<double>();
  EXPECT_NEAR(sum_of(file["mean"]), all / rows, 1e-3 * all / rows);
}

TEST_F(AttentionMapFile, AMapOfSeveralTokensIsTheMeanOfTheirs) {
  const json both = weights("--attention-map-tokens 1:3"), one = weights("--attention-map-tokens 1"),
             two = weights("--attention-map-tokens 2:3");
  EXPECT_EQ(both["tokens"].size(), 2u);
  for (size_t i = 0; i < both["weights"][0][0].size(); ++i) {
    const double expected =
        (one["weights"][0][0][i].get<double>() + two["weights"][0][0][i].get<double>()) / 2;
    EXPECT_NEAR(both["weights"][0][0][i].get<double>(), expected, 1e-3 * expected);
  }
}

// Queries and keys are the same bits however the prompt is cut and the tokens are computed.
TEST_F(AttentionMapFile, DependsNeitherOnChunksNorOnThreadsNorOnTheCache) {
  const json usual = weights();
  for (const char* flags : {"--prefill-chunk 3", "--threads 3", "--no-kv-cache"})
    EXPECT_EQ(weights(flags), usual) << flags;
  EXPECT_NE(weights("--attention-map-tokens 0"), usual);
}

TEST_F(AttentionMapFile, ChangesNoToken) {
  const Outcome with = map("map.json"), without = run(ask(fmt::format("--image {} 'what is it'", kPicture)));
  EXPECT_EQ(with.out, without.out);
}

// The demo model reads the number in the picture that the question names: the head that looks at one picture
// most has to look at that one.
TEST_F(AttentionMapFile, TheTrainedModelLooksAtThePictureThatTheQuestionNames) {
  ASSERT_EQ(run(fmt::format("suite make --kind multi-image --images 3 --count 40 --seed 5 --out {}/suite",
                            folder_.string()))
                .exit_code,
            0);
  std::ifstream suite(folder_ / "suite/suite.jsonl");
  int64_t asked = 0;
  for (std::string line; std::getline(suite, line);) {
    const size_t named = line.find(" in picture ");
    if (named == std::string::npos || line.find("What number") == std::string::npos) continue;
    const size_t picture = static_cast<size_t>(line[named + 12] - '1');
    write(folder_ / "suite/chat.json", json::parse(line)["messages"].dump());
    const Outcome outcome =
        run(fmt::format(
                "run -m {} --greedy --messages chat.json --attention-map map.json --attention-map-tokens 0",
                FOVEA_SOURCE_DIR "/models/fovea-demo"),
            fmt::format("cd {}/suite &&", folder_.string()));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json map = json::parse(read(folder_ / "suite/map.json"));
    double strongest = 0;
    size_t seen = 99;
    for (const json& layer : map["weights"]) {
      for (const json& head : layer) {
        size_t at = 0;
        for (size_t i = 0; i < map["pictures"].size(); ++i) {
          const json& grid = map["pictures"][i]["grid"];
          double share = 0;
          for (size_t left = grid[0].get<size_t>() * grid[1].get<size_t>() * grid[2].get<size_t>(); left > 0;
               --left) {
            share += head[at++].get<double>();
          }
          if (share > strongest) strongest = share, seen = i;
        }
      }
    }
    EXPECT_EQ(seen, picture) << line;
    EXPECT_GT(strongest, 0.5) << line;
    ++asked;
  }
  EXPECT_GE(asked, 3);
}

TEST_F(AttentionMapFile, DrawsThePicturesAsTheModelSawThem) {
  const Outcome outcome = map("map.png", "--json --attention-map-layer 1 --attention-map-head 0");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json seen = json::parse(outcome.out)["images"][0]["resized"];
  const std::string png = read(folder_ / "map.png");
  EXPECT_EQ(header(png, 16), seen["width"].get<int64_t>());
  EXPECT_EQ(header(png, 20), seen["height"].get<int64_t>());
  ASSERT_EQ(map("other.png", "--attention-map-layer 0 --attention-map-head 0").exit_code, 0);
  EXPECT_NE(read(folder_ / "other.png"), png);
}

TEST_F(AttentionMapFile, WhatCannotBeShownIsRefusedBeforeAnythingIsComputed) {
  const std::pair<std::string, const char*> cases[] = {
      {fmt::format("--image {} hello --attention-map x.jpg", kPicture), "is a .png or a .json file"},
      {fmt::format("--image {} hello --attention-map x.png --attention-map-tokens 1:1", kPicture),
       "names no tokens"},
      {fmt::format("--image {} hello --attention-map x.png --attention-map-tokens 4", kPicture),
       "has no token 4"},
      {fmt::format("--image {} hello --attention-map x.png --attention-map-layer 99", kPicture),
       "has no layer 99"},
      {fmt::format("--image {0} hello --attention-map {0}", kPicture), "--attention-map"},
      {"hello --attention-map x.png", "there is none"}};
  for (const auto& [arguments, words] : cases) {
    const Outcome outcome = run(ask(arguments));
    EXPECT_EQ(outcome.exit_code, 1) << arguments;
    EXPECT_EQ(outcome.out, "") << arguments;
    EXPECT_NE(outcome.err.find(words), std::string::npos) << outcome.err;
  }
}

}  // namespace
}  // namespace fovea
