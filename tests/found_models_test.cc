// Goal: the command line finds models where Hugging Face's tools keep them, says what it does not use of a
// folder, and follows the settings of its files. Method: run the built program on copies of a golden
// checkpoint.
#include <nlohmann/json.hpp>

#include "command_line_testing.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool holds(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

class FoundModels : public CommandLineTest {
 protected:
  void SetUp() override {
    CommandLineTest::SetUp();
    model_ = folder_ / "model";
    fs::copy(kTiny, model_, fs::copy_options::recursive);
  }

  // In the temporary folder, with `environment` ("A=b C=d") and nothing of this process's that names models.
  Outcome run(const std::string& arguments, const std::string& environment = "") const {
    return CommandLineTest::run(arguments,
                                fmt::format("cd {} && env -u FOVEA_MODEL -u HF_HOME -u HF_HUB_CACHE -u "
                                            "HUGGINGFACE_HUB_CACHE -u XDG_CACHE_HOME {}",
                                            folder_.string(), environment));
  }
  // The JSON answer to a question without pictures, long enough to repeat itself.
  json answer(const std::string& flags = "") const {
    const Outcome outcome = run(
        fmt::format("run -m model --json --max-new-tokens 24 --ignore-eos {} \"one two one two\"", flags));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return json::parse(outcome.out, nullptr, false);
  }
  void set(const char* file, const std::string& pointer, const json& value) const {
    json object = fs::exists(model_ / file) ? json::parse(read(model_ / file)) : json::object();
    object[json::json_pointer(pointer)] = value;
    std::ofstream(model_ / file) << object.dump(1);
  }
  // The model in a cache of the hub below `cache`, as Org/Tiny.
  void put_into(const fs::path& cache) const {
    const fs::path repository = cache / "models--Org--Tiny";
    const std::string commit(40, 'c');
    fs::create_directories(repository / "refs");
    fs::create_directories(repository / "snapshots");
    std::ofstream(repository / "refs" / "main") << commit;
    fs::create_directory_symlink(model_, repository / "snapshots" / commit);
  }

  fs::path model_;
};

TEST_F(FoundModels, TheModelMayComeFromTheEnvironment) {
  EXPECT_EQ(json::parse(run("inspect --json", "FOVEA_MODEL=model").out)["model"], "model");
  EXPECT_EQ(json::parse(run("inspect --json -m ./model", "FOVEA_MODEL=nowhere").out)["model"], "./model");
  EXPECT_EQ(run("plan --context 600", "FOVEA_MODEL=model").exit_code, 0);
  const Outcome none = run("inspect", "FOVEA_MODEL=");
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_TRUE(holds(none.err, "neither -m nor --config")) << none.err;
}

TEST_F(FoundModels, TheHubsCacheIsLookedForWhereItsToolsKeepIt) {
  put_into(folder_ / "a");
  put_into(folder_ / "b" / "hub");
  put_into(folder_ / "c" / "huggingface" / "hub");
  put_into(folder_ / "d" / ".cache" / "huggingface" / "hub");
  const std::string at = folder_.string();
  for (const std::string& environment :
       {"HF_HUB_CACHE=" + at + "/a HF_HOME=/nowhere", "HF_HOME=" + at + "/b XDG_CACHE_HOME=/nowhere",
        "XDG_CACHE_HOME=" + at + "/c HOME=/nowhere", "HOME=" + at + "/d",
        "HOME=" + at + " 'HF_HUB_CACHE=~/a'", "HF_HUB_CACHE= HF_HOME=" + at + "/b"}) {
    const Outcome outcome = run("inspect --json -m Org/Tiny", environment);
    EXPECT_EQ(outcome.exit_code, 0) << environment << "\n" << outcome.err;
    EXPECT_TRUE(holds(outcome.out, "models--Org--Tiny/snapshots/cccc")) << outcome.out.substr(0, 300);
  }
  const Outcome answered = run("run -m Org/Tiny@main --max-new-tokens 2 hello", "HF_HUB_CACHE=" + at + "/a");
  EXPECT_EQ(answered.exit_code, 0) << answered.err;
}

TEST_F(FoundModels, EveryCommandSaysHowToDownloadWhatIsNotThere) {
  for (const char* command :
       {"run -m Org/None hi", "inspect -m Org/None", "plan -m Org/None --context 600",
        "advise -m Org/None --context 600", "quantize -m Org/None --out q",
        "logits -m Org/None --out l.safetensors hi", "bench -m Org/None --only prefill"}) {
    const Outcome outcome = run(command, "HF_HOME=/nowhere");
    EXPECT_EQ(outcome.exit_code, 1) << command;
    EXPECT_TRUE(holds(outcome.err, "/nowhere/hub") && holds(outcome.err, "hf download Org/None\n"))
        << outcome.err;
  }
}

TEST_F(FoundModels, WhatGoesUnusedIsWarnedOf) {
  EXPECT_TRUE(answer()["warnings"].empty());
  std::ofstream(model_ / "adapter_config.json") << R"({"peft_type": "LORA"})";
  set("config.json", "/trainers_note", 3);
  const Outcome asked = run("run -m model --max-new-tokens 1 hi");
  EXPECT_TRUE(holds(asked.err, "fovea: warning: a LoRA adapter")) << asked.err;
  EXPECT_TRUE(holds(asked.err, "trainers_note (3)")) << asked.err;
  EXPECT_EQ(answer()["warnings"].size(), 2u);
  const Outcome inspected = run("inspect -m model --json");
  EXPECT_EQ(json::parse(inspected.out)["warnings"].size(), 2u);
  EXPECT_TRUE(holds(inspected.err, "fovea: warning: ")) << inspected.err;
}

TEST_F(FoundModels, TheJsonOfEveryCommandHoldsTheWarnings) {
  set("config.json", "/trainers_note", 3);
  set("generation_config.json", "/min_p", 0.1);
  write(folder_ / "s.jsonl",
        R"({"id": "q", "answer": "7", "messages": [{"role": "user", "content": "?"},
            {"role": "assistant", "tool_calls": [{"id": "c"}]}, {"role": "user", "content": "?"}]})");
  std::string suite = read(folder_ / "s.jsonl");
  std::erase(suite, '\n');
  write(folder_ / "s.jsonl", suite);
  for (const char* command : {"eval", "audit --compare sdpa"}) {
    const Outcome outcome =
        run(fmt::format("{} -m model --suite s.jsonl --max-new-tokens 1 --json o.json", command));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json warnings = json::parse(read(folder_ / "o.json"))["warnings"];
    ASSERT_EQ(warnings.size(), 3u) << warnings;
    EXPECT_TRUE(holds(warnings[0], "trainers_note")) << warnings;
    EXPECT_TRUE(holds(warnings[1], "min_p is 0.1, which is not used")) << warnings;
    EXPECT_TRUE(holds(warnings[2], "q: messages[1].tool_calls")) << warnings;
  }
  for (const char* command :
       {"plan -m model --context 600", "plan -m model --context 600 --device-map auto --ranks 2",
        "advise -m model --context 600"}) {
    const Outcome outcome = run(std::string(command) + " --json", "XDG_CACHE_HOME=" + folder_.string());
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json warnings = json::parse(outcome.out)["warnings"];
    ASSERT_EQ(warnings.size(), 1u) << command << outcome.out;
    EXPECT_TRUE(holds(warnings[0], "trainers_note")) << warnings;
  }
}

// Limits of what is drawn from change no greedy answer, whoever asks for it.
TEST_F(FoundModels, OtherSamplingIsRefusedOnlyWhereItIsSampled) {
  const json plain = answer("--greedy");
  set("generation_config.json", "/do_sample", true);
  set("generation_config.json", "/min_p", 0.1);
  set("generation_config.json", "/typical_p", 0.9);
  for (const char* sampled : {"", "--temperature 0.7"}) {
    const Outcome outcome = run(fmt::format("run -m model --max-new-tokens 1 {} hi", sampled));
    EXPECT_EQ(outcome.exit_code, 1) << sampled;
    EXPECT_TRUE(holds(outcome.err, "model/generation_config.json: typical_p is 0.9")) << outcome.err;
    EXPECT_TRUE(holds(outcome.err, "min_p is 0.1, which fovea does not support")) << outcome.err;
    EXPECT_TRUE(holds(outcome.err, "remedy: give --greedy")) << outcome.err;
  }
  for (const char* greedy : {"--greedy", "--temperature 0"}) {
    const json answered = answer(greedy);
    EXPECT_EQ(answered["token_ids"], plain["token_ids"]) << greedy;
    ASSERT_EQ(answered["warnings"].size(), 2u) << answered["warnings"];
    EXPECT_TRUE(holds(answered["warnings"][1], "min_p is 0.1, which is not used: answers are greedy"));
  }
  set("generation_config.json", "/do_sample", false);
  EXPECT_EQ(answer()["warnings"].size(), 2u);
  EXPECT_EQ(run("run -m model --max-new-tokens 1 --temperature 0.7 hi").exit_code, 1);
}

// Beams are no sampling: a file that asks for them is refused unless the user says that greedy will do.
TEST_F(FoundModels, BeamsAreRefusedUnlessGreedyIsAskedFor) {
  const json plain = answer("--greedy");
  set("generation_config.json", "/do_sample", false);
  set("generation_config.json", "/num_beams", 4);
  const Outcome refused = run("run -m model --max-new-tokens 1 hi");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_TRUE(holds(refused.err, "generation_config.json: num_beams is 4, which fovea does not support"))
      << refused.err;
  const json answered = answer("--greedy");
  EXPECT_EQ(answered["token_ids"], plain["token_ids"]);
  ASSERT_EQ(answered["warnings"].size(), 1u);
  EXPECT_TRUE(holds(answered["warnings"][0], "num_beams is 4, which is not used")) << answered["warnings"];
  EXPECT_EQ(run("plan -m model --context 600").exit_code, 0);
  EXPECT_EQ(run("inspect -m model").exit_code, 0);
}

TEST_F(FoundModels, StopStringsOfTheFileAreThoseOfTheFlag) {
  const std::string text = answer()["text"];
  ASSERT_GT(text.size(), 1u);
  size_t begin = text.size() / 2;
  while ((text[begin] & 0xC0) == 0x80) --begin;
  size_t end = begin + 1;
  while (end < text.size() && (text[end] & 0xC0) == 0x80) ++end;
  const std::string stop = text.substr(begin, end - begin);
  set("generation_config.json", "/stop_strings", stop);
  const json stopped = answer();
  EXPECT_EQ(stopped["finish_reason"], "stop");
  EXPECT_EQ(stopped["text"], text.substr(0, text.find(stop)));
  set("generation_config.json", "/stop_strings", json::array({"never written", stop}));
  EXPECT_EQ(answer()["token_ids"], stopped["token_ids"]);
  EXPECT_EQ(answer("--stop 'never written'")["text"], text);
}

TEST_F(FoundModels, RepeatsOfTheFileAreThoseOfTheFlag) {
  const json plain = answer("--greedy"), flag = answer("--greedy --no-repeat-ngram-size 1");
  EXPECT_NE(flag["token_ids"], plain["token_ids"]);
  set("generation_config.json", "/no_repeat_ngram_size", 1);
  EXPECT_EQ(answer("--greedy")["token_ids"], flag["token_ids"]);
  EXPECT_EQ(answer("--greedy --no-repeat-ngram-size 0")["token_ids"], plain["token_ids"]);
}

TEST_F(FoundModels, SamplingAtTemperatureZeroIsToldWithFileAndField) {
  set("generation_config.json", "/do_sample", true);
  set("generation_config.json", "/temperature", 0.0);
  const Outcome outcome = run("run -m model --max-new-tokens 1 hi");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_TRUE(holds(outcome.err, "model/generation_config.json: temperature is 0")) << outcome.err;
  EXPECT_FALSE(answer("--greedy").is_discarded());
  EXPECT_FALSE(answer("--temperature 0.5").is_discarded());
}

}  // namespace
}  // namespace fovea
