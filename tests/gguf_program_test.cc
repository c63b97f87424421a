// Goal: a GGUF goes wherever a folder goes, and takes the memory that the plan says. Method: the program
// itself, with tests/gguf and a middling model in Q4_K whose weights outweigh everything else.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "command_line_testing.h"
#include "gguf_models_testing.h"

namespace fovea {
namespace {

using nlohmann::json;

class GgufProgram : public CommandLineTest {
 protected:
  static std::string files(const std::string& folder = "mixed") {
    const auto dir = testing::gguf_goldens() / folder;
    return fmt::format("-m {}/model.gguf --mmproj {}/mmproj.gguf", dir.string(), dir.string());
  }
  json answer(const std::string& arguments) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << arguments << "\n" << outcome.err;
    return json::parse(outcome.out, nullptr, false);
  }
};

TEST_F(GgufProgram, EveryCommandTakesIt) {
  const std::string ask = fmt::format("--greedy --ignore-eos -n 4 --image {} \"What is it?\"", kPicture);
  const json from_files = answer(fmt::format("run {} --json {}", files(), ask));
  const json from_folder =
      answer(fmt::format("run -m {} --json {}", (testing::gguf_goldens() / "mixed").string(), ask));
  EXPECT_EQ(from_files["token_ids"].size(), 4u);
  EXPECT_EQ(from_files["token_ids"], from_folder["token_ids"]);
  EXPECT_FALSE(from_files["warnings"].empty());
  const json inspected = answer(fmt::format("inspect {} --json", files()));
  EXPECT_EQ(inspected["config"]["text"]["num_hidden_layers"], 2);
  for (const char* type : {"Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "Q5_1"})
    EXPECT_TRUE(inspected["dtypes"].contains(type)) << type;
  EXPECT_GT(answer(fmt::format("plan {} --context 600 --json", files()))["peak_bytes"], 0);
  EXPECT_EQ(run(fmt::format("logits {} --out {}/l.safetensors hello", files(), folder_.string())).exit_code,
            0);
  const Outcome quantized =
      run(fmt::format("quantize {} --out {}/q --weights int8", files(), folder_.string()));
  EXPECT_EQ(quantized.exit_code, 0) << quantized.err;
  EXPECT_EQ(run(fmt::format("run -m {}/q {}", folder_.string(), ask)).exit_code, 0);
}

TEST_F(GgufProgram, WhatIsMissingIsSaid) {
  const auto dir = testing::gguf_goldens() / "mixed";
  const Outcome alone = run(fmt::format("run -m {}/model.gguf hello", dir.string()));
  EXPECT_NE(alone.exit_code, 0);
  EXPECT_NE(alone.err.find("--mmproj"), std::string::npos) << alone.err;
  const Outcome beside_folder =
      run(fmt::format("run -m {} --mmproj {}/mmproj.gguf hello", kTiny, dir.string()));
  EXPECT_NE(beside_folder.exit_code, 0);
  EXPECT_NE(beside_folder.err.find("leave --mmproj out"), std::string::npos) << beside_folder.err;
}

TEST_F(GgufProgram, MemoryIsThatOfTheFileAndWhatIsPlanned) {
  const testing::MiddleModel made = testing::middle_model({"Q4_K", BlockFormat::q4_k, 12});
  write(folder_ / "model.gguf", made.model);
  write(folder_ / "mmproj.gguf", made.mmproj);
  const std::string both =
      fmt::format("-m {}/model.gguf --mmproj {}/mmproj.gguf", folder_.string(), folder_.string());
  const json plan = answer(fmt::format("plan {} --context 300 -n 8 --json", both));
  const auto file = static_cast<double>(made.model.size() + made.mmproj.size());
  EXPECT_LT(plan["parts"]["converted_weights"]["bytes"].get<double>(), 0.1 * file) << plan.dump(1);
  const json ran = answer(fmt::format("run {} --json --greedy --ignore-eos -n 8 \"One two three\"", both));
  const auto peak = ran["peak_memory_bytes"].get<double>();
  // Weights in bf16 would take 3.5 times the file.
  EXPECT_LE(peak, plan["peak_bytes"].get<double>() * 1.1) << plan.dump(1);
  EXPECT_GT(peak, file * 0.9);
}

}  // namespace
}  // namespace fovea
