// Goal: a state file gives back what was saved, and is refused when it is damaged or belongs to another
// audit.
#include "audit/result_store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

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
  loaded.load(folder_ / "state");
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
    other.load(folder_ / "state");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
    EXPECT_NE(error.message().find("model"), std::string::npos) << error.message();
  }
  for (const char* text :
       {"", "{", "[]", "{}", R"({"format": "fovea-audit-state", "fingerprint": {"model": "n"}})",
        R"({"format": "other", "fingerprint": {}, "results": {}, "facts": {}, "problems": {}})"}) {
    std::ofstream(folder_ / "bad") << text;
    EXPECT_THROW(other.load(folder_ / "bad"), Error) << text;
  }
  EXPECT_THROW(other.load(folder_ / "missing"), Error);
}

}  // namespace
}  // namespace fovea
