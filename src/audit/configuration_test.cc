// Goal: configurations are what their names say, and refuse what they cannot be. Method: the policy's own
// text form and resolved structs.
#include "audit/configuration.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace fovea {
namespace {

Precision resolved(const PrecisionPolicy& policy) {
  PolicyTarget target;
  target.text_layers = target.vision_layers = 3;
  return policy.resolve(target).precision;
}

TEST(Configuration, APresetAndItsOverrides) {
  const Configuration plain = parse_configuration(" eager-bf16 ");
  EXPECT_EQ(plain.name, "eager-bf16");
  EXPECT_EQ(plain.policy, PrecisionPolicy::of_preset("eager-bf16"));
  const Configuration changed = parse_configuration("eager-bf16:text.scores=fp32;text.layers.1.scaled=fp32");
  const Precision precision = resolved(changed.policy);
  EXPECT_EQ(precision.text.layers[0].attention.scores, DType::f32);
  EXPECT_EQ(precision.text.layers[0].attention.scaled, DType::bf16);
  EXPECT_EQ(precision.text.layers[1].attention.scaled, DType::f32);
  EXPECT_EQ(precision.vision.layers[0].attention.scores, DType::bf16);
  EXPECT_EQ(parse_configuration(":dtype=fp16;text.attention=sdpa").policy,
            PrecisionPolicy::parse_text("dtype=fp16,text.attention=sdpa"));
}

TEST(Configuration, Lists) {
  const auto list = parse_configurations("fp32,eager-bf16:text.scores=fp32;text.scaled=fp32,sdpa");
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[1].name, "eager-bf16:text.scores=fp32;text.scaled=fp32");
  for (const char* bad : {"", "fp32,,sdpa", "fp32,fp32", "eager-bf17", "eager-bf16:text.scorse=fp32",
                          "eager-bf16:text.scores=fp31"}) {
    EXPECT_THROW(parse_configurations(bad), Error) << bad;
  }
}

TEST(Configuration, FlagsReproduceIt) {
  EXPECT_EQ(flags_of(parse_configuration("sdpa")), "--preset sdpa");
  const Configuration guarded = parse_configuration("eager-bf16:guard=escalate;text.scores=fp32");
  EXPECT_EQ(guarded.guard, GuardMode::escalate);
  EXPECT_EQ(flags_of(guarded), "--precision " + guarded.policy.text() + " --guard escalate");
  EXPECT_EQ(flags_of(parse_configuration("eager-bf16:guard=escalate")),
            "--preset eager-bf16 --guard escalate");
  EXPECT_NE(guarded.key(), parse_configuration("eager-bf16:text.scores=fp32").key());
  EXPECT_THROW(parse_configuration("eager-bf16:guard=maybe"), Error);
  const Configuration changed = parse_configuration("eager-bf16:text.scores=fp32");
  EXPECT_EQ(flags_of(changed), "--precision " + changed.policy.text());
  EXPECT_EQ(PrecisionPolicy::parse_text(changed.policy.text()), changed.policy);
  EXPECT_EQ(changed.policy.text().find_first_of(" ;\"'$()"),
            std::string::npos);  // needs no quotes in a shell
  EXPECT_EQ(flags_of(Configuration()), "");
}

TEST(Configuration, WithNodeReplacesTowerAndLayers) {
  const PrecisionPolicy before =
      parse_configuration(
          "eager-bf16:text.scores=fp16;text.layers.2.scores=bf16;vision.scores=bf16;logits=fp32")
          .policy;
  const Precision after = resolved(with_node(before, {"text", "scores"}, "fp32"));
  for (const TowerPrecision& layer : after.text.layers) EXPECT_EQ(layer.attention.scores, DType::f32);
  EXPECT_EQ(after.vision.layers[0].attention.scores, DType::bf16);
  EXPECT_EQ(after.logits, DType::f32);
  EXPECT_EQ(resolved(with_node(before, {"", "logits"}, "fp16")).logits, DType::f16);
}

}  // namespace
}  // namespace fovea
