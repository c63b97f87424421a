// Goal: a state file gives back what was saved, and is refused when it is damaged or belongs to another
// audit.
#include "audit/result_store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <tuple>

#include "base/error.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

class ResultStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "fovea-state-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }
  // Of a model of two blocks with four heads and three layers with six.
  static ResultShape shape() { return {2, 4, 3, 6, 1000, 8, {"q1", "q2"}}; }
  fs::path folder_;
};

TEST_F(ResultStoreTest, SavesAndLoads) {
  ResultStore store({{"model", "m"}, {"drift", false}});
  ItemResult result;
  result.answer = "7 \xff";
  result.correct = true;
  result.tokens = 3;
  result.first_divergence = 1;
  result.kl = {0, 1.0 / 3, 1e-300};
  result.agreed = 2;
  result.seconds = 0.1;
  ItemResult stopped;
  stopped.problem = "decoder layer 2: q: a NaN or infinite value appeared";
  store.put("preset=sdpa", "q1", result);
  store.put("preset=eager-fp16", "q1", stopped);
  store.put_facts("q1", {100, 2, 400});
  store.put_problem("q2", {"f", 3, "q2", "cannot", "check"});
  store.save(folder_ / "state");

  ResultStore loaded({{"model", "m"}, {"drift", false}});
  loaded.load(folder_ / "state", shape());
  const ItemResult* found = loaded.find("preset=sdpa", "q1");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->answer, "7 \uFFFD");  // JSON has no malformed text
  EXPECT_EQ(found->kl, result.kl);
  EXPECT_EQ(found->first_divergence, 1);
  EXPECT_EQ(loaded.find("preset=eager-fp16", "q1")->problem, stopped.problem);
  EXPECT_EQ(loaded.find("preset=sdpa", "q2"), nullptr);
  EXPECT_EQ(loaded.facts("q1")->largest_patches, 400);
  ASSERT_NE(loaded.problem("q2"), nullptr);
  EXPECT_EQ(loaded.problem("q2")->line, 3);
}

TEST_F(ResultStoreTest, RefusesAnotherAuditAndDamage) {
  const nlohmann::json m = {{"model", "m"}}, n = {{"model", "n"}};
  ResultStore(m).save(folder_ / "state");
  ResultStore other(n);
  try {
    other.load(folder_ / "state", shape());
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
    EXPECT_NE(error.message().find("model"), std::string::npos) << error.message();
  }
  for (const char* text :
       {"", "{", "[]", "{}", R"({"format": "fovea-audit-state", "fingerprint": {"model": "n"}})",
        R"({"format": "other", "fingerprint": {}, "results": {}, "facts": {}, "problems": {}})"}) {
    std::ofstream(folder_ / "bad") << text;
    EXPECT_THROW(other.load(folder_ / "bad", shape()), Error) << text;
  }
  EXPECT_THROW(other.load(folder_ / "missing", shape()), Error);
}

TEST_F(ResultStoreTest, WhatNestsWithoutEndIsRefused) {
  ResultStore store({{"model", "m"}, {"limit", 8}});
  std::ofstream(folder_ / "deep") << R"({"format": "fovea-audit-state", "version": 2, "fingerprint": )"
                                  << std::string(200'000, '[') << std::string(200'000, ']') << "}";
  EXPECT_THROW(store.load(folder_ / "deep", shape()), Error);
}

TEST_F(ResultStoreTest, AFingerprintIsComparedBothWays) {
  const nlohmann::json more = {{"model", "m"}, {"limit", 8}}, less = {{"model", "m"}};
  ResultStore(more).save(folder_ / "more");
  ResultStore(less).save(folder_ / "less");
  EXPECT_THROW(ResultStore(less).load(folder_ / "more", shape()), Error);
  EXPECT_THROW(ResultStore(more).load(folder_ / "less", shape()), Error);
}

// Each edit is of a kind of its own; the file is valid JSON with the right fields every time.
TEST_F(ResultStoreTest, RefusesWhatCannotBe) {
  const nlohmann::json m = {{"model", "m"}};
  ResultStore store(m);
  ItemResult result;
  result.tokens = 2;
  result.kl = {0, 0.5};
  result.agreed = 1;
  result.first_divergence = 1;
  for (const auto& [part, index, heads] :
       {std::tuple(ModelPart::vision, 1, 4), std::tuple(ModelPart::text, 2, 6)}) {
    LayerSums layer;
    layer.part = part;
    layer.layer = index;
    layer.heads.resize(static_cast<size_t>(heads));
    result.layers.push_back(layer);
  }
  store.put("preset=sdpa", "q1", result);
  store.put_facts("q1", {100, 2, 400});
  store.save(folder_ / "state");
  const nlohmann::json good = nlohmann::json::parse(std::ifstream(folder_ / "state"));
  ResultStore(m).load(folder_ / "state", shape());
  const nlohmann::json head = std::vector<int>(8, 0);
  const std::string of = "/results/preset=sdpa/q1/";
  const std::vector<std::pair<std::string, nlohmann::json>> edits = {
      {of + "layers/1/layer", 3},
      {of + "layers/0/layer", -1},
      {of + "layers/0/heads/4", head},
      {of + "layers/1/heads", nlohmann::json::array({head})},
      {of + "layers/1/heads/0/0", -5},
      {of + "layers/1/heads/0/1", 7},
      {of + "layers/1/heads/0/0", int64_t{1} << 62},
      {of + "layers/0/hidden/0/0", -1},
      {of + "layers", std::vector(6, good["results"]["preset=sdpa"]["q1"]["layers"][0])},
      {of + "tokens", 9},
      {of + "tokens", -1},
      {of + "agreed", 3},
      {of + "first_divergence", 2},
      {of + "kl/0", -1},
      {of + "kl", std::vector<int>(9, 0)},
      {of + "seconds", -1},
      {"/facts/q1/context", 1001},
      {"/facts/q1/largest_patches", -1},
      {"/facts/q3", good["facts"]["q1"]},
      {"/results/preset=sdpa/q3", good["results"]["preset=sdpa"]["q1"]},
      {"/version", 1},
      {"/version", 3},
      {"/version", "2"},
      {"/format", 7}};
  for (const auto& [place, value] : edits) {
    nlohmann::json edited = good;
    edited[nlohmann::json::json_pointer(place)] = value;
    std::ofstream(folder_ / "edited") << edited;
    ResultStore other(m);
    try {
      other.load(folder_ / "edited", shape());
      ADD_FAILURE() << "accepted " << place << " = " << value;
    } catch (const Error& error) {
      EXPECT_NE(error.message().find((folder_ / "edited").string()), std::string::npos) << error.message();
      EXPECT_FALSE(error.remedy().empty()) << place;
    }
    EXPECT_EQ(other.find("preset=sdpa", "q1"), nullptr) << place;
  }
}

}  // namespace
}  // namespace fovea
