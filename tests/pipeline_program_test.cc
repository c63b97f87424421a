// Goal: `fovea run --device-map` prints under mpirun what one process prints, and says what is wrong with a
// map; a failure ends all ranks. Method: the program on the demo model.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "overflowing_model_testing.h"
#include "ranks_program_testing.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::string kAsk = "run -m " + std::string(FOVEA_SOURCE_DIR) +
                         "/models/fovea-demo --json --greedy --ignore-eos --max-new-tokens 6 "
                         "--prefill-chunk 8 hello ";

class PipelineProgram : public RanksProgram {
 protected:
  void expect_refusal(int ranks, const std::string& arguments, const std::string& said) const {
    EXPECT_EQ(run(ranks, kAsk + arguments), 1) << arguments;
    EXPECT_NE(read("err").find(said), std::string::npos) << arguments << ":\n" << read("err");
  }
};

TEST_F(PipelineProgram, RanksAnswerTogether) {
  ASSERT_EQ(run(0, kAsk), 0);
  const json expected = json::parse(read("out"));
  const std::string file = (folder_ / "map.txt").string();
  std::ofstream(file) << "vision=1\ntext.0=1\ntext.1-2=0  # the rest\nhead=1\n";
  for (const std::string& map :
       {std::string("auto"), std::string("vision=0,text.0-1=0,text.2=1,head=1"), file}) {
    ASSERT_EQ(run(2, kAsk + "--device-map " + map), 0) << read("err");
    const json split = json::parse(read("out"));
    EXPECT_EQ(split["token_ids"], expected["token_ids"]) << map;
    EXPECT_EQ(split["text"], expected["text"]);
    ASSERT_EQ(split["ranks"].size(), 2u);
  }
  EXPECT_EQ(json::parse(read("out"))["ranks"][1]["parts"], "vision, text.0, head");
  ASSERT_EQ(run(0, kAsk + "--device-map vision=0,text=0,head=0"), 0) << read("err");
  EXPECT_EQ(json::parse(read("out"))["token_ids"], expected["token_ids"]);
}

// mpirun hands its input to rank 0 alone.
TEST_F(PipelineProgram, RanksThatComputeTogetherAllGetTheQuestionOfStandardInput) {
  const std::string ask = "run -m " + std::string(FOVEA_SOURCE_DIR) +
                          "/models/fovea-demo --json --greedy --ignore-eos -n 4 --dtype fp32 ";
  const std::string question = (folder_ / "question").string(), messages = (folder_ / "m.json").string();
  std::ofstream(question) << "What is this?\n";
  std::ofstream(messages) << R"([{"role": "user", "content": "What is this?"}])";
  ASSERT_EQ(run(0, ask + "'What is this?'"), 0) << read("err");
  const json expected = json::parse(read("out"));
  for (const std::string& input : {"< " + question, "-p - < " + question, "--messages - < " + messages}) {
    ASSERT_EQ(run(2, ask + "--tensor-parallel 2 " + input), 0) << input << read("err");
    EXPECT_EQ(json::parse(read("out"))["prompt_tokens"], expected["prompt_tokens"]) << input;
    EXPECT_EQ(json::parse(read("out"))["text"], expected["text"]) << input;
  }
  EXPECT_EQ(run(2, ask + "--tensor-parallel 2 < /dev/null"), 1);
  EXPECT_NE(read("err").find("there is no prompt"), std::string::npos) << read("err");
}

TEST_F(PipelineProgram, SeveralQuestionsOfASuiteAreUnderWayAtOnce) {
  const std::string suite = (folder_ / "suite").string(), file = (folder_ / "result.json").string();
  ASSERT_EQ(run(0, "suite make --kind mixed --count 9 --tokens 30-60 --images 2 --seed 8 --out " + suite), 0);
  const std::string eval = "eval -m " + std::string(FOVEA_SOURCE_DIR) + "/models/fovea-demo --suite " +
                           suite + " --attn sdpa --max-new-tokens 6 --json " + file;
  ASSERT_EQ(run(0, eval), 0) << read("err");
  const json expected = without_times(json::parse(read("result.json")));
  for (const auto& [ranks, map] : {std::pair(2, "auto"), std::pair(3, "vision=2,text.0-1=1,text.2=0,head=2"),
                                   std::pair(2, "vision=1,text=1,head=0")}) {
    ASSERT_EQ(run(ranks, eval + " --device-map " + map), 0) << read("err");
    const json split = json::parse(read("result.json"));
    EXPECT_EQ(without_times(split), expected) << map;
    EXPECT_EQ(split["ranks"].size(), static_cast<size_t>(ranks));
  }
  EXPECT_EQ(run(2, eval + " --device-map auto --ram 1G"), 1);
  EXPECT_NE(read("err").find("--device-map and --ram exclude"), std::string::npos) << read("err");
}

// A question that overflows ends as it does in one process, whichever rank finds it; those beside it are
// answered, and nobody waits for ever.
TEST_F(PipelineProgram, ANumericErrorEndsItsOwnQuestion) {
  const fs::path model = folder_ / "model", suite = folder_ / "s.jsonl";
  write_changed_demo(model, [](Bf16Tensors& tensors) { overflow_embedding(tensors, "~", 256); });
  const std::string words = "The red box is in the garden near the green house. ";
  std::ofstream questions(suite);
  for (const char* text : {"What is it? ", "What ~ is it? ", "Which? ", "And ~ what? "}) {
    questions << json({{"id", text},
                       {"answer", "x"},
                       {"messages", {{{"role", "user"}, {"content", text + words}}}}})
              << "\n";
  }
  questions.close();
  const std::string file = (folder_ / "result.json").string(),
                    eval = "eval -m " + model.string() + " --suite " + suite.string() +
                           " --dtype fp16 --max-new-tokens 4 --prefill-chunk 8 --json " + file;
  ASSERT_EQ(run(0, eval), 0) << read("err");
  const json expected = without_times(json::parse(read("result.json")));
  EXPECT_NE(expected.dump().find("the embeddings"), std::string::npos);
  for (const auto& [ranks, map] :
       {std::pair(2, "vision=0,text.0-1=0,text.2=1,head=1"), std::pair(2, "vision=1,text=1,head=0"),
        std::pair(2, "vision=1,text.0=1,text.1-2=0,head=1"),
        std::pair(3, "vision=0,text.0=2,text.1=0,text.2=1,head=2")}) {
    ASSERT_EQ(run(ranks, eval + " --device-map " + map), 0) << map << read("err");
    EXPECT_EQ(without_times(json::parse(read("result.json"))), expected) << map;
  }
}

TEST_F(PipelineProgram, ThePlanOfEachRankIsWhatItComesToHold) {
  const std::string model = std::string(FOVEA_SOURCE_DIR) + "/models/fovea-demo",
                    image = std::string(FOVEA_SOURCE_DIR) + "/tests/golden/two_images/inputs/image0.png",
                    map = " --device-map vision=1,text.0-1=0,text.2=1,head=1";
  ASSERT_EQ(run(2, kAsk + "--image " + image + map), 0) << read("err");
  const json ran = json::parse(read("out"));
  const json& size = ran["images"][0]["original"];
  ASSERT_EQ(run(0, fmt::format("plan -m {} --json --context {} --max-new-tokens 6 --prefill-chunk 8 --images "
                               "1@{}x{} --ranks 2{}",
                               model, ran["prompt_tokens"].get<int64_t>() + 6, size["width"].get<int>(),
                               size["height"].get<int>(), map)),
            0)
      << read("err");
  const json plan = json::parse(read("out"));
  ASSERT_EQ(plan["ranks"].size(), 2u);
  for (size_t rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(plan["ranks"][rank]["device_map"], ran["ranks"][rank]["parts"]);
    const double planned = plan["ranks"][rank]["peak_bytes"], held = ran["ranks"][rank]["peak_memory_bytes"];
    EXPECT_GE(planned, 0.97 * held) << rank;
    EXPECT_LE(planned, 1.10 * held) << rank;
  }
  EXPECT_EQ(run(0, "plan -m " + model + " --device-map auto"), 1);
  EXPECT_NE(read("err").find("--ranks"), std::string::npos) << read("err");
}

TEST_F(PipelineProgram, WhatDoesNotGoTogetherIsRefused) {
  expect_refusal(0, "--device-map vision=0,text=0,head=1", "mpirun -n 2");
  expect_refusal(2, "--device-map vision=0,text=0,head=2", "mpirun -n 3");
  expect_refusal(2, "--device-map vision=0,text.0-1=0,head=1", "no rank has text.2");
  expect_refusal(2, "--device-map vision=0,text=0,text.1=1,head=1", "text.1 is given twice");
  expect_refusal(2, "--device-map /nowhere.map", "/nowhere.map");
  expect_refusal(2, "--device-map auto --zero-stage 3", "--zero-stage 3 exclude");
  expect_refusal(2, "--device-map auto --ram 1G", "--ram exclude");
  expect_refusal(2, "--device-map auto --guard warn", "--guard exclude");
  expect_refusal(2, "--device-map auto --prompt-lookup-num-tokens 4", "--prompt-lookup-num-tokens exclude");
  expect_refusal(2, "", "--device-map");
  expect_refusal(2, "--device-map auto --image /nowhere.png", "/nowhere.png");  // while rank 1 waits
}

}  // namespace
}  // namespace fovea
