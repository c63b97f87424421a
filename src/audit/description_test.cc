#include "audit/description.h"

#include <gtest/gtest.h>

#include "audit/configuration.h"

namespace fovea {
namespace {

std::string said(const std::string& text) {
  const Configuration configuration = parse_configuration(text);
  PolicyTarget target;
  target.text_layers = 3;
  target.vision_layers = 4;
  return describe(configuration.policy.resolve(target).precision, configuration.guard);
}

TEST(Description, SaysWhereAttentionRounds) {
  EXPECT_EQ(said("fp32"), "all in fp32; attention scores in fp32 (FlashAttention-2)");
  EXPECT_EQ(said("eager-bf16"),
            "bf16; attention scores rounded to bf16 before softmax, probabilities rounded to bf16");
  EXPECT_EQ(said("eager-fp16"),
            "fp16; attention scores rounded to fp16 before softmax, probabilities rounded to fp16");
  EXPECT_EQ(said("sdpa"), "bf16; attention in fp32 between its inputs and its output (sdpa)");
  EXPECT_EQ(said("flash-bf16"),
            "bf16; attention scores in fp32, probabilities rounded to bf16 (FlashAttention-2)");
  EXPECT_EQ(said("eager-qkv-fp32"), "bf16; attention scores kept in fp32");
  EXPECT_EQ(said("reference"), "all in fp32; attention in fp64");
}

TEST(Description, SaysWhatSettingsChange) {
  EXPECT_EQ(
      said("eager-bf16:text.scores=fp32;text.scaled=fp32"),
      "bf16; attention scores kept in fp32, probabilities rounded to bf16; vision tower: attention scores "
      "rounded to bf16 before softmax, probabilities rounded to bf16");
  EXPECT_EQ(said("eager-bf16:text.layers.0.scores=fp32"),
            "bf16; attention scores rounded to bf16 before softmax, probabilities rounded to bf16 (1 of 3 "
            "layers otherwise); vision tower: attention scores rounded to bf16 before softmax, probabilities "
            "rounded to bf16")
      << "the towers differ in one layer";
  EXPECT_EQ(
      said("eager-bf16:guard=escalate"),
      "bf16; attention scores rounded to bf16 before softmax, probabilities rounded to bf16; rows at risk "
      "computed again with scores in fp32");
  EXPECT_NE(said("eager-bf16-maxshift").find("less their row's maximum"), std::string::npos);
  EXPECT_NE(said("eager-bf16-kcentred").find("the mean key subtracted"), std::string::npos);
  EXPECT_NE(said("eager-fp16-old").find("infinite ones made 0"), std::string::npos);
}

TEST(Description, SaysWhatIsStoredInFewerBits) {
  EXPECT_NE(said("fast").find("weights in 4 bits; vision tower: "), std::string::npos) << said("fast");
  EXPECT_NE(said("balanced").find("weights in 8 bits"), std::string::npos);
  const std::string cache = said("exact:text.k_cache=int8;text.v_cache=int8;text.bias_split=on");
  EXPECT_NE(cache.find("keys and values kept in int8"), std::string::npos) << cache;
  EXPECT_NE(cache.find("the keys' bias added in fp32"), std::string::npos);
}

}  // namespace
}  // namespace fovea
