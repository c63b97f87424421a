#include "checkpoint/config.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "checkpoint/json_fields.h"
#include "checkpoint/known_fields.h"
#include "checkpoint/quantization_config.h"
#include "checkpoint/rope_config.h"
#include "checkpoint/strict_json.h"

namespace fovea {
namespace {

// Bounds far above any published shape, and low enough that a product of two sizes, times the number of
// layers and the bytes of an element, stays below 2^63.
constexpr int64_t kMaxHidden = 1 << 20;
constexpr int64_t kMaxWide = 1 << 24;  // intermediate and vocabulary sizes, token ids
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxPosition = int64_t{1} << 31;
constexpr int64_t kMaxTokenId = (int64_t{1} << 31) - 1;

[[noreturn]] void refuse(const JsonFields& fields, const std::string& field, const std::string& why,
                         const std::string& remedy) {
  throw Error(ErrorKind::invalid_argument, fields.name_of(field) + " " + why, remedy);
}

void check_divides(const JsonFields& fields, const char* field, int64_t part, int64_t whole, const char* of) {
  if (whole % part != 0) {
    refuse(fields, field, fmt::format("is {}, which does not divide {} = {}", part, of, whole),
           "get the file again from its source, or correct the field");
  }
}

void read_heads(JsonFields& text, TextConfig& config) {
  config.num_attention_heads = text.integer("num_attention_heads", 64, 1, kMaxHidden);
  // transformers: absent is the class default, an explicit null is one K/V head per query head.
  const bool null = !text.has("num_key_value_heads") && text.states("num_key_value_heads");
  config.num_key_value_heads =
      text.integer("num_key_value_heads", null ? config.num_attention_heads : 8, 1, kMaxHidden);
  check_divides(text, "num_attention_heads", config.num_attention_heads, config.hidden_size, "hidden_size");
  check_divides(text, "num_key_value_heads", config.num_key_value_heads, config.num_attention_heads,
                "num_attention_heads");
  config.head_dim = config.hidden_size / config.num_attention_heads;
  if (text.integer("head_dim", config.head_dim, 1, kMaxHidden) != config.head_dim) {
    refuse(text, "head_dim",
           fmt::format("differs from hidden_size / num_attention_heads = {}", config.head_dim),
           "Qwen2.5-VL has no other; correct the field or remove it");
  }
  if (config.head_dim % 2 != 0) {
    refuse(text, "num_attention_heads", fmt::format("makes heads of odd size {}", config.head_dim),
           "rotary embeddings need an even size; correct the field");
  }
}

void refuse_sliding_window(JsonFields& text, const TextConfig& config) {
  text.require("use_sliding_window", false);
  text.ignore({"sliding_window", "max_window_layers"});
  const nlohmann::json* types = text.get("layer_types");
  if (types == nullptr) return;
  const bool full =
      types->is_array() && static_cast<int64_t>(types->size()) == config.num_hidden_layers &&
      std::all_of(types->begin(), types->end(), [](const auto& t) { return t == "full_attention"; });
  if (!full) {
    throw Error(ErrorKind::unsupported,
                fmt::format("{} is not \"full_attention\" for each of the {} layers",
                            text.name_of("layer_types"), config.num_hidden_layers),
                "sliding window attention is not supported; use a checkpoint without it");
  }
}

TextConfig read_text(JsonFields& text, const std::string& where, std::vector<std::string>& warnings) {
  TextConfig config;
  config.hidden_size = text.integer("hidden_size", 8192, 1, kMaxHidden);
  config.intermediate_size = text.integer("intermediate_size", 29568, 1, kMaxWide);
  config.num_hidden_layers = text.integer("num_hidden_layers", 80, 1, kMaxLayers);
  config.vocab_size = text.integer("vocab_size", 152064, 1, kMaxWide);
  config.max_position_embeddings = text.integer("max_position_embeddings", 32768, 1, kMaxPosition);
  config.rms_norm_eps = text.number("rms_norm_eps", 1e-5, 0, 1);
  read_heads(text, config);
  read_rope(text, where, config, warnings);
  refuse_sliding_window(text, config);
  text.require("hidden_act", "silu");
  text.require("attention_bias", true);
  text.require("mlp_bias", false);
  text.require("partial_rotary_factor", 1.0);
  return config;
}

// Sizes that some files state twice under another name; transformers reads only the first.
void check_alias(JsonFields& fields, const char* alias, const char* field, int64_t value) {
  if (fields.integer(alias, value, 0, kMaxHidden) != value) {
    refuse(fields, alias, fmt::format("contradicts {} = {}", field, value), "correct one of the two");
  }
}

void read_patches(JsonFields& vision, VisionConfig& config) {
  config.patch_size = vision.integer("patch_size", 14, 1, 1024);
  config.temporal_patch_size = vision.integer("temporal_patch_size", 2, 1, 64);
  config.spatial_merge_size = vision.integer("spatial_merge_size", 2, 1, 16);
  config.window_size = vision.integer("window_size", 112, 1, kMaxHidden);
  config.tokens_per_second = vision.number("tokens_per_second", 4, 0, 1e6);
  vision.require("in_channels", 3);
  check_alias(vision, "in_chans", "in_channels", 3);
  check_alias(vision, "spatial_patch_size", "patch_size", config.patch_size);
  if (config.window_size < config.patch_size * config.spatial_merge_size) {
    refuse(vision, "window_size",
           fmt::format("is {} pixels, less than one merged patch of {}", config.window_size,
                       config.patch_size * config.spatial_merge_size),
           "get the file again from its source, or correct the field");
  }
}

// Every version of transformers computes the vision tower's angles alike, however its file calls them.
void check_vision_rope(const nlohmann::json& object, const std::string& where,
                       std::vector<std::string>& warnings) {
  JsonFields rope(object, where);
  if (rope.string("rope_type", "axial") != "default") rope.require("rope_type", "axial");
  rope.require("rope_theta", 10000.0);
  rope.require("partial_rotary_factor", 1.0);
  rope.warn_of_the_rest(warnings);
}

VisionConfig read_vision(const nlohmann::json& object, const std::string& where,
                         std::vector<std::string>& warnings) {
  JsonFields vision(object, where);
  VisionConfig config;
  config.depth = vision.integer("depth", 32, 1, kMaxLayers);
  config.hidden_size = vision.integer("hidden_size", 3584, 1, kMaxHidden);
  config.intermediate_size = vision.integer("intermediate_size", 3420, 1, kMaxWide);
  config.num_heads = vision.integer("num_heads", 16, 1, kMaxHidden);
  config.out_hidden_size = vision.integer("out_hidden_size", 3584, 1, kMaxHidden);
  // Indexes beyond the depth match no block, in transformers too.
  config.fullatt_block_indexes = vision.integers("fullatt_block_indexes", {7, 15, 23, 31}, kMaxHidden);
  read_patches(vision, config);
  check_divides(vision, "num_heads", config.num_heads, config.hidden_size, "hidden_size");
  if (config.head_dim() % 4 != 0) {
    refuse(vision, "num_heads", fmt::format("makes heads of size {}", config.head_dim()),
           "rotary embeddings in two axes need a multiple of 4; correct the field");
  }
  vision.require("hidden_act", "silu");
  if (const nlohmann::json* rope = vision.get("rope_parameters")) {
    check_vision_rope(*rope, where + ": rope_parameters", warnings);
  }
  const std::string type = vision.string("model_type", "qwen2_5_vl");
  if (type != "qwen2_5_vl") vision.require("model_type", "qwen2_5_vl_vision");
  vision.ignore({"torch_dtype", "dtype", "tie_word_embeddings", "bos_token_id", "eos_token_id"});
  check_known_fields(vision);
  vision.warn_of_the_rest(warnings);
  return config;
}

std::optional<DType> read_dtype(JsonFields& fields) {
  std::optional<DType> dtype;
  for (const char* field : {"torch_dtype", "dtype"}) {
    std::string name = fields.string(field, "");
    if (name.empty() || name == "auto") continue;
    if (name.rfind("torch.", 0) == 0) name = name.substr(6);
    if (name != "float32" && name != "bfloat16" && name != "float16") {
      throw Error(ErrorKind::unsupported,
                  fmt::format("{} is \"{}\"", fields.name_of(field), name.substr(0, 40)),
                  "use a checkpoint in float32, bfloat16 or float16");
    }
    dtype = parse_dtype(name);
  }
  return dtype;
}

// transformers 4 reads the nested text config, 5 either; they part where the outer one alone says true.
bool read_tied(JsonFields& root, JsonFields* nested) {
  const bool outer = root.boolean("tie_word_embeddings", false);
  if (nested == nullptr || !nested->has("tie_word_embeddings")) return outer;
  const bool inner = nested->boolean("tie_word_embeddings", false);
  if (outer && !inner) {
    refuse(root, "tie_word_embeddings", "contradicts the one in text_config", "make both the same");
  }
  return inner;
}

void read_tokens(JsonFields& root, JsonFields& text, ModelConfig& config) {
  config.image_token_id = root.integer("image_token_id", 151655, 0, kMaxTokenId);
  config.video_token_id = root.integer("video_token_id", 151656, 0, kMaxTokenId);
  config.vision_start_token_id = root.integer("vision_start_token_id", 151652, 0, kMaxTokenId);
  config.vision_end_token_id = root.integer("vision_end_token_id", 151653, 0, kMaxTokenId);
  config.bos_token_id =
      root.integer("bos_token_id", text.integer("bos_token_id", 151643, 0, kMaxTokenId), 0, kMaxTokenId);
  config.eos_token_ids = root.integer_or_list("eos_token_id", kMaxTokenId);
  const std::vector<int64_t> nested = text.integer_or_list("eos_token_id", kMaxTokenId);
  if (config.eos_token_ids.empty()) config.eos_token_ids = nested;
  if (config.eos_token_ids.empty()) config.eos_token_ids = {151645};
}

void check_architecture(JsonFields& root) {
  if (root.string("model_type", "") != "qwen2_5_vl") {
    throw Error(ErrorKind::unsupported, fmt::format("{} is not \"qwen2_5_vl\"", root.name_of("model_type")),
                "fovea runs Qwen2.5-VL checkpoints only");
  }
  const nlohmann::json* names = root.get("architectures");
  if (names == nullptr) return;
  const bool known =
      names->is_array() && std::count(names->begin(), names->end(), "Qwen2_5_VLForConditionalGeneration");
  if (!known) {
    throw Error(
        ErrorKind::unsupported,
        fmt::format("{} does not list Qwen2_5_VLForConditionalGeneration", root.name_of("architectures")),
        "fovea runs the generating Qwen2.5-VL only, not reward or embedding models");
  }
}

// transformers calls it compression_config, too.
QuantizationConfig read_quantization_note(JsonFields& root, JsonFields* nested) {
  QuantizationConfig config;
  for (JsonFields* fields : {nested, &root}) {  // the outer one last: it goes first
    if (fields == nullptr) continue;
    for (const char* field : {"compression_config", "quantization_config"}) {
      if (const nlohmann::json* note = fields->get(field)) {
        config = read_quantization(*note, fields->name_of(field));
      }
    }
  }
  return config;
}

// Beside a nested text_config some releases leave the text fields at the top as well; transformers reads the
// nested.
void ignore_flat_leftovers(JsonFields& root) {
  root.ignore({"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
               "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings", "rms_norm_eps",
               "rope_theta", "rope_scaling", "rope_parameters", "hidden_act", "use_sliding_window",
               "sliding_window", "max_window_layers", "layer_types"});
}

}  // namespace

ModelConfig parse_config(std::string_view json, const std::string& file_name) {
  const nlohmann::json object = parse_json_object(json, file_name);
  JsonFields root(object, file_name);
  check_architecture(root);
  const nlohmann::json* nested_object = root.get("text_config");
  const std::string where = nested_object != nullptr ? file_name + ": text_config" : file_name;
  std::optional<JsonFields> nested;
  if (nested_object != nullptr) nested.emplace(*nested_object, where);
  JsonFields& text = nested ? *nested : root;

  ModelConfig config;
  config.text = read_text(text, where, config.warnings);
  config.text.tie_word_embeddings = read_tied(root, nested ? &*nested : nullptr);
  static const nlohmann::json kAllDefaults = nlohmann::json::object();
  const nlohmann::json* vision = root.get("vision_config");
  config.vision =
      read_vision(vision != nullptr ? *vision : kAllDefaults, file_name + ": vision_config", config.warnings);
  if (config.vision.out_hidden_size != config.text.hidden_size) {
    refuse(root, "vision_config: out_hidden_size",
           fmt::format("is {}, the text model's hidden_size {}", config.vision.out_hidden_size,
                       config.text.hidden_size),
           "the two must be equal; get the file again from its source");
  }
  std::optional<DType> dtype = read_dtype(root);
  if (nested) {
    const std::optional<DType> inner = read_dtype(*nested);
    if (!dtype) dtype = inner;
    if (nested->string("model_type", "qwen2_5_vl_text") != "qwen2_5_vl") {
      nested->require("model_type", "qwen2_5_vl_text");
    }
    ignore_flat_leftovers(root);
  }
  config.dtype_stated = dtype.has_value();
  config.dtype = dtype.value_or(DType::bf16);
  read_tokens(root, text, config);
  config.quantization = read_quantization_note(root, nested ? &*nested : nullptr);
  for (JsonFields* fields : {&root, nested ? &*nested : &root}) {
    check_known_fields(*fields);
    // transformers 4.5x repeats these in text_config.
    if (fields != &root)
      fields->ignore({"vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id"});
    fields->warn_of_the_rest(config.warnings);
    if (fields == &text) break;  // the flat layout has one object
  }
  return config;
}

}  // namespace fovea
