// Goal: every layout transformers has saved reads to the same config, and every field that fovea does not
// honour is refused by its name. Method: one tiny config in three layouts, then the same with one field
// changed at a time.
#include "checkpoint/config.h"

#include <gtest/gtest.h>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/synth_configs.h"

namespace fovea {
namespace {

using testing::expect_error;
using testing::tiny_flat_config;
using testing::tiny_nested_config;
using testing::tiny_newest_config;
using testing::with_field;

ModelConfig parsed(const std::string& json) { return parse_config(json, "config.json"); }

TEST(Config, ReadsTheFlatLayout) {
  const ModelConfig config = parsed(tiny_flat_config());
  EXPECT_EQ(config.text.hidden_size, 64);
  EXPECT_EQ(config.text.head_dim, 16);
  EXPECT_EQ(config.text.num_key_value_heads, 2);
  EXPECT_EQ(config.text.mrope_section, (std::vector<int64_t>{2, 3, 3}));
  EXPECT_TRUE(config.text.tie_word_embeddings);
  EXPECT_EQ(config.vision.fullatt_block_indexes, std::vector<int64_t>{1});
  EXPECT_EQ(config.vision.out_hidden_size, 64);
  EXPECT_EQ(config.image_token_id, 100);
  EXPECT_EQ(config.eos_token_ids, std::vector<int64_t>{105});
  EXPECT_EQ(config.dtype, DType::bf16);
  EXPECT_TRUE(config.dtype_stated);
}

TEST(Config, ReadsTheNestedLayoutsAlike) {
  for (const std::string& json : {tiny_nested_config(), tiny_newest_config()}) {
    const ModelConfig config = parsed(json);
    EXPECT_EQ(config.text.num_hidden_layers, 2);
    EXPECT_EQ(config.text.rope_theta, 1e6);
    EXPECT_EQ(config.text.rms_norm_eps, 1e-5);
    EXPECT_EQ(config.text.mrope_section, (std::vector<int64_t>{2, 3, 3}));
    EXPECT_FALSE(config.text.tie_word_embeddings);
    EXPECT_EQ(config.vision.tokens_per_second, 4);
    EXPECT_EQ(config.vision.head_dim(), 16);
    EXPECT_EQ(config.dtype, DType::f32);
  }
  EXPECT_EQ(parsed(tiny_newest_config()).eos_token_ids, std::vector<int64_t>{105});
  EXPECT_EQ(parsed(tiny_newest_config()).bos_token_id, 104);
}

TEST(Config, NestedFieldsWinOverFlatLeftovers) {
  EXPECT_EQ(parsed(with_field(tiny_nested_config(), "/hidden_size", "4096")).text.hidden_size, 64);
}

TEST(Config, MissingFieldsTakeTheDefaultsOfTransformers) {
  const ModelConfig config = parsed(
      R"({"model_type": "qwen2_5_vl", "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
          "vision_config": {"out_hidden_size": 8192}})");
  EXPECT_EQ(config.text.hidden_size, 8192);
  EXPECT_EQ(config.text.intermediate_size, 29568);
  EXPECT_EQ(config.text.num_hidden_layers, 80);
  EXPECT_EQ(config.text.num_key_value_heads, 8);
  EXPECT_EQ(config.text.vocab_size, 152064);
  EXPECT_EQ(config.text.max_position_embeddings, 32768);
  EXPECT_EQ(config.text.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.vision.depth, 32);
  EXPECT_EQ(config.vision.hidden_size, 3584);
  EXPECT_EQ(config.vision.fullatt_block_indexes, (std::vector<int64_t>{7, 15, 23, 31}));
  EXPECT_EQ(config.vision.tokens_per_second, 4);
  EXPECT_FALSE(config.text.tie_word_embeddings);
  EXPECT_FALSE(config.dtype_stated);
  EXPECT_EQ(config.eos_token_ids, std::vector<int64_t>{151645});
}

TEST(Config, AnExplicitNullOfKeyValueHeadsMeansOnePerHead) {
  EXPECT_EQ(parsed(with_field(tiny_flat_config(), "/num_key_value_heads", "null")).text.num_key_value_heads,
            4);
}

TEST(Config, TheTyingOfEitherLevelCounts) {
  EXPECT_TRUE(parsed(with_field(tiny_nested_config(), "/text_config/tie_word_embeddings", "true"))
                  .text.tie_word_embeddings);
  EXPECT_TRUE(
      parsed(with_field(tiny_newest_config(), "/tie_word_embeddings", "true")).text.tie_word_embeddings);
  const std::string outer = with_field(tiny_newest_config(), "/tie_word_embeddings", "true");
  expect_error(ErrorKind::invalid_argument, {"tie_word_embeddings", "contradicts"},
               [&] { parsed(with_field(outer, "/text_config/tie_word_embeddings", "false")); });
}

TEST(Config, PublishedShapesAreKnown) {
  struct Published {
    const char* name;
    int64_t hidden, layers, vocab, vision_intermediate;
    bool tied;
  };
  for (const Published& shape :
       {Published{"3b", 2048, 36, 151936, 3420, true}, Published{"7b", 3584, 28, 152064, 3420, false},
        Published{"32b", 5120, 64, 152064, 3456, false}, Published{"72b", 8192, 80, 152064, 3456, false}}) {
    const ModelConfig config = parsed(synthetic_config_json(shape.name));
    EXPECT_EQ(config.text.hidden_size, shape.hidden);
    EXPECT_EQ(config.text.num_hidden_layers, shape.layers);
    EXPECT_EQ(config.text.vocab_size, shape.vocab);
    EXPECT_EQ(config.text.head_dim, 128);
    EXPECT_EQ(config.text.tie_word_embeddings, shape.tied);
    EXPECT_EQ(config.vision.intermediate_size, shape.vision_intermediate);
    EXPECT_EQ(config.vision.head_dim(), 80);
    EXPECT_EQ(config.vision.patch_dim(), 1176);
    EXPECT_EQ(config.vision.tokens_per_second, 2);
  }
}

struct Refusal {
  ErrorKind kind;
  const char* pointer;
  const char* value;
  const char* word;  // of the message, beside the field's own name
};

void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.pointer << " = " << refusal.value; }

class ConfigRefuses : public ::testing::TestWithParam<Refusal> {};

// The same field means the same in the flat and in the nested layout.
TEST_P(ConfigRefuses, ByName) {
  const Refusal& refusal = GetParam();
  const std::string pointer = refusal.pointer;
  const std::string field = pointer.substr(pointer.rfind('/') + 1);
  expect_error(refusal.kind, {field, refusal.word, "config.json"},
               [&] { parsed(with_field(tiny_flat_config(), pointer, refusal.value)); });
  if (pointer.find("/rope_scaling") == 0 || pointer.find("/vision_config") == 0) return;
  if (field == "model_type" || field == "architectures" || field == "torch_dtype") return;
  expect_error(refusal.kind, {field, refusal.word, "text_config"},
               [&] { parsed(with_field(tiny_nested_config(), "/text_config" + pointer, refusal.value)); });
}

constexpr auto kArgument = ErrorKind::invalid_argument;
constexpr auto kUnsupported = ErrorKind::unsupported;
constexpr auto kCorrupt = ErrorKind::corrupt;

INSTANTIATE_TEST_SUITE_P(
    Sizes, ConfigRefuses,
    ::testing::Values(Refusal{kArgument, "/hidden_size", "0", "outside"},
                      Refusal{kArgument, "/hidden_size", "-64", "outside"},
                      Refusal{kArgument, "/hidden_size", "18446744073709551615", "outside"},
                      Refusal{kArgument, "/hidden_size", "1073741824", "outside"},
                      Refusal{kCorrupt, "/hidden_size", "64.5", "integer"},
                      Refusal{kCorrupt, "/hidden_size", "1e300", "integer"},
                      Refusal{kCorrupt, "/hidden_size", "\"64\"", "integer"},
                      Refusal{kCorrupt, "/hidden_size", "[64]", "integer"},
                      Refusal{kArgument, "/num_hidden_layers", "1000000000", "outside"},
                      Refusal{kArgument, "/vocab_size", "-1", "outside"},
                      Refusal{kArgument, "/intermediate_size", "0", "outside"},
                      Refusal{kArgument, "/max_position_embeddings", "0", "outside"},
                      Refusal{kArgument, "/num_attention_heads", "5", "divide"},
                      Refusal{kArgument, "/num_attention_heads", "64", "odd"},
                      Refusal{kArgument, "/num_key_value_heads", "3", "divide"},
                      Refusal{kArgument, "/num_key_value_heads", "8", "divide"},
                      Refusal{kArgument, "/head_dim", "32", "differs"},
                      Refusal{kArgument, "/rms_norm_eps", "-1e-6", "outside"},
                      Refusal{kCorrupt, "/rms_norm_eps", "\"small\"", "number"},
                      Refusal{kArgument, "/rope_theta", "0", "outside"},
                      Refusal{kArgument, "/vision_config/depth", "-1", "outside"},
                      Refusal{kArgument, "/vision_config/num_heads", "3", "divide"},
                      Refusal{kArgument, "/vision_config/num_heads", "16", "heads of size 2"},
                      Refusal{kArgument, "/vision_config/patch_size", "0", "outside"},
                      Refusal{kCorrupt, "/vision_config/patch_size", "[14, 14]", "integer"},
                      Refusal{kArgument, "/vision_config/window_size", "20", "less than"},
                      Refusal{kArgument, "/vision_config/spatial_merge_size", "1000", "outside"},
                      Refusal{kArgument, "/vision_config/fullatt_block_indexes", "[-1]", "outside"},
                      Refusal{kCorrupt, "/vision_config/fullatt_block_indexes", "7", "list"},
                      Refusal{kArgument, "/vision_config/out_hidden_size", "32", "hidden_size"},
                      Refusal{kArgument, "/vision_config/in_chans", "1", "contradicts"},
                      Refusal{kArgument, "/vision_config/spatial_patch_size", "16", "contradicts"},
                      Refusal{kCorrupt, "/vision_config", "3", "object"}));

INSTANTIATE_TEST_SUITE_P(
    Features, ConfigRefuses,
    ::testing::Values(
        Refusal{kUnsupported, "/hidden_act", "\"gelu\"", "support"},
        Refusal{kUnsupported, "/use_sliding_window", "true", "support"},
        Refusal{kUnsupported, "/layer_types", "[\"full_attention\", \"sliding_attention\"]", "each"},
        Refusal{kUnsupported, "/layer_types", "[\"full_attention\"]", "each"},
        Refusal{kUnsupported, "/attention_bias", "false", "support"},
        Refusal{kUnsupported, "/mlp_bias", "true", "support"},
        Refusal{kUnsupported, "/partial_rotary_factor", "0.5", "support"},
        Refusal{kUnsupported, "/quantization_config", "{\"quant_method\": \"awq\", \"bits\": 3}", "bits"},
        Refusal{kUnsupported, "/quantization_config", "{\"quant_method\": \"awq\", \"version\": \"gemv\"}",
                "gemv"},
        Refusal{kUnsupported, "/quantization_config", "{\"quant_method\": \"gptq\", \"bits\": 2}", "bits"},
        Refusal{kUnsupported, "/quantization_config",
                "{\"quant_method\": \"gptq\", \"checkpoint_format\": \"marlin\"}", "marlin"},
        Refusal{kArgument, "/quantization_config", "{\"quant_method\": \"gptq\", \"group_size\": -7}",
                "group_size"},
        Refusal{kUnsupported, "/quantization_config", "{\"quant_method\": \"fovea\", \"version\": 9}",
                "version"},
        Refusal{kUnsupported, "/num_experts", "8", "mixture"},
        Refusal{kUnsupported, "/qk_norm", "true", "norms"},
        Refusal{kUnsupported, "/final_logit_softcapping", "30.0", "bounded"},
        Refusal{kUnsupported, "/pruned_heads", "{\"0\": [1]}", "left out"},
        Refusal{kUnsupported, "/per_layer_config", "{\"1\": {\"intermediate_size\": 8}}", "layers"},
        Refusal{kUnsupported, "/is_decoder", "true", "compute"},
        Refusal{kUnsupported, "/model_type", "\"qwen2_vl\"", "qwen2_5_vl"},
        Refusal{kUnsupported, "/architectures", "[\"Qwen2ForCausalLM\"]", "Qwen2_5_VL"},
        Refusal{kUnsupported, "/torch_dtype", "\"int8\"", "int8"},
        Refusal{kCorrupt, "/torch_dtype", "16", "string"},
        Refusal{kUnsupported, "/vision_config/hidden_act", "\"quick_gelu\"", "support"},
        Refusal{kUnsupported, "/vision_config/in_channels", "1", "support"},
        Refusal{kUnsupported, "/vision_config/model_type", "\"qwen3_vl\"", "support"},
        Refusal{kUnsupported, "/vision_config/deepstack_visual_indexes", "[1]", "Qwen3-VL"},
        Refusal{kUnsupported, "/vision_config/rope_parameters",
                "{\"rope_type\": \"axial\", \"rope_theta\": 500}", "rope_theta"},
        Refusal{kUnsupported, "/rope_scaling/type", "\"linear\"", "linear"},
        Refusal{kArgument, "/rope_scaling/rope_type", "\"yarn\"", "is \"default\""},
        Refusal{kUnsupported, "/rope_scaling/mrope_interleaved", "true", "support"},
        Refusal{kArgument, "/rope_scaling/mrope_section", "[2, 3, 4]", "half of head_dim"},
        Refusal{kArgument, "/rope_scaling/mrope_section", "[4, 4]", "three"},
        Refusal{kArgument, "/rope_scaling/mrope_section", "[-2, 5, 5]", "outside"},
        Refusal{kArgument, "/rope_scaling", "null", "missing"},
        Refusal{kArgument, "/rope_parameters", "{\"mrope_section\": [2, 3, 3]}", "rope_scaling"}));

// The tiny model's rope_scaling with yarn, and `more` inside.
std::string with_yarn(const std::string& more, const char* pointer = "/rope_scaling") {
  return with_field(pointer[1] == 't' ? tiny_nested_config() : tiny_flat_config(), pointer,
                    fmt::format(R"({{"mrope_section": [2, 3, 3], {}}})", more));
}

TEST(Config, ReadsYarnOfEveryLayout) {
  const char* fields = R"("type": "yarn", "factor": 4, "original_max_position_embeddings": 1000)";
  const char* newer =
      R"("rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1000.0, "rope_theta": 5e5)";
  for (const std::string& json : {with_yarn(fields), with_yarn(fields, "/text_config/rope_scaling"),
                                  with_field(tiny_newest_config(), "/text_config/rope_parameters",
                                             fmt::format(R"({{"mrope_section": [2, 3, 3], {}}})", newer))}) {
    const TextConfig text = parsed(json).text;
    ASSERT_TRUE(text.yarn);
    EXPECT_EQ(text.yarn->factor, 4);
    EXPECT_EQ(text.yarn->original_max_position_embeddings, 1000);
    EXPECT_EQ(text.yarn->beta_fast, 32);
    EXPECT_EQ(text.yarn->beta_slow, 1);
    EXPECT_DOUBLE_EQ(text.yarn->attention_factor, 1.138629436111989);  // 0.1 ln 4 + 1
    EXPECT_TRUE(text.yarn->truncate);
    EXPECT_EQ(text.max_position_embeddings, 4000);  // the file's 1024 is what it was trained with
  }
  EXPECT_FALSE(parsed(tiny_flat_config()).text.yarn);
}

TEST(Config, YarnsFieldsTakeTheDefaultsOfTransformers) {
  const auto yarn = [](const std::string& more) {
    return *parsed(with_yarn(fmt::format(R"("rope_type": "yarn", {})", more))).text.yarn;
  };
  EXPECT_EQ(yarn(R"("factor": 2)").original_max_position_embeddings, 1024);
  EXPECT_EQ(yarn(R"("factor": null, "original_max_position_embeddings": 256)").factor, 4);
  EXPECT_EQ(yarn(R"("factor": 2, "beta_fast": 0, "beta_slow": null)").beta_fast, 32);
  EXPECT_EQ(yarn(R"("factor": 2, "beta_fast": 8.5, "beta_slow": 2)").beta_slow, 2);
  EXPECT_FALSE(yarn(R"("factor": 2, "truncate": false)").truncate);
  EXPECT_EQ(yarn(R"("factor": 2, "attention_factor": 1.5)").attention_factor, 1.5);
  EXPECT_EQ(yarn(R"("factor": 2, "mscale": 0.7, "mscale_all_dim": 0.7)").attention_factor, 1);
  EXPECT_DOUBLE_EQ(yarn(R"("factor": 2, "mscale": 0.7)").attention_factor,
                   yarn(R"("factor": 2)").attention_factor);
}

TEST(Config, RefusesYarnThatIsNoScaling) {
  for (const char* more :
       {R"("factor": 0)", R"("factor": 0.5)", R"("factor": -4)", R"("factor": 1e308)", R"("beta_fast": 2)",
        R"("factor": 4, "beta_fast": -1)", R"("factor": 4, "beta_slow": 1e-300)",
        R"("factor": 4, "beta_slow": 1e308)", R"("factor": 4, "attention_factor": 0)",
        R"("factor": 4, "attention_factor": -1)", R"("factor": 4, "attention_factor": 1e300)",
        R"("factor": 4, "mscale": -2, "mscale_all_dim": 1)",
        R"("factor": 4, "original_max_position_embeddings": -1)",
        R"("factor": 4, "original_max_position_embeddings": 1e10)", R"("factor": 4, "type": "default")"}) {
    SCOPED_TRACE(more);
    expect_error(kArgument, {"config.json: rope_scaling"},
                 [&] { parsed(with_yarn(fmt::format(R"("rope_type": "yarn", {})", more))); });
  }
  for (const char* more : {R"("factor": "4")", R"("factor": [4])", R"("factor": 4, "truncate": 1)",
                           R"("factor": 4, "original_max_position_embeddings": 1000.5)"}) {
    SCOPED_TRACE(more);
    expect_error(kCorrupt, {"config.json: rope_scaling"},
                 [&] { parsed(with_yarn(fmt::format(R"("rope_type": "yarn", {})", more))); });
  }
  const std::string yarn = with_yarn(R"("rope_type": "yarn", "factor": 4)");
  expect_error(kArgument, {"mrope_section", "half of head_dim"},
               [&] { parsed(with_field(yarn, "/rope_scaling/mrope_section", "[2, 3, 4]")); });
  expect_error(kArgument, {"rope_theta", "no bounds"}, [&] { parsed(with_field(yarn, "/rope_theta", "1")); });
  expect_error(kArgument, {"original_max_position_embeddings", "outside rope_scaling"},
               [&] { parsed(with_field(yarn, "/original_max_position_embeddings", "1000")); });
}

// What to_dict() of transformers 4.45, 4.57 and 5.24 dumps, and what trainers add.
TEST(Config, AcceptsWhatComputesNothing) {
  const char* const fields[][2] = {{"min_length", "0"},
                                   {"top_k", "50"},
                                   {"typical_p", "1.0"},
                                   {"length_penalty", "1.0"},
                                   {"temperature", "0.7"},
                                   {"bad_words_ids", "[[1]]"},
                                   {"suppress_tokens", "[3]"},
                                   {"remove_invalid_values", "true"},
                                   {"tf_legacy_loss", "false"},
                                   {"chunk_size_feed_forward", "0"},
                                   {"id2label", R"({"0": "x"})"},
                                   {"num_labels", "3"},
                                   {"pruned_heads", "{}"},
                                   {"cross_attention_hidden_size", "null"},
                                   {"logits_scaling", "1.0"},
                                   {"num_experts", "0"},
                                   {"is_decoder", "false"},
                                   {"per_layer_config", "{}"},
                                   {"model_max_length", "32768"},
                                   {"tokenizer_model_max_length", "32768"},
                                   {"auto_map", R"({"AutoConfig": "c.C"})"},
                                   {"keys_to_ignore_at_inference", R"(["past"])"}};
  for (const auto& [field, value] : fields) {
    for (const char* part : {"/", "/vision_config/", "/text_config/"}) {
      const std::string pointer = fmt::format("{}{}", part, field);
      SCOPED_TRACE(pointer);
      const ModelConfig config = parsed(with_field(tiny_nested_config(), pointer, value));
      EXPECT_EQ(config.text.hidden_size, 64);
      EXPECT_TRUE(config.warnings.empty()) << config.warnings.front();
    }
    EXPECT_TRUE(parsed(with_field(tiny_flat_config(), fmt::format("/{}", field), value)).warnings.empty());
  }
}

TEST(Config, WarnsOfFieldsNobodyReads) {
  std::string json = with_field(tiny_nested_config(), "/mm_projector_lr", "2e-05");
  json = with_field(json, "/vision_config/freeze\u001b[2J", "\"a\\u001bb\"");
  json = with_field(json, "/text_config/rope_scaling/factor", "4");
  json = with_field(json, "/text_config/unknown_but_null", "null");
  const std::vector<std::string> warnings = parsed(json).warnings;
  ASSERT_EQ(warnings.size(), 3u);
  EXPECT_EQ(warnings[0],
            "config.json: text_config: rope_scaling: not known to fovea and not used: factor (4)");
  EXPECT_EQ(warnings[1],
            "config.json: vision_config: not known to fovea and not used: freeze\\u001b[2J (\"a\\u001bb\")");
  EXPECT_EQ(warnings[2], "config.json: not known to fovea and not used: mm_projector_lr (2e-05)");
  std::string many = tiny_flat_config();
  for (int i = 0; i < 40; ++i)
    many = with_field(many, fmt::format("/trainer_{:02}", i), fmt::format("\"{:0>3000}\"", i));
  ASSERT_EQ(parsed(many).warnings.size(), 1u);
  EXPECT_LT(parsed(many).warnings.front().size(), 1500u);
  EXPECT_NE(parsed(many).warnings.front().find("trainer_11"), std::string::npos);
  EXPECT_NE(parsed(many).warnings.front().find("and 28 more"), std::string::npos);
}

TEST(Config, WholeNumbersMayBeWrittenAsFloats) {
  std::string json = with_field(tiny_flat_config(), "/hidden_size", "64.0");
  json = with_field(json, "/vision_config/fullatt_block_indexes", "[1.0]");
  json = with_field(json, "/rope_scaling/mrope_section", "[2.0, 3e0, 3]");
  const ModelConfig config = parsed(json);
  EXPECT_EQ(config.text.hidden_size, 64);
  EXPECT_EQ(config.vision.fullatt_block_indexes, std::vector<int64_t>{1});
  EXPECT_EQ(config.text.mrope_section, (std::vector<int64_t>{2, 3, 3}));
  expect_error(kArgument, {"hidden_size", "outside"},
               [] { parsed(with_field(tiny_flat_config(), "/hidden_size", "-64.0")); });
}

TEST(Config, AQuantizationThatIsNotKnownIsNoted) {
  const ModelConfig config =
      parsed(with_field(tiny_flat_config(), "/quantization_config", R"({"quant_method": "fp8"})"));
  EXPECT_EQ(config.quantization.method, QuantizationConfig::Method::other);
  EXPECT_EQ(config.quantization.name, "fp8");
}

TEST(Config, IgnoresBookkeepingAndNull) {
  std::string json = tiny_flat_config();
  for (const char* field : {"/_name_or_path", "/unsloth_version", "/pad_token_id", "/initializer_range"}) {
    json = with_field(json, field, "\"anything\"");
  }
  json = with_field(json, "/quantization_config", "null");
  json = with_field(json, "/sliding_window", "32768");
  EXPECT_EQ(parsed(json).text.hidden_size, 64);
}

TEST(Config, RefusesTextThatIsNoConfig) {
  for (const char* text :
       {"", "{", "[]", "3", "nul", "{\"a\": NaN}", "{\"a\": 1e999}", "{\"a\": \"\xff\"}", "{} {}"}) {
    SCOPED_TRACE(text);
    expect_error(kCorrupt, {"config.json"}, [&] { parsed(text); });
  }
  expect_error(kCorrupt, {"\"depth\" twice"},
               [] { parsed(R"({"vision_config": {"depth": 1, "depth": 2}})"); });
  expect_error(kCorrupt, {"nests"}, [] { parsed("{\"a\": " + std::string(1 << 20, '[')); });
  expect_error(ErrorKind::exhausted, {"limit"}, [] { parsed(std::string((16 << 20) + 1, ' ')); });
}

}  // namespace
}  // namespace fovea
