#include "checkpoint/synth_configs.h"

#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/strict_json.h"

namespace fovea {
namespace {

using Json = nlohmann::ordered_json;

// As in the published files. Without it transformers 4.57 warns of a tokenizer defect that is Mistral's.
constexpr const char* kVersion = "4.41.2";

// What differs between the published sizes.
struct PublishedShape {
  const char* name;
  int64_t hidden, intermediate, layers, heads, kv_heads, vocab;
  bool tied;
  int64_t vision_intermediate;
};

constexpr std::array<PublishedShape, 4> kPublished{{
    {"3b", 2048, 11008, 36, 16, 2, 151936, true, 3420},
    {"7b", 3584, 18944, 28, 28, 4, 152064, false, 3420},
    {"32b", 5120, 27648, 64, 40, 8, 152064, false, 3456},
    {"72b", 8192, 29568, 80, 64, 8, 152064, false, 3456},
}};

Json vision_json(const PublishedShape& shape) {
  return {{"depth", 32},
          {"hidden_act", "silu"},
          {"hidden_size", 1280},
          {"intermediate_size", shape.vision_intermediate},
          {"num_heads", 16},
          {"in_chans", 3},
          {"out_hidden_size", shape.hidden},
          {"patch_size", 14},
          {"spatial_merge_size", 2},
          {"spatial_patch_size", 14},
          {"window_size", 112},
          {"fullatt_block_indexes", {7, 15, 23, 31}},
          {"tokens_per_second", 2},
          {"temporal_patch_size", 2}};
}

Json config_json(const PublishedShape& shape) {
  return {{"architectures", Json::array({"Qwen2_5_VLForConditionalGeneration"})},
          {"attention_dropout", 0.0},
          {"bos_token_id", 151643},
          {"eos_token_id", 151645},
          {"vision_start_token_id", 151652},
          {"vision_end_token_id", 151653},
          {"vision_token_id", 151654},
          {"image_token_id", 151655},
          {"video_token_id", 151656},
          {"hidden_act", "silu"},
          {"hidden_size", shape.hidden},
          {"initializer_range", 0.02},
          {"intermediate_size", shape.intermediate},
          {"max_position_embeddings", 128000},
          {"max_window_layers", shape.layers},
          {"model_type", "qwen2_5_vl"},
          {"num_attention_heads", shape.heads},
          {"num_hidden_layers", shape.layers},
          {"num_key_value_heads", shape.kv_heads},
          {"rms_norm_eps", 1e-06},
          {"rope_theta", 1000000.0},
          {"sliding_window", 32768},
          {"tie_word_embeddings", shape.tied},
          {"torch_dtype", "bfloat16"},
          {"transformers_version", kVersion},
          {"use_cache", true},
          {"use_sliding_window", false},
          {"vision_config", vision_json(shape)},
          {"rope_scaling", {{"type", "mrope"}, {"mrope_section", {16, 24, 24}}}},
          {"vocab_size", shape.vocab}};
}

std::string text_of(const Json& json) { return json.dump(2) + "\n"; }

}  // namespace

std::string synthetic_config_json(const std::string& shape) {
  for (const PublishedShape& published : kPublished) {
    if (shape == published.name) return text_of(config_json(published));
  }
  std::error_code ignored;
  std::filesystem::path path = shape;
  if (std::filesystem::is_directory(path, ignored)) path /= "config.json";
  if (!path_exists(path)) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("'{}' is neither a known shape nor a file", path.string()),
                "give 3b, 7b, 32b, 72b, the path of a config.json, or its folder");
  }
  const std::string text = read_json_text(path);
  const bool dtype_stated = parse_config(text, path.string()).dtype_stated;
  Json config = Json::parse(text);
  if (!dtype_stated) config["torch_dtype"] = "bfloat16";
  if (!config.contains("transformers_version")) config["transformers_version"] = kVersion;
  return text_of(config);
}

std::string synthetic_generation_json() {
  return text_of({{"bos_token_id", 151643},
                  {"pad_token_id", 151643},
                  {"do_sample", true},
                  {"eos_token_id", {151645, 151643}},
                  {"repetition_penalty", 1.05},
                  {"temperature", 0.000001}});
}

std::string synthetic_preprocessor_json(const VisionConfig& vision) {
  const PreprocessorConfig clip;  // the mean and deviation are CLIP's
  return text_of({{"min_pixels", 3136},
                  {"max_pixels", 12845056},
                  {"patch_size", vision.patch_size},
                  {"temporal_patch_size", vision.temporal_patch_size},
                  {"merge_size", vision.spatial_merge_size},
                  {"image_mean", clip.image_mean},
                  {"image_std", clip.image_std},
                  {"image_processor_type", "Qwen2VLImageProcessor"},
                  {"processor_class", "Qwen2_5_VLProcessor"}});
}

std::string synthetic_tokenizer_config_json(std::string_view chat_template) {
  return text_of({{"add_bos_token", false},
                  {"add_prefix_space", false},
                  {"bos_token", nullptr},
                  {"chat_template", chat_template},
                  {"clean_up_tokenization_spaces", false},
                  {"eos_token", "<|im_end|>"},
                  {"errors", "replace"},
                  {"model_max_length", 131072},
                  {"pad_token", "<|endoftext|>"},
                  {"split_special_tokens", false},
                  {"tokenizer_class", "Qwen2Tokenizer"},
                  {"unk_token", nullptr}});
}

std::string chat_template_json(std::string_view chat_template) {
  return text_of({{"chat_template", chat_template}});
}

}  // namespace fovea
