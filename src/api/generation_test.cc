// Goal: what a request states takes the place of the checkpoint's defaults, and nothing else changes.
#include "api/generation.h"

#include <gtest/gtest.h>

#include "api/chat_request.h"

namespace fovea {
namespace {

// Qwen2.5-VL's own.
GenerationOptions defaults() {
  GenerationOptions options;
  options.sampling = {false, 1e-6, 1, 0.001, 1.05, 3, 0};
  options.max_new_tokens = 100;
  options.stop = {"END"};
  options.eos_token_ids = {5};
  return options;
}

TEST(GenerationOf, AnEmptyRequestChangesNothing) {
  const GenerationOptions options = generation_options({}, defaults());
  EXPECT_FALSE(options.sampling.greedy);
  EXPECT_EQ(options.sampling.temperature, 1e-6);
  EXPECT_EQ(options.sampling.top_k, 1);
  EXPECT_EQ(options.sampling.top_p, 0.001);
  EXPECT_EQ(options.sampling.repetition_penalty, 1.05);
  EXPECT_EQ(options.sampling.seed, 3u);
  EXPECT_EQ(options.max_new_tokens, 100);
  EXPECT_EQ(options.stop, std::vector<std::string>{"END"});
  EXPECT_EQ(options.eos_token_ids, std::vector<int64_t>{5});
  EXPECT_FALSE(options.ignore_eos);
}

TEST(GenerationOf, TakesWhatIsStated) {
  ChatRequest request;
  request.temperature = 0.7;
  request.top_p = 0.9;
  request.top_k = 0;
  request.repetition_penalty = 1;
  request.seed = 10;
  request.max_tokens = 4;
  request.stop = {"a", "b"};
  request.ignore_eos = true;
  const GenerationOptions options = generation_options(request, defaults(), 2);
  EXPECT_FALSE(options.sampling.greedy);
  EXPECT_EQ(options.sampling.temperature, 0.7);
  EXPECT_EQ(options.sampling.top_p, 0.9);
  EXPECT_EQ(options.sampling.top_k, 0);
  EXPECT_EQ(options.sampling.repetition_penalty, 1);
  EXPECT_EQ(options.sampling.seed, 12u);
  EXPECT_EQ(options.max_new_tokens, 4);
  EXPECT_EQ(options.stop, request.stop);
  EXPECT_TRUE(options.ignore_eos);
}

TEST(GenerationOf, TemperatureZeroIsGreedyWhateverStandsBeside) {
  ChatRequest request;
  request.temperature = 0;
  request.top_p = 0.5;
  const GenerationOptions options = generation_options(request, defaults());
  EXPECT_TRUE(options.sampling.greedy);
  EXPECT_GT(options.sampling.temperature, 0);  // a sampler refuses 0
  GenerationOptions greedy = defaults();
  greedy.sampling.greedy = true;
  request.temperature = std::nullopt;
  EXPECT_FALSE(generation_options(request, greedy).sampling.greedy) << "top_p asks for sampling";
}

}  // namespace
}  // namespace fovea
