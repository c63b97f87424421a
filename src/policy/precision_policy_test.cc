// Goal: a policy says what it means: both forms read back equal, settings reach exactly the layers they name,
// and what makes no sense is refused with the reason. Method: round trips, resolved structs compared field by
// field, and the words of every refusal.
#include "policy/precision_policy.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace fovea {
namespace {

PolicyTarget target() {
  PolicyTarget t;
  t.text_layers = 4;
  t.vision_layers = 3;
  return t;
}

Precision resolved(const std::string& text) {
  return PrecisionPolicy::parse_text(text).resolve(target()).precision;
}

// `act` is refused as the user's mistake, with a remedy, in a message that has every word.
template <typename Act>
void expect_refusal(Act act, const std::vector<std::string>& words, const std::string& of) {
  try {
    act();
    FAIL() << "accepted: " << of;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_argument) << of;
    EXPECT_FALSE(error.remedy().empty()) << of;
    for (const std::string& word : words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << of << ": no '" << word << "' in\n"
                                                                         << error.what();
    }
  }
}

void expect_refused_text(const std::string& text, const std::vector<std::string>& words) {
  expect_refusal([&] { resolved(text); }, words, text);
}

void expect_refused_json(const std::string& text, const std::vector<std::string>& words) {
  expect_refusal([&] { PrecisionPolicy::parse_json(text).resolve(target()); }, words, text);
}

TEST(PrecisionPolicy, BothFormsReadBackEqual) {
  for (const char* text :
       {"", "preset=eager-bf16", "dtype=fp16,logits=fp32", "text.scores=fp32",
        "preset=sdpa,dtype=bf16,logits=fp32,text.residual=fp32,vision.down_proj=fp32,text.layers.0.k=fp32,"
        "text.layers.-1.v=fp32,vision.layers.0-1.norm=fp32,text.layers.-3--2.attention=eager"}) {
    const PrecisionPolicy policy = PrecisionPolicy::parse_text(text);
    EXPECT_EQ(PrecisionPolicy::parse_text(policy.text()), policy) << policy.text();
    EXPECT_EQ(PrecisionPolicy::parse_json(policy.json()), policy) << policy.json();
  }
}

TEST(PrecisionPolicy, JsonMeansWhatTextMeans) {
  EXPECT_EQ(
      PrecisionPolicy::parse_json(R"({"preset": "eager-fp16-old", "logits": "fp32",
              "text": {"inf_to_zero": false, "scores": "fp32", "layers": {"0-2": {"k": "fp32"}, "-1": {"q": "bf16"}}},
              "vision": {"down_proj": "fp32"}})"),
      PrecisionPolicy::parse_text(" vision.down_proj = fp32 , text.layers.0-2.k=fp32,text.layers.-1.q=bf16,"
                                  "text.scores=fp32,text.inf_to_zero=off,logits=fp32,preset=eager-fp16-old"));
}

TEST(PrecisionPolicy, EveryNodeTakesEachOfItsValuesAndShowsIt) {
  for (const Node& node : nodes()) {
    for (const std::string_view value : node.values) {
      TowerPrecision precision;
      set_node(precision, node, value);
      EXPECT_EQ(value_of(precision, node), value) << node.name;
      PrecisionPolicy policy;
      policy.set({Tower::text, true, 0, 0}, node.name, value);
      EXPECT_EQ(PrecisionPolicy::parse_text(policy.text()), policy);
      EXPECT_EQ(PrecisionPolicy::parse_json(policy.json()), policy);
    }
  }
}

TEST(PrecisionPolicy, WithoutSettingsEveryLayerIsUniform) {
  const Precision precision = resolved("");
  for (const TowerPrecision& layer : precision.text.layers) {
    EXPECT_EQ(layer, TowerPrecision::text(DType::bf16, AttentionKind::flash_attention_2));
  }
  for (const TowerPrecision& layer : precision.vision.layers) {
    EXPECT_EQ(layer, TowerPrecision::vision(DType::bf16, AttentionKind::flash_attention_2));
  }
  EXPECT_EQ(precision.text.layers.size(), 4u);
  EXPECT_EQ(precision.vision.layers.size(), 3u);
}

TEST(PrecisionPolicy, SettingsReachTheLayersTheyName) {
  const Precision base = resolved("preset=eager-bf16");
  const auto changed = [&](const std::string& setting) {
    const Precision now = resolved("preset=eager-bf16," + setting);
    std::string layers = now.text.tower == base.text.tower ? "" : "t";
    for (size_t i = 0; i < 4; ++i) {
      if (!(now.text.layers[i] == base.text.layers[i])) layers += std::to_string(i);
    }
    EXPECT_EQ(now.vision, base.vision) << setting;
    return layers;
  };
  EXPECT_EQ(changed("text.layers.0.k=fp32"), "0");
  EXPECT_EQ(changed("text.layers.-1.k=fp32"), "3");
  EXPECT_EQ(changed("text.layers.1-2.k=fp32"), "12");
  EXPECT_EQ(changed("text.layers.-2--1.k=fp32"), "23");
  EXPECT_EQ(changed("text.k=fp32"), "t0123");
  // Layers go before the tower whatever the order.
  EXPECT_EQ(changed("text.layers.1.k=bf16,text.k=fp32"), "t023");
  EXPECT_EQ(changed("text.layers.0-2.k=fp32,text.layers.1.k=bf16"), "02");
  EXPECT_EQ(resolved("vision.layers.2.mlp=fp32").vision.layers[2].mlp, DType::f32);
}

TEST(PrecisionPolicy, ACacheOfEightBitsLeavesOutTheFirstAndTheLastLayer) {
  PrecisionPolicy policy = PrecisionPolicy::parse_text("preset=sdpa,text.layers.2.v_cache=fp32");
  set_kv_cache(policy, "int8");
  const auto layers = policy.resolve(target()).precision.text.layers;
  ASSERT_EQ(layers.size(), 4u);
  for (const size_t kept : {0u, 3u}) {
    EXPECT_EQ(layers[kept].k_cache, DType::bf16) << kept;
    EXPECT_FALSE(layers[kept].bias_split) << kept;
  }
  EXPECT_EQ(layers[1].k_cache, DType::i8);
  EXPECT_EQ(layers[1].v_cache, DType::i8);
  EXPECT_TRUE(layers[1].bias_split);
  EXPECT_EQ(layers[2].k_cache, DType::i8);
  EXPECT_EQ(layers[2].v_cache, DType::f32);  // named by the policy
  PrecisionPolicy other = PrecisionPolicy::parse_text("text.k_cache=fp32");
  EXPECT_THROW(set_kv_cache(other, "int8"), Error);
  EXPECT_THROW(static_cast<void>(PrecisionPolicy::parse_text("text.k=int8")), Error);
  PolicyTarget two = target();
  two.text_layers = 2;
  try {
    static_cast<void>(policy.resolve(two));
    FAIL() << "two layers have none between the first and the last";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("of the 2 layers"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("--kv-cache-dtype int8"), std::string::npos) << error.what();
  }
}

TEST(PrecisionPolicy, TheCacheFollowsItsKeysUnlessItIsNamed) {
  const TowerPrecision follows = resolved("text.k=fp32").text.tower,
                       named = resolved("text.k_cache=bf16,text.k=fp32,text.v=fp16").text.tower;
  EXPECT_EQ(follows.k_cache, DType::f32);
  EXPECT_EQ(follows.v_cache, DType::bf16);
  EXPECT_EQ(named.k, DType::f32);
  EXPECT_EQ(named.k_cache, DType::bf16);
  EXPECT_EQ(named.v_cache, DType::f16);
}

TEST(PrecisionPolicy, AttentionBringsItsOwnNodes) {
  const Precision precision = resolved("preset=eager-fp16-old,text.layers.0.attention=flash_attention_2");
  EXPECT_EQ(precision.text.layers[0].attention,
            AttentionPrecision::of(AttentionKind::flash_attention_2, DType::f16));
  EXPECT_EQ(precision.text.layers[1].attention.scale, ScalePlacement::divide);
  EXPECT_EQ(resolved("text.attention=eager,text.scores=fp32").text.tower.attention.scaled, DType::bf16);
}

TEST(PrecisionPolicy, DtypeComesFromThePresetThePolicyTheCallerOrTheModel) {
  PolicyTarget asked = target();
  asked.dtype = DType::f16;
  EXPECT_EQ(PrecisionPolicy::parse_text("preset=eager-bf16").resolve(target()).dtype, DType::bf16);
  EXPECT_EQ(PrecisionPolicy::parse_text("preset=sdpa").resolve(asked).dtype, DType::f16);
  EXPECT_EQ(PrecisionPolicy::parse_text("preset=sdpa,dtype=fp32").resolve(target()).dtype, DType::f32);
  EXPECT_EQ(PrecisionPolicy().resolve(target()).dtype, DType::bf16);
  expect_refusal([&] { PrecisionPolicy::of_preset("eager-bf16").resolve(asked); },
                 {"fp16", "eager-bf16", "bf16"}, "dtype beside a preset");
  expect_refusal([&] { PrecisionPolicy::parse_text("dtype=bf16").resolve(asked); }, {"fp16", "bf16"},
                 "two dtypes");
  expect_refused_text("preset=eager-bf16,dtype=fp32", {"fp32", "eager-bf16"});
}

TEST(PrecisionPolicy, EveryPresetResolvesAndHasANameOfItsOwn) {
  std::vector<std::pair<const char*, Precision>> seen;
  for (const Preset& preset : presets()) {
    for (const DType model : {DType::f32, DType::bf16, DType::f16}) {
      PolicyTarget t = target();
      t.model_dtype = model;
      const ResolvedPolicy policy = PrecisionPolicy::of_preset(preset.name).resolve(t);
      EXPECT_EQ(policy.dtype, preset.dtype.value_or(model)) << preset.name;
      if (model != DType::bf16) continue;
      for (const auto& [name, other] : seen) {
        // exact has no dtype of its own: in a bf16 model it is flash-bf16.
        const bool same = preset.name == std::string_view("exact") && name == std::string_view("flash-bf16");
        EXPECT_EQ(policy.precision == other, same) << name << preset.name;
      }
      seen.emplace_back(preset.name, policy.precision);
    }
    EXPECT_LT(std::string_view(preset.line).size(), 100u);
  }
  EXPECT_EQ(seen.size(), 20u);
}

TEST(PrecisionPolicy, RefusesWhatMakesNoSense) {
  expect_refused_text("text.attention=flash_attention_2,text.scores=bf16",
                      {"text: scores=bf16", "never stores"});
  expect_refused_text("preset=sdpa,text.layers.2.probabilities=bf16",
                      {"text.layers.2", "probabilities", "sdpa"});
  expect_refused_text("preset=sdpa,text.mask=additive", {"mask=additive", "skip"});
  expect_refused_text("preset=flash-bf16,vision.normalised=on", {"vision", "normalised"});
  expect_refused_text("preset=reference,text.softmax=fp32", {"softmax=fp32", "reference", "fp64"});
  expect_refused_text("preset=eager-bf16,text.softmax=fp64", {"softmax=fp64", "eager", "reference"});
  expect_refused_text("preset=eager-bf16,text.scale=fused", {"scores=bf16", "fused"});
  expect_refused_text("preset=eager-bf16,text.inf_to_zero=on", {"inf_to_zero", "fp16"});
  expect_refused_text("text.score_shift=row_max",
                      {"score_shift=row_max", "flash_attention_2", "never stores scores"});
  expect_refused_text("vision.attention=sdpa,vision.k_centring=mean", {"k_centring=mean", "sdpa", "stores"});
  expect_refused_text("preset=eager-bf16,text.score_shift=row_max",
                      {"scale=after", "before the row's maximum"});
  expect_refused_text("preset=eager-bf16-maxshift,text.layers.1.k_centring=block256",
                      {"text.layers.1", "row_max", "k_centring=block256"});
  expect_refused_text("preset=eager-fp16-old,text.scale=fused,text.scores=fp32,text.score_shift=row_max",
                      {"inf_to_zero=on"});
  expect_refused_text("vision.bias_split=on", {"vision", "bias_split"});
}

TEST(PrecisionPolicy, RefusesWhatItCannotRead) {
  expect_refused_text("text.scorez=fp32", {"scorez", "scores", "probabilities", "residual"});
  expect_refused_text("vision.k_cache=fp32", {"vision", "k_cache"});
  expect_refused_text("text.k=fp64", {"k cannot be 'fp64'", "fp32, bf16, fp16"});
  expect_refused_text("text.scale=sideways", {"sideways", "divide"});
  expect_refused_text("text.layers.4.k=fp32", {"text.layers.4", "4 layers", "0 to 3"});
  expect_refused_text("vision.layers.-4.k=fp32", {"3 layers"});
  expect_refused_text("text.layers.2-1.k=fp32", {"layer 2", "layer 1"});
  for (const char* layers : {"x", "1-", "-", "1-2-3", "99999999999999999999", "1 ", ""}) {
    expect_refused_text(fmt::format("text.layers.{}.k=fp32", layers), {"layers"});
  }
  expect_refused_text("text.layers.0=fp32", {"no node"});
  expect_refused_text("audio.k=fp32", {"audio.k"});
  expect_refused_text("text.k", {"no '='"});
  expect_refused_text("text.k=fp32,,logits=fp32", {"no '='"});
  expect_refused_text("text.k=fp32,text.k=bf16", {"text.k", "fp32", "bf16"});
  expect_refused_text("preset=eager", {"eager", "eager-bf16", "reference"});
  expect_refused_text("preset=sdpa,preset=fp32", {"sdpa", "fp32"});
  expect_refused_text("dtype=fp64", {"dtype", "fp64"});
  expect_refused_json("[]", {"no object"});
  expect_refused_json("{", {"JSON"});
  expect_refused_json(R"({"text": {"k": "fp32", "k": "bf16"}})", {"\"k\"", "twice"});
  expect_refused_json(R"({"text": {"k": 32}})", {"\"k\""});
  expect_refused_json(R"({"text": {"layers": {"7": {"k": "fp32"}}}})", {"layers.7"});
  expect_refused_json(R"({"audio": {}})", {"audio"});
  expect_refused_json(std::string(100, '[') + std::string(100, ']'), {"nests"});
}

}  // namespace
}  // namespace fovea
