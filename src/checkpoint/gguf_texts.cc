#include "checkpoint/gguf_texts.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/printable.h"

namespace fovea {
namespace {

using nlohmann::ordered_json;

// What converters leave out and llama.cpp has in its source: the numbers of every published Qwen2.5-VL.
constexpr int64_t kWindow = 112, kMerge = 2, kTemporalPatch = 2, kTokensPerSecond = 2;
constexpr int64_t kMinPixels = 3136, kMaxPixels = 12845056;
constexpr double kVisionEpsilon = 1e-6;
constexpr int64_t kMaxLayers = 4096;

constexpr const char* kAgain = "get the file again from its source, or convert the model again";

// The values of one file below a prefix; each has to be there unless said otherwise.
class Fields {
 public:
  Fields(const GgufFile& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  int64_t integer(const char* name) { return required(file_.integer(key(name)), name); }
  int64_t integer(const char* name, int64_t absent) { return file_.integer(key(name)).value_or(absent); }
  double number(const char* name) { return required(file_.number(key(name)), name); }
  std::optional<double> optional_number(const char* name) { return file_.number(key(name)); }
  std::string text(const char* name, const char* absent) {
    return printable(file_.string(key(name)).value_or(absent).substr(0, 100));
  }
  std::vector<int64_t> integers(const char* name) {
    std::vector<int64_t> list = file_.integers(key(name));
    if (list.empty()) missing(name);
    return list;
  }
  std::vector<double> numbers(const char* name) {
    std::vector<double> list = file_.numbers(key(name));
    if (list.empty()) missing(name);
    return list;
  }
  bool has(const char* name) { return file_.has(key(name)); }

  [[noreturn]] void refuse(ErrorKind kind, const char* name, const std::string& what,
                           const char* remedy = kAgain) const {
    throw Error(kind, fmt::format("{}: {}{} {}", file_.path().string(), prefix_, name, what), remedy);
  }
  // What `wanted` is, if it is stated.
  void expect(const char* name, double wanted) {
    const std::optional<double> stated = optional_number(name);
    if (stated && *stated != wanted)
      refuse(ErrorKind::unsupported, name, fmt::format("is {}, Qwen2.5-VL has {}", *stated, wanted),
             "use a GGUF of Qwen2.5-VL");
  }
  // A sentence about the keys that nobody asked for.
  void note_the_rest(std::vector<std::string>& notes) const {
    std::vector<std::string> unread;
    for (const std::string& one : file_.keys()) {
      if (one.starts_with(prefix_) && read_.count(one) == 0) unread.push_back(printable(one));
    }
    if (!unread.empty())
      notes.push_back(
          fmt::format("{}: unused: {}", file_.path().filename().string(), fmt::join(unread, ", ")));
  }
  void ignore(std::initializer_list<const char*> names) {
    for (const char* name : names) key(name);
  }

 private:
  std::string key(const char* name) { return *read_.insert(prefix_ + name).first; }
  [[noreturn]] void missing(const char* name) const { refuse(ErrorKind::corrupt, name, "is missing"); }
  template <typename Value>
  Value required(std::optional<Value> value, const char* name) const {
    if (!value) missing(name);
    return *value;
  }

  const GgufFile& file_;
  std::string prefix_;
  std::set<std::string> read_;
};

void check_architecture(const GgufFile& text) {
  const std::string architecture =
      printable(text.string("general.architecture").value_or("nothing").substr(0, 100));
  if (architecture == "qwen2vl") return;
  throw Error(ErrorKind::unsupported,
              fmt::format("{}: general.architecture is {}, not qwen2vl", text.path().string(), architecture),
              "fovea runs Qwen2.5-VL only, which llama.cpp calls qwen2vl");
}

void check_projector(const GgufFile& mmproj) {
  const std::string_view projector =
      mmproj.string("clip.projector_type")
          .value_or(mmproj.string("clip.vision.projector_type").value_or("nothing"));
  if (projector == "qwen2.5vl_merger") return;
  throw Error(ErrorKind::unsupported,
              fmt::format("{}: clip.projector_type is {}, not qwen2.5vl_merger", mmproj.path().string(),
                          printable(projector.substr(0, 100))),
              projector == "qwen2vl_merger"
                  ? "this is the vision tower of Qwen2-VL, or one of Qwen2.5-VL by an "
                    "early converter: use an mmproj of Qwen2.5-VL that names itself"
                  : "use the mmproj of Qwen2.5-VL");
}

// mrope_section, padded to four; a fourth section would be one of another model.
std::vector<int64_t> mrope_sections(Fields& fields) {
  std::vector<int64_t> sections = fields.integers("rope.dimension_sections");
  if (sections.size() == 4 && sections.back() == 0) sections.pop_back();
  if (sections.size() == 3) return sections;
  fields.refuse(ErrorKind::unsupported, "rope.dimension_sections",
                fmt::format("is {}, not three sizes and a zero", sections), "use a GGUF of Qwen2.5-VL");
}

ordered_json rope_scaling(Fields& fields) {
  ordered_json scaling{{"type", "mrope"}, {"mrope_section", mrope_sections(fields)}};
  const std::string type = fields.text("rope.scaling.type", "none");
  if (type == "none") return scaling;
  if (type != "yarn") {
    fields.refuse(ErrorKind::unsupported, "rope.scaling.type", fmt::format("is {}", type),
                  "none and yarn are supported; convert the model without it");
  }
  scaling["type"] = "yarn";
  scaling["factor"] = fields.number("rope.scaling.factor");
  scaling["original_max_position_embeddings"] = fields.integer("rope.scaling.original_context_length");
  const std::pair<const char*, const char*> optional[] = {{"rope.scaling.yarn_beta_fast", "beta_fast"},
                                                          {"rope.scaling.yarn_beta_slow", "beta_slow"}};
  for (const auto& [key, field] : optional) {
    if (const auto stated = fields.optional_number(key)) scaling[field] = *stated;
  }
  // llama.cpp multiplies these into its own formulas.
  for (const char* key :
       {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_ext_factor"}) {
    fields.expect(key, 1);
  }
  return scaling;
}

ordered_json text_config(const GgufFile& file, int64_t vocabulary, std::vector<std::string>& notes) {
  Fields fields(file, "qwen2vl.");
  ordered_json config{{"hidden_size", fields.integer("embedding_length")},
                      {"intermediate_size", fields.integer("feed_forward_length")},
                      {"num_hidden_layers", fields.integer("block_count")},
                      {"num_attention_heads", fields.integer("attention.head_count")},
                      {"num_key_value_heads", fields.integer("attention.head_count_kv")},
                      {"vocab_size", vocabulary},
                      {"max_position_embeddings", fields.integer("context_length")},
                      {"rms_norm_eps", fields.number("attention.layer_norm_rms_epsilon")},
                      {"rope_theta", fields.number("rope.freq_base")},
                      {"rope_scaling", rope_scaling(fields)},
                      {"hidden_act", "silu"}};
  const int64_t heads = config["num_attention_heads"], hidden = config["hidden_size"];
  const auto head_size = static_cast<double>(heads > 0 ? hidden / heads : 0);
  for (const char* key : {"attention.key_length", "attention.value_length", "rope.dimension_count"})
    fields.expect(key, head_size);
  fields.expect("vocab_size", static_cast<double>(vocabulary));
  fields.expect("attention.causal", 1);
  fields.expect("expert_count", 0);
  fields.expect("attention.sliding_window", 0);
  fields.note_the_rest(notes);
  return config;
}

// Blocks with full attention: every n_wa_pattern-th.
std::vector<int64_t> full_blocks(Fields& fields, int64_t depth) {
  if (fields.has("wa_layer_indexes")) {
    fields.refuse(ErrorKind::unsupported, "wa_layer_indexes",
                  "lists blocks, as another model's converter does",
                  "use an mmproj of Qwen2.5-VL, or its Hugging Face folder");
  }
  const int64_t pattern = fields.integer("n_wa_pattern");
  if (pattern < 1 || depth > kMaxLayers)
    fields.refuse(ErrorKind::invalid_argument, "n_wa_pattern", fmt::format("is {}", pattern));
  std::vector<int64_t> blocks;
  for (int64_t block = pattern - 1; block < depth && block >= 0; block += pattern) blocks.push_back(block);
  return blocks;
}

ordered_json vision_config(const GgufFile& file, std::optional<double> text_epsilon,
                           std::vector<std::string>& notes) {
  Fields fields(file, "clip.vision.");
  const int64_t depth = fields.integer("block_count");
  ordered_json config{{"depth", depth},
                      {"hidden_size", fields.integer("embedding_length")},
                      {"intermediate_size", fields.integer("feed_forward_length")},
                      {"num_heads", fields.integer("attention.head_count")},
                      {"out_hidden_size", fields.integer("projection_dim")},
                      {"patch_size", fields.integer("patch_size")},
                      {"spatial_merge_size", fields.integer("spatial_merge_size", kMerge)},
                      {"temporal_patch_size", kTemporalPatch},
                      {"window_size", fields.integer("window_size", kWindow)},
                      {"tokens_per_second", kTokensPerSecond},
                      {"fullatt_block_indexes", full_blocks(fields, depth)},
                      {"hidden_act", "silu"}};
  // Converters write the language model's here; the tower has its own, which no file states.
  const std::optional<double> epsilon = fields.optional_number("attention.layer_norm_epsilon");
  if (epsilon != text_epsilon) fields.expect("attention.layer_norm_epsilon", kVisionEpsilon);
  fields.ignore(
      {"projector_type", "image_size", "image_mean", "image_std", "image_min_pixels", "image_max_pixels"});
  fields.note_the_rest(notes);
  return config;
}

void check_activation(const GgufFile& mmproj) {
  if (mmproj.boolean("clip.has_vision_encoder").value_or(true) &&
      mmproj.boolean("clip.use_silu").value_or(true) && !mmproj.boolean("clip.use_gelu").value_or(false) &&
      !mmproj.boolean("clip.has_audio_encoder").value_or(false))
    return;
  throw Error(ErrorKind::unsupported,
              fmt::format("{}: clip.use_silu, clip.use_gelu, clip.has_vision_encoder or "
                          "clip.has_audio_encoder describes another "
                          "vision tower than Qwen2.5-VL's",
                          mmproj.path().string()),
              "use the mmproj of Qwen2.5-VL");
}

std::string preprocessor_text(const GgufFile& mmproj, const ordered_json& vision) {
  Fields fields(mmproj, "clip.vision.");
  return ordered_json{{"image_processor_type", "Qwen2VLImageProcessor"},
                      {"processor_class", "Qwen2_5_VLProcessor"},
                      {"min_pixels", fields.integer("image_min_pixels", kMinPixels)},
                      {"max_pixels", fields.integer("image_max_pixels", kMaxPixels)},
                      {"patch_size", vision["patch_size"]},
                      {"temporal_patch_size", kTemporalPatch},
                      {"merge_size", vision["spatial_merge_size"]},
                      {"image_mean", fields.numbers("image_mean")},
                      {"image_std", fields.numbers("image_std")}}
      .dump(2);
}

// Special tokens by spelling, because their numbers are the tokenizer's.
struct SpecialTokens {
  int64_t image = -1, video = -1, vision_start = -1, vision_end = -1, end_of_text = -1;
};
SpecialTokens special_tokens(const GgufFile& text) {
  SpecialTokens found;
  int64_t id = 0;
  text.each_string("tokenizer.ggml.tokens", [&](std::string_view token) {
    if (token == "<|image_pad|>") found.image = id;
    if (token == "<|video_pad|>") found.video = id;
    if (token == "<|vision_start|>") found.vision_start = id;
    if (token == "<|vision_end|>") found.vision_end = id;
    if (token == "<|endoftext|>") found.end_of_text = id;
    ++id;
  });
  if (std::min({found.image, found.video, found.vision_start, found.vision_end}) >= 0) return found;
  throw Error(
      ErrorKind::unsupported,
      fmt::format("{}: tokenizer.ggml.tokens lacks one of <|image_pad|>, <|video_pad|>, <|vision_start|> "
                  "and <|vision_end|>",
                  text.path().string()),
      "use a GGUF of Qwen2.5-VL");
}

std::string generation_text(const GgufFile& text, const SpecialTokens& special) {
  Fields tokenizer(text, "tokenizer.ggml."), sampling(text, "general.sampling.");
  std::vector<int64_t> ends{tokenizer.integer("eos_token_id")};
  // llama.cpp ends at these, too, whatever the file says.
  for (const int64_t id : {tokenizer.integer("eot_token_id", -1), special.end_of_text}) {
    if (id >= 0 && std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(id);
  }
  ordered_json config{{"eos_token_id", ends}};
  const std::pair<const char*, const char*> named[] = {{"temp", "temperature"},
                                                       {"top_k", "top_k"},
                                                       {"top_p", "top_p"},
                                                       {"min_p", "min_p"},
                                                       {"penalty_repeat", "repetition_penalty"}};
  for (const auto& [key, field] : named) {
    if (const auto stated = sampling.optional_number(key)) config[field] = *stated;
  }
  config["do_sample"] = config.contains("temperature") && config["temperature"] > 0;
  if (!config["do_sample"]) config.erase("temperature");
  return config.dump(2);
}

std::string config_text(const GgufFile& text, ordered_json config, const ordered_json& vision,
                        const SpecialTokens& special, bool tied, DType dtype) {
  Fields tokenizer(text, "tokenizer.ggml.");
  config["architectures"] = {"Qwen2_5_VLForConditionalGeneration"};
  config["model_type"] = "qwen2_5_vl";
  config["torch_dtype"] = dtype == DType::f32 ? "float32" : dtype == DType::f16 ? "float16" : "bfloat16";
  config["tie_word_embeddings"] = tied;
  config["image_token_id"] = special.image;
  config["video_token_id"] = special.video;
  config["vision_start_token_id"] = special.vision_start;
  config["vision_end_token_id"] = special.vision_end;
  config["eos_token_id"] = tokenizer.integer("eos_token_id");
  config["bos_token_id"] = tokenizer.integer("bos_token_id", std::max<int64_t>(special.end_of_text, 0));
  config["vision_config"] = vision;
  return config.dump(2);
}

}  // namespace

GgufTexts gguf_texts(const GgufFile& text, const GgufFile& mmproj, bool tied, int64_t vocabulary,
                     DType dtype) {
  check_architecture(text);
  check_projector(mmproj);
  check_activation(mmproj);
  GgufTexts texts;
  const SpecialTokens special = special_tokens(text);
  const ordered_json vision =
      vision_config(mmproj, text.number("qwen2vl.attention.layer_norm_rms_epsilon"), texts.notes);
  texts.config = config_text(text, text_config(text, vocabulary, texts.notes), vision, special, tied, dtype);
  texts.preprocessor = preprocessor_text(mmproj, vision);
  texts.generation = generation_text(text, special);
  Fields stated(mmproj, "clip.vision.");
  const bool limits = stated.has("image_min_pixels") && stated.has("image_max_pixels");
  texts.notes.push_back(fmt::format(
      "GGUF files leave out what every Qwen2.5-VL has: windows of {} pixels, 2 frames to a patch, {} "
      "positions a second{}; sampling is greedy without repetition penalty unless flags or the file "
      "say otherwise",
      vision["window_size"].get<int64_t>(), kTokensPerSecond,
      limits ? "" : fmt::format(", pictures from {} to {} pixels", kMinPixels, kMaxPixels)));
  return texts;
}

}  // namespace fovea
