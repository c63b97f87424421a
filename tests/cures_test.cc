// Goal: how far each cure of eager's score rounding carries on a whole model. Method: the golden checkpoint
// of one image with a key bias planted in the slowest rotary pairs of its first and last layer, as Qwen2.5
// has it, and a query bias along it; distances of the logits from fp32 on the same weights. Eager is the
// positive control, flash-bf16 the yardstick.
#include <gtest/gtest.h>

#include "biased_model_testing.h"

namespace fovea {
namespace {

using testing::Model;

// What a cure of stored scores can reach is flash, which reads the same rounded K: within a quarter of it,
// where eager is far behind. Measured (878 tokens, B = 10, 100): flash .058, .46; eager .140, .84; the cures
// .055 to .057, .455 to .465.
TEST(Cures, OfStoredScoresBringEagerToFlash) {
  for (const double bias : {10.0, 100.0}) {
    const Model model(bias, 13.4);
    const double flash = model.distance("preset=flash-bf16");
    EXPECT_GE(model.distance("preset=eager-bf16"), 1.5 * flash) << "positive control, B=" << bias;
    for (const char* cure : {"eager-bf16-maxshift", "eager-bf16-kcentred", "eager-bf16-kcentred256"}) {
      EXPECT_LE(model.distance(std::string("preset=") + cure), 1.25 * flash) << cure << " B=" << bias;
    }
  }
}

// The bias split goes beyond: what is left is what bf16 costs this model without any bias (.025 to .029),
// whatever the bias, with fp32 scores and with bf16 ones. In one of the two layers alone it misses that.
TEST(Cures, BiasSplitLeavesWhatBf16CostsWithoutABias) {
  const double floor = Model(0, 13.4).distance("preset=flash-bf16");
  for (const double bias : {10.0, 100.0, 400.0}) {
    const Model model(bias, 13.4);
    for (const char* cure : {"flash-bf16-bias-split", "eager-bf16-bias-split"}) {
      EXPECT_LE(model.distance(std::string("preset=") + cure), 1.3 * floor) << cure << " B=" << bias;
    }
    EXPECT_LE(model.distance("preset=sdpa,dtype=bf16,text.bias_split=on"), 1.3 * floor) << bias;
    if (bias < 100) continue;
    EXPECT_GE(model.distance("preset=flash-bf16"), 10 * floor) << "positive control, B=" << bias;
    EXPECT_GT(model.distance("preset=flash-bf16,text.layers.0.bias_split=on"), 1.3 * floor);
  }
}

// Pairs 8 to 11 turn once in 200 to 430 tokens, so that no key is like the mean. Measured: eager .67, flash
// and row maximum .57, mean key .65, mean of 256 keys .61, both bias splits .10.
TEST(Cures, FastPairsDefeatCentringOnly) {
  const Model model(100, 13.4, 8);
  const auto distance = [&](const char* preset) { return model.distance(std::string("preset=") + preset); };
  const double flash = distance("flash-bf16"), eager = distance("eager-bf16");
  EXPECT_LE(distance("eager-bf16-maxshift"), 1.02 * flash);
  EXPECT_GE(distance("eager-bf16-kcentred"), (flash + eager) / 2);
  EXPECT_LE(distance("eager-bf16-bias-split"), flash / 4);
  EXPECT_LE(distance("flash-bf16-bias-split"), flash / 4);
}

// Rotations of earlier calls come from the cache: nothing may depend on how the prompt was cut.
TEST(Cures, AreTheSameForEveryChunkAndForDecode) {
  const Model model(100, 13.4);
  for (const char* cure : {"eager-bf16-maxshift", "eager-bf16-kcentred", "eager-bf16-kcentred256",
                           "eager-bf16-bias-split", "flash-bf16-bias-split"}) {
    const Engine engine = model.with(std::string("preset=") + cure);
    const Evaluation whole = model.evaluate(engine, 0), parts = model.evaluate(engine, 100);
    EXPECT_TRUE(
        std::equal(whole.logits.span().begin(), whole.logits.span().end(), parts.logits.span().begin()))
        << cure;
    GenerationOptions cached = engine.default_generation();
    cached.sampling.greedy = cached.ignore_eos = true;
    cached.max_new_tokens = 4;
    GenerationOptions again = cached;
    again.use_kv_cache = false;
    EXPECT_EQ(engine.generate(model.prompt(), cached, {}).token_ids,
              engine.generate(model.prompt(), again, {}).token_ids)
        << cure;
  }
}

// In fp32 the split changes nothing but the order of a sum: a bias wrongly rotated or left out would show.
TEST(Cures, BiasSplitIsTheSameModel) {
  const Model model(100, 13.4);
  EXPECT_LE(model.distance("preset=fp32,text.bias_split=on"), 1e-3);
  EXPECT_LE(model.distance("preset=reference,text.bias_split=on"), 1e-3);
}

}  // namespace
}  // namespace fovea
