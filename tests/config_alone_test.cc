// Goal: planning needs no weights: what --config says is what the same command says of a folder with them,
// and nothing of it stays behind. Method: the program on configs, and on checkpoints that synth made of them.
#include <nlohmann/json.hpp>

#include "command_line_testing.h"

namespace fovea {
namespace {

class ConfigAlone : public CommandLineTest {
 protected:
  void SetUp() override {
    CommandLineTest::SetUp();
    temporary_ = folder_ / "temporary";
    std::filesystem::create_directory(temporary_);
  }
  // With nothing left among the temporary files.
  Outcome run_clean(const std::string& arguments) const {
    const Outcome outcome =
        run(arguments, fmt::format("TMPDIR={} XDG_CACHE_HOME={}", temporary_.string(), folder_.string()));
    EXPECT_TRUE(std::filesystem::is_empty(temporary_)) << arguments;
    return outcome;
  }
  nlohmann::json json_of(const std::string& arguments) const {
    const Outcome outcome = run_clean(arguments + " --json");
    EXPECT_EQ(outcome.exit_code, 0) << arguments << "\n" << outcome.err;
    return nlohmann::json::parse(outcome.out, nullptr, false);
  }

  std::filesystem::path temporary_;
  const std::string tiny_ = FOVEA_SOURCE_DIR "/models/demo-tiny/config.json";
};

TEST_F(ConfigAlone, SaysWhatTheFolderSays) {
  const std::string model = (folder_ / "model").string();
  ASSERT_EQ(run(fmt::format("synth --config {} --out {}", tiny_, model)).exit_code, 0);
  const std::string flags = " --images 2@640x480 -n 50 --preset balanced";
  auto hollow = json_of("plan --config " + tiny_ + flags), whole = json_of("plan -m " + model + flags);
  const double process = whole["parts"]["process"]["bytes"];
  EXPECT_NEAR(hollow["parts"]["process"]["bytes"].get<double>(), process, 4e6);
  for (const char* part : {"weights", "converted_weights", "kv_cache", "patches", "embeddings", "logits"})
    EXPECT_EQ(hollow["parts"][part], whole["parts"][part]) << part;
  EXPECT_EQ(hollow["image_tokens"], whole["image_tokens"]);
  auto described = json_of("inspect --config " + tiny_), stored = json_of("inspect -m " + model);
  EXPECT_EQ(described["model"], tiny_);
  for (const char* field : {"config", "parameters", "bytes", "dtypes", "memory", "kv_cache_bytes_per_token"})
    EXPECT_EQ(described[field], stored[field]) << field;
  EXPECT_EQ(described["tensors"].size(), stored["tensors"].size());
}

TEST_F(ConfigAlone, TakesAFolderForTheConfigInIt) {
  const std::string folder = FOVEA_SOURCE_DIR "/models/demo-tiny", flags = " --context 600";
  EXPECT_EQ(json_of("plan --config " + folder + flags)["parts"]["weights"],
            json_of("plan --config " + tiny_ + flags)["parts"]["weights"]);
  EXPECT_EQ(json_of("inspect --config " + folder)["model"], folder);
  const Outcome empty = run_clean("plan --context 600 --config " + folder_.string());
  EXPECT_EQ(empty.exit_code, 1);
  EXPECT_NE(empty.err.find(folder_.string() + "/config.json' is neither"), std::string::npos) << empty.err;
}

TEST_F(ConfigAlone, KnowsThePublishedSizes) {
  const std::pair<const char*, double> sizes[] = {
      {"3b", 3.75e9}, {"7b", 8.29e9}, {"32b", 33.5e9}, {"72b", 73.4e9}};
  for (const auto& [size, parameters] : sizes) {
    EXPECT_NEAR(json_of(fmt::format("inspect --config {}", size))["parameters"].get<double>(), parameters,
                0.01 * parameters)
        << size;
  }
  const auto plan = json_of("plan --config 72b --images 10@1280x960 --ram 900G");
  EXPECT_TRUE(plan["fits"].get<bool>());
  EXPECT_EQ(plan["image_tokens"], 10 * 46 * 34);
  const Outcome small = run_clean("plan --config 72b --images 1@1280x960 --ram 1G");
  EXPECT_EQ(small.exit_code, 1);
  EXPECT_NE(small.out.find("it does not fit"), std::string::npos) << small.out << small.err;
}

TEST_F(ConfigAlone, AdviceNamesTheFolderThatIsToCome) {
  const auto advice = json_of("advise --config 3b --images 1@1280x960 --ram 16G");
  EXPECT_EQ(advice["command"].get<std::string>().find("fovea run -m DIR"), 0u) << advice;
  EXPECT_NE(advice["machine"]["notes"].dump().find("1 GB/s are assumed"), std::string::npos);
  EXPECT_GT(advice["tokens_per_s"].get<double>(), 0);
  const std::string plan = advice["plan_command"];
  EXPECT_EQ(plan.find("fovea plan --config 3b "), 0u) << plan;
  EXPECT_EQ(advice.dump().find(temporary_.string()), std::string::npos) << advice;
  const Outcome planned = run_clean(plan.substr(6));
  EXPECT_EQ(planned.exit_code, 0) << plan << planned.err;
}

TEST_F(ConfigAlone, RefusesWhatIsNone) {
  const std::string quantized = (folder_ / "quantized.json").string();
  auto config = nlohmann::json::parse(read(tiny_));
  config["quantization_config"] = {
      {"quant_method", "awq"}, {"bits", 4}, {"group_size", 32}, {"zero_point", true}, {"version", "gemm"}};
  write(quantized, config.dump());
  const std::pair<std::string, const char*> cases[] = {
      {"plan --config 4b", "'4b' is neither a known shape nor a file"},
      {"plan --config " + quantized, "quantized.json"},
      {"inspect --config /dev/null", "/dev/null"},
      {"plan", "neither -m nor --config"},
      {"inspect", "neither -m nor --config"},
      {"advise", "neither -m nor --config"}};
  for (const auto& [command, words] : cases) {
    const Outcome outcome = run_clean(command);
    EXPECT_EQ(outcome.exit_code, 1) << command << outcome.err;
    EXPECT_NE(outcome.err.find(words), std::string::npos) << command << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find("remedy: "), std::string::npos) << outcome.err;
  }
}

}  // namespace
}  // namespace fovea
