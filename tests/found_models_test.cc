// Goal: the command line finds models where Hugging Face's tools keep them, says what it does not use of a
// folder, and follows the settings of its files. Method: run the built program on copies of a golden
// checkpoint.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace fovea {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kModel = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden" / "one_image";

struct Outcome {
  int exit_code = -1;
  std::string out, err;
};

bool holds(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class FoundModels : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "fovea-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    model_ = folder_ / "model";
    fs::copy(kModel, model_, fs::copy_options::recursive);
  }
  void TearDown() override { fs::remove_all(folder_); }

  // In the temporary folder, with `environment` ("A=b C=d") and nothing of this process's that names models.
  Outcome run(const std::string& arguments, const std::string& environment = "") const {
    const std::string out = (folder_ / "out").string(), err = (folder_ / "err").string();
    const int status =
        std::system(fmt::format("cd {} && env -u FOVEA_MODEL -u HF_HOME -u HF_HUB_CACHE -u "
                                "HUGGINGFACE_HUB_CACHE -u XDG_CACHE_HOME "
                                "{} {} {} >{} 2>{} </dev/null",
                                folder_.string(), environment, FOVEA_PROGRAM, arguments, out, err)
                        .c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read(out), read(err)};
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

  fs::path folder_, model_;
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
