// Goal: an audit finds out what is known beforehand. Method: a tiny checkpoint that was given the real
// model's large scores (biased_checkpoint_testing.h); the reference's own answers are the expected ones, so
// that the reference is right everywhere and the others as far as they agree with it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "audit/audit.h"
#include "base/error.h"
#include "biased_checkpoint_testing.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

const fs::path kGolden = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden" / "one_image";
constexpr int64_t kQuestions = 8;

class AuditTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "fovea-audit-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  // Scores of about `score` after scaling (8 * q * k / 8).
  Engine engine_with_scores(float q_bias, float k_bias) const {
    const fs::path model = folder_ / fmt::format("model-{}-{}", q_bias, k_bias);
    testing::write_biased_checkpoint(kGolden, model, q_bias, k_bias, 20);
    return Engine::open(model, {}, {});
  }

  AuditOptions options() const {
    AuditOptions options;
    options.compare = parse_configurations("eager-bf16,sdpa,flash-bf16,eager-qkv-fp32");
    options.reference = parse_configuration("fp32");
    options.evaluation.max_new_tokens = 4;
    options.attribution.items = kQuestions;
    return options;
  }

  Suite suite() const {
    const std::string image = (kGolden / "inputs" / "image0.png").string();
    Suite suite;
    suite.source = "test";
    for (int64_t i = 0; i < kQuestions; ++i) {
      SuiteItem item;
      item.id = fmt::format("q{}", i);
      std::string text = fmt::format("Question {}:", i);
      for (int64_t word = 0; word <= i; ++word) text += fmt::format(" what is number {}?", word * 7);
      item.messages = messages_from_prompt(
          text, i % 2 == 0 ? std::vector<std::string>{image} : std::vector<std::string>{}, {}, {});
      item.answers = {"?"};
      item.match = MatchRule::exact;
      item.tags = {{"kind", i % 2 == 0 ? "image" : "text"}};
      suite.items.push_back(std::move(item));
    }
    suite.lines = kQuestions;
    return suite;
  }
  // The reference's answers become the expected ones.
  Suite answered_by_reference(const Engine& engine) const {
    Suite result = suite();
    AuditOptions only = options();
    only.compare.clear();
    const auto outcome = run_audit(engine, result, only, {});
    for (size_t i = 0; i < result.items.size(); ++i) {
      result.items[i].answers = {outcome.json["configurations"][0]["items"][i]["answer"].get<std::string>()};
    }
    return result;
  }

  static const ordered_json& named(const ordered_json& audit, const std::string& name) {
    for (const auto& c : audit["configurations"]) {
      if (c["name"] == name) return c;
    }
    throw std::runtime_error("no configuration " + name);
  }

  fs::path folder_;
};

TEST_F(AuditTest, NamesTheScoresAsTheGuiltyNode) {
  const Engine engine = engine_with_scores(30, 50);
  AuditOptions with = options();
  with.attribute = true;
  const ordered_json audit = run_audit(engine, answered_by_reference(engine), with, {}).json;
  EXPECT_EQ(named(audit, "fp32")["accuracy"], 1.0);
  EXPECT_LT(named(audit, "eager-bf16")["accuracy"].get<double>(), 0.7);
  EXPECT_EQ(audit["attribution_of"]["configuration"], "eager-bf16");
  EXPECT_EQ(audit["attribution_of"]["guilty"], "text.scores+text.scaled") << audit["attribution"].dump(1);
  ASSERT_FALSE(audit["attribution"].empty());
  EXPECT_EQ(audit["attribution"][0]["node"], "text.scores+text.scaled");
  EXPECT_TRUE(audit["attribution"][0]["guilty"]);
  std::cout << audit["attribution"].dump(1) << audit["conclusion"].dump(1);
}

}  // namespace
}  // namespace fovea
