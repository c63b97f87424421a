// The configuration of a Qwen2.5-VL checkpoint, read from config.json in the flat (transformers <= 4.51) and
// the nested (text_config, vision_config) layout. Field names are Hugging Face's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace fovea {

struct VisionConfig {
  int64_t depth = 32;
  int64_t hidden_size = 1280;
  int64_t intermediate_size = 3420;
  int64_t num_heads = 16;
  int64_t in_channels = 3;
  int64_t patch_size = 14;
  int64_t spatial_merge_size = 2;
  int64_t temporal_patch_size = 2;
  int64_t window_size = 112;  // pixels
  int64_t out_hidden_size = 2048;
  std::vector<int64_t> fullatt_block_indexes;
  double tokens_per_second = 2;

  int64_t head_dim() const { return hidden_size / num_heads; }
  int64_t patch_dim() const { return in_channels * temporal_patch_size * patch_size * patch_size; }
};

// rope_type "yarn" (arXiv 2309.00071): slow rotary pairs are stretched by `factor`, fast ones stay, those
// between are mixed; cos and sin are multiplied by attention_factor.
struct YarnScaling {
  double factor = 1;
  int64_t original_max_position_embeddings = 32768;
  double beta_fast = 32, beta_slow = 1;  // turns within the original length: the bounds of what is mixed
  double attention_factor = 1;           // stated, or from factor, mscale and mscale_all_dim
  bool truncate = true;                  // whether the bounds are rounded to whole pairs
};

struct TextConfig {
  int64_t hidden_size = 2048;
  int64_t intermediate_size = 11008;
  int64_t num_hidden_layers = 36;
  int64_t num_attention_heads = 16;
  int64_t num_key_value_heads = 2;
  int64_t head_dim = 128;
  int64_t vocab_size = 151936;
  int64_t max_position_embeddings = 128000;  // with yarn at least what it stretches the original length to
  double rms_norm_eps = 1e-6;
  double rope_theta = 1e6;
  std::vector<int64_t> mrope_section;  // rotary pairs led by t, h, w; sums to head_dim / 2
  std::optional<YarnScaling> yarn;
  bool tie_word_embeddings = false;
};

// quantization_config: how the matrices are stored that have no plain weight (docs/guide/memory.md).
struct QuantizationConfig {
  enum class Method : uint8_t { none, fovea, awq, gptq, other };
  Method method = Method::none;
  int64_t bits = 4;              // awq: 4; gptq: 4 or 8
  int64_t group_size = 128;      // columns that share a scale and a zero point; 0: all
  bool zeros_minus_one = false;  // each zero point is stored less one (gptq's first version)
  std::string name = {};         // quant_method as written; other: of a kind that fovea cannot read
};

struct ModelConfig {
  VisionConfig vision;
  TextConfig text;
  DType dtype =
      DType::bf16;  // dtype / torch_dtype: what the weights are stored in, and the default compute type
  bool dtype_stated = false;  // false: the file names none; Checkpoint::open then takes the embedding's
  int64_t image_token_id = 151655;
  int64_t video_token_id = 151656;
  int64_t vision_start_token_id = 151652;
  int64_t vision_end_token_id = 151653;
  int64_t bos_token_id = 151643;
  std::vector<int64_t> eos_token_ids;
  QuantizationConfig quantization;
  std::vector<std::string> warnings;  // what the file states and nobody uses, one sentence each
};

// Parses and validates the text of a config.json. Throws Error(corrupt | unsupported | invalid_argument)
// naming the field; every size is bounded, so that no later product of two of them overflows int64.
ModelConfig parse_config(std::string_view json, const std::string& file_name);

// generation_config.json; the defaults are transformers' (greedy). Fields at values that change nothing are
// accepted; what fovea does not have is refused by name, some of it only by who generates.
struct GenerationConfig {
  bool do_sample = false;
  double temperature = 1.0;
  int64_t top_k = 50;
  double top_p = 1.0;
  double repetition_penalty = 1.0;
  int64_t max_new_tokens = 0;  // 0: not stated
  std::vector<int64_t> eos_token_ids;
  int64_t no_repeat_ngram_size = 0;  // 0: off
  std::vector<std::string> stop_strings;
  std::vector<std::string> warnings;
  // Not supported, each as "FILE: min_p is 0.1": limits of what is drawn from, without effect on greedy
  // answers, and ways of choosing tokens that are neither greedy nor drawn from the logits, as beams.
  std::vector<std::string> other_sampling, other_methods;
};
GenerationConfig parse_generation_config(std::string_view json, const std::string& file_name);
// What a config.json says about generating; transformers reads it where there is no generation_config.json.
GenerationConfig generation_of_model_config(std::string_view json, const std::string& file_name);

// How pictures and frames are prepared.
struct PreprocessorConfig {
  int64_t min_pixels = 56 * 56;
  int64_t max_pixels = 28 * 28 * 1280;
  int64_t patch_size = 14;
  int64_t temporal_patch_size = 2;
  int64_t merge_size = 2;
  double rescale_factor = 1.0 / 255;
  std::vector<double> image_mean{0.48145466, 0.4578275, 0.40821073};
  std::vector<double> image_std{0.26862954, 0.26130258, 0.27577711};
  std::optional<int64_t> video_min_pixels, video_max_pixels;  // of one frame; unset: no file states them
  std::vector<std::string> warnings;                          // for people, a sentence each
};
// The image processor of a file: its top, or its "image_processor". Leaves the limits of frames unset.
PreprocessorConfig parse_preprocessor_config(std::string_view json, const std::string& file_name);
// The video processor of a file likewise ("video_processor"): sets the limits of frames. The steps and
// numbers that it shares with the image processor must be the same.
void parse_video_processor(std::string_view json, const std::string& file_name, PreprocessorConfig& config);

}  // namespace fovea
