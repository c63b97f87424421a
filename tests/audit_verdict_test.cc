// Goal: an audit finds out what is known beforehand. Method: a tiny checkpoint that was given the real
// model's large scores (biased_checkpoint_testing.h); the reference's own answers are the expected ones, so
// that the reference is right everywhere and the others as far as they agree with it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

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
  // One of the two roundings alone is enough to do the damage, so that removing one cures nothing.
  for (const auto& entry : audit["attribution"]) {
    if (entry["node"] == "text.scores" || entry["node"] == "text.scaled") {
      EXPECT_FALSE(entry["guilty"]);
      EXPECT_LT(entry["cure"].get<double>(), 0.5);
      EXPECT_GT(entry["harm"].get<double>(), 0.5);
    }
  }
}

TEST_F(AuditTest, FindsAPolicyCheaperThanTheKnownCure) {
  const Engine engine = engine_with_scores(30, 50);
  AuditOptions with = options();
  with.compare = parse_configurations("eager-bf16,eager-qkv-fp32");
  with.search = true;
  with.target = 0.85;
  const ordered_json audit = run_audit(engine, answered_by_reference(engine), with, {}).json;
  const ordered_json& best = audit["recommended"];
  ASSERT_TRUE(best.is_object()) << audit["search"].dump(1);
  EXPECT_TRUE(best["reaches_target"]);
  EXPECT_GE(best["accuracy"].get<double>(), 0.85);
  EXPECT_EQ(best["against"]["name"], "eager-qkv-fp32");
  EXPECT_LT(best["score_bytes"].get<int64_t>(), best["against"]["score_bytes"].get<int64_t>());
  // Also among the policies that keep the scores there is a cheaper one.
  ASSERT_TRUE(audit["search"]["cheapest_eager"].is_string()) << audit["search"].dump(1);
  EXPECT_NE(audit["search"]["cheapest_eager"], "eager-qkv-fp32");
  int64_t last = 0;
  for (const auto& candidate : audit["search"]["candidates"]) {
    if (candidate["peak_bytes"] == 0) continue;  // cannot be tried
    EXPECT_GE(candidate["score_bytes"].get<int64_t>(), last);
    last = candidate["score_bytes"].get<int64_t>();
  }
}

TEST_F(AuditTest, FindsTheSmallestStorageThatReachesTheTarget) {
  const Engine engine = Engine::open(fs::path(FOVEA_SOURCE_DIR) / "models" / "fovea-demo", {}, {});
  AuditOptions with = options();
  with.compare = parse_configurations("exact");
  with.search_storage = true;
  with.target = 0.5;
  const ordered_json audit = run_audit(engine, answered_by_reference(engine), with, {}).json;
  const ordered_json& found = audit["storage_search"];
  ASSERT_TRUE(found["smallest"].is_string()) << found.dump(1);
  int64_t last = 0, stored = 0;
  for (const auto& candidate : found["candidates"]) {
    const int64_t bytes = candidate["weight_bytes"].get<int64_t>() + candidate["kv_bytes"].get<int64_t>();
    EXPECT_GE(bytes, last);
    last = bytes;
    EXPECT_TRUE(candidate["name"] != found["smallest"] || candidate["reaches_target"]);
    if (candidate["name"] != "exact") continue;
    for (const TensorInfo& tensor : engine.checkpoint().tensors()) stored += tensor.bytes();
    EXPECT_EQ(candidate["weight_bytes"], stored);  // bf16 in the file and in memory
  }
  EXPECT_GT(stored, 0);
  EXPECT_NE(audit["conclusion"].back().get<std::string>().find("smallest storage"), std::string::npos);
}

TEST_F(AuditTest, AModelWithSmallScoresIsSafeEverywhere) {
  const Engine engine = engine_with_scores(0.5f, 0.5f);
  AuditOptions with = options();
  with.attribute = true;
  with.evaluation.drift = true;
  const ordered_json audit = run_audit(engine, answered_by_reference(engine), with, {}).json;
  EXPECT_EQ(named(audit, "eager-bf16")["rows_at_risk"], 0);
  EXPECT_TRUE(named(audit, "sdpa")["rows_at_risk"].is_null());
  EXPECT_EQ(audit["attribution_of"]["guilty"], "");
}

// Drift: nothing against itself, and what attention adds grows with what is rounded.
TEST_F(AuditTest, DriftIsMeasuredLayerByLayer) {
  const Engine engine = engine_with_scores(4, 16);
  AuditOptions with = options();
  with.evaluation.drift = true;
  const ordered_json audit = run_audit(engine, suite(), with, {}).json;
  for (const auto& layer : named(audit, "fp32")["layers"]) {
    EXPECT_EQ(layer["attention_error"]["all"], 0.0);
    EXPECT_EQ(layer["hidden_error"]["all"], 0.0);
    EXPECT_LT(layer["kernel_error"].get<double>(), 1e-4);
  }
  const auto& eager = named(audit, "eager-bf16")["layers"];
  const auto& flash = named(audit, "flash-bf16")["layers"];
  ASSERT_EQ(eager.size(), 7u);  // four vision blocks, three decoder layers
  for (size_t i = 4; i < 7; ++i) {
    EXPECT_EQ(eager[i]["tower"], "text");
    EXPECT_GT(eager[i]["rows_at_risk"], 0);
    // S = 64 in every layer: 0.600 A S 2^-8 = 0.15 A for eager, P and output for flash.
    EXPECT_NEAR(eager[i]["largest_score"].get<double>(), 64, 16);
    EXPECT_GT(eager[i]["kernel_error"].get<double>(), 5 * flash[i]["kernel_error"].get<double>());
    const double ratio = eager[i]["kernel_error"].get<double>() / eager[i]["predicted_error"].get<double>();
    EXPECT_GT(ratio, 0.5);
    EXPECT_LT(ratio, 1.5);
    EXPECT_GT(eager[i]["hidden_error"]["answer"].get<double>(), 0);
  }
}

// Raw scores of 8 * 200 * 100 leave fp16's range.
TEST_F(AuditTest, AConfigurationThatBreaksIsAResult) {
  const Engine engine = engine_with_scores(200, 100);
  AuditOptions with = options();
  with.compare = parse_configurations("eager-fp16");
  const ordered_json audit = run_audit(engine, answered_by_reference(engine), with, {}).json;
  const ordered_json& broken = named(audit, "eager-fp16");
  EXPECT_EQ(broken["errors"], kQuestions);
  EXPECT_EQ(broken["count"], kQuestions);
  EXPECT_EQ(broken["correct"], 0);
  EXPECT_GT(broken["overflows"], 0);
  EXPECT_NE(broken["problems"][0]["message"].get<std::string>().find("decoder layer 0"), std::string::npos);
  EXPECT_EQ(named(audit, "fp32")["errors"], 0);
  EXPECT_NE(audit["conclusion"].dump().find("Not safe here: eager-fp16"), std::string::npos);
}

void forget_measurements(ordered_json& json) {
  if (json.is_object()) {
    for (const char* name : {"seconds", "seconds_ratio", "resident"}) json.erase(name);
  }
  if (json.is_structured()) {
    for (auto& value : json) forget_measurements(value);
  }
}

TEST_F(AuditTest, AStoppedAuditContinuesToTheSameResult) {
  const Engine engine = engine_with_scores(30, 50);
  const Suite questions = answered_by_reference(engine);
  AuditOptions with = options();
  with.attribute = with.search = with.evaluation.drift = true;
  AuditOutcome whole = run_audit(engine, questions, with, {});
  ASSERT_TRUE(whole.complete);
  forget_measurements(whole.json);

  with.state_file = folder_ / "state";
  for (const char* stage : {"compare", "attribute", "search"}) {
    std::atomic<bool> cancel{false};
    AuditFollower follower;
    follower.cancel = &cancel;
    follower.progress = [&](std::string_view name, int64_t done, int64_t total) {
      if (name == stage && done * 2 >= total) cancel = true;
    };
    const AuditOutcome stopped = run_audit(engine, questions, with, follower);
    EXPECT_FALSE(stopped.complete) << stage;
    EXPECT_FALSE(stopped.json["complete"]) << stage;
    EXPECT_TRUE(fs::exists(with.state_file)) << stage;
  }
  with.resume = true;
  int64_t asked = 0;
  AuditFollower follower;
  follower.progress = [&](std::string_view, int64_t, int64_t) { ++asked; };
  AuditOutcome resumed = run_audit(engine, questions, with, follower);
  ASSERT_TRUE(resumed.complete);
  forget_measurements(resumed.json);
  EXPECT_EQ(resumed.json.dump(1), whole.json.dump(1));
  EXPECT_FALSE(fs::exists(with.state_file));
}

TEST_F(AuditTest, AStateOfAnotherAuditIsRefusedWhenAskedFor) {
  const Engine engine = engine_with_scores(1, 1);
  AuditOptions with = options();
  with.compare = parse_configurations("sdpa");
  with.limit = 2;
  with.state_file = folder_ / "state";
  std::atomic<bool> cancel{true};
  AuditFollower stop;
  stop.cancel = &cancel;
  EXPECT_FALSE(run_audit(engine, suite(), with, stop).complete);
  with.evaluation.max_new_tokens = 2;
  with.resume = true;
  EXPECT_THROW(run_audit(engine, suite(), with, {}), Error);
  with.resume = false;  // found by chance: begins anew, and says so
  std::string notes;
  AuditFollower listener;
  listener.note = [&](std::string_view note) { notes += note; };
  EXPECT_TRUE(run_audit(engine, suite(), with, listener).complete);
  EXPECT_NE(notes.find("--max-new-tokens was 4, is 2"), std::string::npos) << notes;
}

// The names of the fields at every place of a document; list elements share one place.
void fields_of(const ordered_json& json, const std::string& place, std::set<std::string>& fields) {
  if (json.is_array()) {
    for (const auto& value : json) fields_of(value, place + "[]", fields);
  }
  if (!json.is_object() || place.ends_with(".tags")) return;
  for (const auto& [name, value] : json.items()) {
    fields.insert(place + "." + name);
    fields_of(value, place + "." + name, fields);
  }
}

// The contract: docs/guide/audit.md describes the sample, and the sample has the fields of a real audit.
TEST_F(AuditTest, HasTheFieldsOfTheSample) {
  const Engine engine = engine_with_scores(200, 100);
  AuditOptions with = options();
  with.compare = parse_configurations("eager-bf16,eager-fp16,sdpa,flash-bf16,eager-qkv-fp32");
  with.attribute_configuration = "eager-bf16";
  with.attribute = with.search = with.search_storage = with.evaluation.drift = true;
  with.target = 0.5;
  Suite questions = answered_by_reference(engine);
  questions.problems.push_back({"f", 9, "", "broken", "repair"});
  std::set<std::string> ours, samples;
  fields_of(run_audit(engine, questions, with, {}).json, "", ours);
  for (const char* field : {".machine.version", ".machine.cpu", ".date", ".command"}) {
    ours.insert(field);  // the command line knows them
  }
  std::ifstream file(fs::path(FOVEA_SOURCE_DIR) / "tests" / "data" / "audit" / "sample.json");
  fields_of(ordered_json::parse(file), "", samples);
  for (const std::string& field : ours)
    EXPECT_TRUE(samples.contains(field)) << "not in the sample: " << field;
  for (const std::string& field : samples)
    EXPECT_TRUE(ours.contains(field)) << "only in the sample: " << field;
}

}  // namespace
}  // namespace fovea
