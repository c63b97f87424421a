// Goal: generation_config.json and preprocessor_config.json read as transformers reads them; what fovea does
// not do is refused by name. Method: the published files, the newer layouts, and single changed fields.
#include <gtest/gtest.h>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/config.h"
#include "checkpoint/synth_configs.h"

namespace fovea {
namespace {

using testing::expect_error;

GenerationConfig generation(const std::string& json) {
  return parse_generation_config(json, "generation_config.json");
}
PreprocessorConfig preprocessor(const std::string& json) {
  return parse_preprocessor_config(json, "preprocessor_config.json");
}

TEST(GenerationConfig, ReadsThePublishedFile) {
  const GenerationConfig config = generation(synthetic_generation_json());
  EXPECT_TRUE(config.do_sample);
  EXPECT_EQ(config.eos_token_ids, (std::vector<int64_t>{151645, 151643}));
  EXPECT_DOUBLE_EQ(config.repetition_penalty, 1.05);
  EXPECT_DOUBLE_EQ(config.temperature, 1e-6);
  EXPECT_EQ(config.top_k, 50);
  EXPECT_EQ(config.top_p, 1.0);
}

TEST(GenerationConfig, ReadsWhatTransformersDerivesFromTheModel) {
  const GenerationConfig config = generation(
      R"({"_from_model_config": true, "bos_token_id": 151643, "eos_token_id": 151645, "output_attentions": false,
          "output_hidden_states": false, "transformers_version": "5.23.0", "use_cache": true})");
  EXPECT_FALSE(config.do_sample);
  EXPECT_EQ(config.eos_token_ids, std::vector<int64_t>{151645});
}

TEST(GenerationConfig, RefusesOtherMethodsByName) {
  for (const char* field : {"min_length", "min_new_tokens", "num_return_sequences"}) {
    expect_error(ErrorKind::unsupported, {"generation_config.json", field},
                 [&] { generation(fmt::format(R"({{"do_sample": true, "{}": 4}})", field)); });
  }
  expect_error(ErrorKind::unsupported, {"suppress_tokens"},
               [] { generation(R"({"suppress_tokens": [1]})"); });
  const GenerationConfig neutral =
      generation(R"({"num_beams": 1, "typical_p": 1.0, "suppress_tokens": null, "bad_words_ids": []})");
  EXPECT_TRUE(neutral.other_sampling.empty());
  EXPECT_TRUE(neutral.other_methods.empty());
}

// Whether they matter depends on how the answer is generated, which the file alone does not decide.
TEST(GenerationConfig, LeavesOtherWaysOfChoosingTokensToWhoGenerates) {
  using Strings = std::vector<std::string>;
  for (const char* sampling : {"true", "false"}) {
    const GenerationConfig config = generation(fmt::format(
        R"({{"do_sample": {}, "min_p": 0.1, "typical_p": 0.9, "top_h": null, "num_beams": 4, "eta_cutoff": 0}})",
        sampling));
    EXPECT_EQ(config.other_sampling,
              (Strings{"generation_config.json: typical_p is 0.9", "generation_config.json: min_p is 0.1"}));
    EXPECT_EQ(config.other_methods, Strings{"generation_config.json: num_beams is 4"});
    EXPECT_TRUE(config.warnings.empty());
  }
  EXPECT_EQ(generation(R"({"penalty_alpha": 0.6, "diversity_penalty": 0.5})").other_methods.size(), 2u);
}

TEST(GenerationConfig, WarnsOfWhatChangesNothing) {
  const auto warnings = [](const std::string& json) { return generation(json).warnings; };
  EXPECT_TRUE(
      warnings(R"({"max_length": 9, "use_mtp": true, "prompt_lookup_num_tokens": 5, "x": null})").empty());
  ASSERT_EQ(warnings(R"({"some_method": 1})").size(), 1u);
  EXPECT_NE(warnings(R"({"some_method": 1})").front().find("generation_config.json: not known"),
            std::string::npos);
}

TEST(GenerationConfig, ReadsRepeatsAndStopStrings) {
  EXPECT_EQ(generation("{}").no_repeat_ngram_size, 0);
  EXPECT_EQ(generation(R"({"no_repeat_ngram_size": 20})").no_repeat_ngram_size, 20);
  EXPECT_EQ(generation(R"({"no_repeat_ngram_size": 3.0})").no_repeat_ngram_size, 3);
  EXPECT_EQ(generation(R"({"stop_strings": "</answer>"})").stop_strings,
            std::vector<std::string>{"</answer>"});
  EXPECT_EQ(generation(R"({"stop_strings": ["a", "b\n"]})").stop_strings,
            (std::vector<std::string>{"a", "b\n"}));
  EXPECT_TRUE(generation(R"({"stop_strings": []})").stop_strings.empty());
}

// transformers takes them from there when no generation_config.json stands beside it.
TEST(GenerationConfig, IsReadFromTheModelsConfigToo) {
  const GenerationConfig config = generation_of_model_config(
      R"({"hidden_size": 64, "do_sample": true, "temperature": 0.5, "top_k": 50, "min_length": 0,
          "text_config": {"temperature": 0.9, "top_k": 7, "no_repeat_ngram_size": 4, "hidden_act": "silu"}})",
      "config.json");
  EXPECT_TRUE(config.do_sample);
  EXPECT_EQ(config.temperature, 0.5);
  EXPECT_EQ(config.top_k, 7);
  EXPECT_EQ(config.no_repeat_ngram_size, 4);
  EXPECT_TRUE(config.warnings.empty());
  EXPECT_EQ(generation_of_model_config(R"({"num_beams": 4})", "config.json").other_methods,
            std::vector<std::string>{"config.json: num_beams is 4"});
}

TEST(GenerationConfig, RefusesAbsurdValues) {
  for (const char* text :
       {R"({"temperature": -1})", R"({"top_p": 1.5})", R"({"top_k": -1})", R"({"repetition_penalty": 0})",
        R"({"eos_token_id": [-1]})", R"({"max_new_tokens": -5})", R"({"no_repeat_ngram_size": -2})",
        R"({"stop_strings": [""]})", R"({"no_repeat_ngram_size": 1e12})"}) {
    expect_error(ErrorKind::invalid_argument, {"generation_config.json"}, [&] { generation(text); });
  }
  expect_error(ErrorKind::corrupt, {"do_sample"}, [] { generation(R"({"do_sample": 1})"); });
  for (const char* text :
       {R"({"stop_strings": 3})", R"({"stop_strings": ["a", 3]})", R"({"stop_strings": {}})"}) {
    expect_error(ErrorKind::corrupt, {"generation_config.json: stop_strings"}, [&] { generation(text); });
  }
  expect_error(ErrorKind::corrupt, {"no_repeat_ngram_size"},
               [] { generation(R"({"no_repeat_ngram_size": 1.5})"); });
}

TEST(PreprocessorConfig, ReadsThePublishedFile) {
  const PreprocessorConfig config = preprocessor(synthetic_preprocessor_json(VisionConfig{}));
  EXPECT_EQ(config.min_pixels, 3136);
  EXPECT_EQ(config.max_pixels, 12845056);
  EXPECT_EQ(config.merge_size, 2);
  EXPECT_EQ(config.image_mean[0], 0.48145466);
}

TEST(PreprocessorConfig, ReadsTheNewerLayouts) {
  const std::string size = R"("size": {"shortest_edge": 784, "longest_edge": 50176})";
  EXPECT_EQ(preprocessor("{" + size + "}").max_pixels, 50176);
  EXPECT_EQ(preprocessor("{" + size + R"(, "min_pixels": null, "max_pixels": null})").min_pixels, 784);
  EXPECT_EQ(preprocessor("{" + size + R"(, "max_pixels": 99999})").max_pixels, 99999);
  const PreprocessorConfig inner = preprocessor(
      R"({"image_processor": {"image_processor_type": "Qwen2VLImageProcessor", "resample": 3, "do_resize": true,)" +
      size + R"(}, "processor_class": "Qwen2_5_VLProcessor", "video_processor": {"fps": 2}})");
  EXPECT_EQ(inner.min_pixels, 784);
}

TEST(PreprocessorConfig, RefusesOtherSteps) {
  for (const char* text : {R"({"do_resize": false})", R"({"do_normalize": false})", R"({"resample": 2})",
                           R"({"do_center_crop": true})", R"({"size": {"height": 224}})"}) {
    expect_error(ErrorKind::unsupported, {"preprocessor_config.json"}, [&] { preprocessor(text); });
  }
  for (const char* text :
       {R"({"min_pixels": 0})", R"({"min_pixels": 9, "max_pixels": 8})", R"({"image_mean": [1]})",
        R"({"image_std": [0, 1, 1]})", R"({"patch_size": -14})", R"({"rescale_factor": 0})"}) {
    expect_error(ErrorKind::invalid_argument, {"preprocessor_config.json"}, [&] { preprocessor(text); });
  }
  expect_error(ErrorKind::corrupt, {"image_mean"}, [] { preprocessor(R"({"image_mean": 0.5})"); });
}

}  // namespace
}  // namespace fovea
