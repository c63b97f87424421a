#include "checkpoint/checkpoint.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "base/fnv1a.h"
#include "checkpoint/adapter_files.h"
#include "checkpoint/gguf_model.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/preprocessor_config.h"
#include "checkpoint/quantized_tensors.h"
#include "checkpoint/strict_json.h"
#include "checkpoint/tensor_names.h"
#include "checkpoint/tied_head.h"
#include "checkpoint/weight_files.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// `config_text`: of config.json, which older versions of transformers wrote these settings into.
GenerationConfig read_generation(const fs::path& dir, const ModelConfig& model,
                                 const std::string& config_text) {
  const fs::path path = dir / "generation_config.json";
  GenerationConfig config = path_exists(path)
                                ? parse_generation_config(read_json_text(path), path.string())
                                : generation_of_model_config(config_text, (dir / "config.json").string());
  if (config.eos_token_ids.empty()) config.eos_token_ids = model.eos_token_ids;
  return config;
}

// The weights among the tensors of one file, under their canonical names; parts of quantized ones go to
// `quantized`. Buffers are dropped, strangers refused.
void collect(const SafetensorsFile& file, QuantizedTensors& quantized, std::vector<TensorInfo>& tensors) {
  for (const StoredTensor& stored : file.tensors()) {
    if (is_saved_buffer(stored.name) || quantized.take(stored, file.path().filename().string())) continue;
    const std::optional<std::string> name = canonical_tensor_name(stored.name);
    if (!name) {
      throw Error(ErrorKind::unsupported,
                  fmt::format("{} holds tensor {}, which is no part of Qwen2.5-VL", file.path().string(),
                              stored.name.substr(0, 200)),
                  "use a checkpoint saved by transformers; adapters must be merged first");
    }
    tensors.push_back({*name, stored.name, file.path().filename().string(),
                       weight_dtype(stored.type, stored.name), stored.shape, stored.data,
                       file.header_bytes() + stored.offset});
  }
}

// Whether every tensor of the files is a plain one of the model; otherwise the first that is not goes to
// `other`.
bool all_plain(const std::vector<SafetensorsFile>& files, const ModelConfig& config, std::string& other) {
  std::unordered_set<std::string> names{"lm_head.weight"};
  for (const ExpectedTensor& expected : expected_tensors(config)) names.insert(expected.name);
  for (const SafetensorsFile& file : files) {
    for (const StoredTensor& stored : file.tensors()) {
      if (is_saved_buffer(stored.name)) continue;
      const std::optional<std::string> name = canonical_tensor_name(stored.name);
      const bool floating =
          stored.type == StoredType::f32 || stored.type == StoredType::bf16 || stored.type == StoredType::f16;
      if (floating && name && names.count(*name) != 0) continue;
      other = fmt::format("{} in {} ({})", stored.name.substr(0, 200), file.path().filename().string(),
                          name_of(stored.type));
      return false;
    }
  }
  return true;
}

// A merge of adapters into plain weights often leaves the note of how the base was quantized.
void refuse_unreadable_quantization(const std::vector<SafetensorsFile>& files, const ModelConfig& config,
                                    const fs::path& config_path) {
  std::string tensor;
  if (config.quantization.method != QuantizationConfig::Method::other || all_plain(files, config, tensor))
    return;
  throw Error(ErrorKind::unsupported,
              fmt::format("{}: quantization_config: quant_method is \"{}\", and tensor {} is no plain weight",
                          config_path.string(), config.quantization.name, tensor),
              "fovea reads awq, gptq and what fovea quantize writes; else use the checkpoint before "
              "quantization");
}

using TensorIndex = std::unordered_map<std::string_view, size_t>;

TensorIndex index_by_name(const std::vector<TensorInfo>& tensors) {
  TensorIndex index;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto [first, inserted] = index.emplace(tensors[i].name, i);
    if (inserted) continue;
    const TensorInfo& other = tensors[first->second];
    throw Error(ErrorKind::corrupt,
                fmt::format("tensor {} occurs twice: as {} in {} and as {} in {}", tensors[i].name,
                            other.file_name, other.file, tensors[i].file_name, tensors[i].file),
                "remove the file that does not belong to this checkpoint");
  }
  return index;
}

// `source`: the file that implies them.
void check_expected(const std::vector<ExpectedTensor>& expected, const std::vector<TensorInfo>& tensors,
                    const TensorIndex& index, const fs::path& dir, const std::string& source) {
  for (const ExpectedTensor& wanted : expected) {
    const auto found = index.find(wanted.name);
    if (found == index.end()) {
      throw Error(
          ErrorKind::not_found,
          fmt::format("{} lacks tensor {} {}", dir.string(), wanted.name, shape_text(wanted.shape)),
          wanted.name == "lm_head.weight"
              ? "complete the download, or state \"tie_word_embeddings\": true in config.json if it is tied"
              : fmt::format("complete the download; {} must belong to these weights", source));
    }
    const TensorInfo& tensor = tensors[found->second];
    if (tensor.shape == wanted.shape) continue;
    throw Error(ErrorKind::corrupt,
                fmt::format("tensor {} in {} has shape {}, {} implies {}", tensor.file_name, tensor.file,
                            shape_text(tensor.shape), source, shape_text(wanted.shape)),
                fmt::format("{} must belong to these weights; download both from one source", source));
  }
}

bool is_zero(const TensorInfo& tensor) {
  const char* bytes = static_cast<const char*>(tensor.data);
  return std::all_of(bytes, bytes + tensor.bytes(), [](char byte) { return byte == 0; });
}

// Keeps what the config implies. A tied checkpoint's own lm_head, the embedding again, goes unused unless it
// is quantized; so do zero biases, which GPTQ writes for every matrix. Any other tensor means that the model
// is not the one the config describes.
void drop_unused(std::vector<TensorInfo>& tensors, const std::vector<ExpectedTensor>& expected,
                 const ModelConfig& config, const std::string& source) {
  std::unordered_map<std::string_view, bool> known;
  for (const ExpectedTensor& wanted : expected) known.emplace(wanted.name, true);
  const bool gptq = config.quantization.method == QuantizationConfig::Method::gptq;
  const auto unused = [&](const TensorInfo& t) {
    if (known.count(t.name) != 0) return false;
    if (t.name == "lm_head.weight") return config.text.tie_word_embeddings && t.format == WeightFormat::plain;
    return gptq && t.name.ends_with(".bias") && is_zero(t);
  };
  tensors.erase(std::remove_if(tensors.begin(), tensors.end(), unused), tensors.end());
  if (config.quantization.method != QuantizationConfig::Method::none) known.emplace("lm_head.weight", true);
  std::vector<std::string> strangers;
  for (const TensorInfo& tensor : tensors) {
    if (known.count(tensor.name) == 0)
      strangers.push_back(fmt::format("{} ({})", tensor.file_name, tensor.file));
  }
  if (strangers.empty()) return;
  const size_t count = strangers.size();
  strangers.resize(std::min<size_t>(count, 5));
  throw Error(ErrorKind::unsupported,
              fmt::format("{} tensors that {} does not imply: {}{}", count, source,
                          fmt::join(strangers, ", "), count > 5 ? ", ..." : ""),
              fmt::format("{} must belong to these weights; adapters must be merged first", source));
}

}  // namespace

int64_t TensorInfo::elements() const { return element_count(shape, name); }
int64_t TensorInfo::bytes() const {
  return format == WeightFormat::plain ? elements() * static_cast<int64_t>(bytes_of(dtype)) : parts.bytes;
}

struct Checkpoint::State {
  ModelFiles opened;  // as it was asked for
  fs::path dir;
  ModelConfig config;
  GenerationConfig generation;
  PreprocessorConfig preprocessor;
  std::vector<std::string> warnings;
  std::vector<SafetensorsFile> files;
  std::optional<GgufModel> gguf;  // in place of the files
  std::vector<TensorInfo> tensors;
  TensorIndex index;

  void read_configs();
  void read_tensors();
  void read_gguf(const ModelFiles& resolved_files);
  void settle_tensors(const std::string& source);
  void collect_warnings();

  template <typename Do>
  void for_each_file(Do action) const {
    for (const SafetensorsFile& file : files) action(file);
    if (gguf) {
      for (const GgufFile& file : gguf->files()) action(file);
    }
  }
};

void Checkpoint::State::read_configs() {
  const fs::path path = dir / "config.json";
  const std::string text = read_json_text(path);
  config = parse_config(text, path.string());
  generation = read_generation(dir, config, text);
  preprocessor = read_preprocessor(dir, config.vision);
}

void Checkpoint::State::read_tensors() {
  files = open_weight_files(dir);
  refuse_unreadable_quantization(files, config, dir / "config.json");
  QuantizedTensors quantized(config);
  for (const SafetensorsFile& file : files) collect(file, quantized, tensors);
  settle_tied_head(tensors, config, [&] {
    for (const SafetensorsFile& file : files) file.drop_pages();
  });
  quantized.assemble(expected_tensors(config), tensors);
  settle_tensors("config.json");
  const auto embedding = index.find("model.language_model.embed_tokens.weight");
  if (!config.dtype_stated) config.dtype = tensors[embedding->second].dtype;
}

// `source`: what implies them, for errors.
void Checkpoint::State::settle_tensors(const std::string& source) {
  const std::vector<ExpectedTensor> expected = expected_tensors(config);
  drop_unused(tensors, expected, config, source);
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  index = index_by_name(tensors);
  check_expected(expected, tensors, index, dir, source);
}

void Checkpoint::State::read_gguf(const ModelFiles& resolved_files) {
  gguf.emplace(resolved_files);
  const GgufTexts& texts = gguf->texts();
  const auto name = [&](const fs::path& file, const char* as) {
    return fmt::format("{} (as {})", file.string(), as);
  };
  config = parse_config(texts.config, name(resolved_files.model, "config.json"));
  generation =
      parse_generation_config(texts.generation, name(resolved_files.model, "generation_config.json"));
  const std::string of_pictures = name(resolved_files.mmproj, "preprocessor_config.json");
  preprocessor = parse_preprocessor_config(texts.preprocessor, of_pictures);
  parse_video_processor(texts.preprocessor, of_pictures, preprocessor);
  warnings = texts.notes;
  tensors = gguf->tensors(config);
  settle_tensors("the files' metadata");
}

void Checkpoint::State::collect_warnings() {
  for (const auto* list : {&config.warnings, &generation.warnings, &preprocessor.warnings}) {
    warnings.insert(warnings.end(), list->begin(), list->end());
  }
  const auto plain = [](const TensorInfo& tensor) { return tensor.format == WeightFormat::plain; };
  if (config.quantization.method != QuantizationConfig::Method::none &&
      std::all_of(tensors.begin(), tensors.end(), plain)) {
    warnings.push_back(fmt::format(
        "config.json: quantization_config says \"{}\", but every weight is plain: they are used as "
        "they are stored",
        config.quantization.name));
  }
  if (const std::optional<std::string> adapter = adapter_in(dir)) {
    warnings.push_back(
        fmt::format("{} lies beside the weights of {} and is not applied: give fovea merge the folder as -m "
                    "and as --lora if it should be",
                    *adapter, dir.string()));
  }
}

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Checkpoint Checkpoint::open(const ModelFiles& files) {
  const ModelFiles found = resolved(files);
  const fs::path& dir = files.model;
  auto state = std::make_unique<State>();
  state->opened = files;
  state->dir = dir;
  if (fovea::is_gguf(found)) {
    state->read_gguf(found);
    state->collect_warnings();
    return Checkpoint(std::move(state));
  }
  if (std::error_code ignored; !fs::is_directory(dir, ignored)) {
    throw Error(ErrorKind::not_found, fmt::format("{} is not a folder", dir.string()),
                "give the folder of a Hugging Face checkpoint, or ORG/NAME of the local Hugging Face cache");
  }
  refuse_adapter_alone(dir);
  state->read_configs();
  state->read_tensors();
  state->collect_warnings();
  return Checkpoint(std::move(state));
}

const fs::path& Checkpoint::dir() const { return state_->dir; }
const ModelFiles& Checkpoint::files() const { return state_->opened; }
bool Checkpoint::is_gguf() const { return state_->gguf.has_value(); }
std::map<std::string, std::string> Checkpoint::folder_texts() const {
  if (!is_gguf()) return {};
  std::map<std::string, std::string> texts = state_->gguf->other_texts();
  texts.emplace("config.json", state_->gguf->texts().config);
  return texts;
}
const ModelConfig& Checkpoint::config() const { return state_->config; }
const GenerationConfig& Checkpoint::generation() const { return state_->generation; }
const PreprocessorConfig& Checkpoint::preprocessor() const { return state_->preprocessor; }
const std::vector<std::string>& Checkpoint::warnings() const { return state_->warnings; }
const std::vector<TensorInfo>& Checkpoint::tensors() const { return state_->tensors; }
bool Checkpoint::has(const std::string& name) const { return state_->index.count(name) != 0; }
bool Checkpoint::quantized() const {
  return std::any_of(state_->tensors.begin(), state_->tensors.end(),
                     [](const TensorInfo& tensor) { return tensor.format != WeightFormat::plain; });
}

const TensorInfo& Checkpoint::tensor(const std::string& name) const {
  const auto found = state_->index.find(name);
  if (found == state_->index.end()) {
    throw Error(ErrorKind::not_found, fmt::format("{} holds no tensor {}", state_->dir.string(), name),
                "check the spelling against `fovea inspect`");
  }
  return state_->tensors[found->second];
}

MatrixView Checkpoint::matrix(const std::string& name) const {
  const TensorInfo& info = tensor(name);
  FOVEA_CHECK(info.shape.size() >= 2 && info.shape[0] > 0 && info.format == WeightFormat::plain);
  const int64_t columns = info.elements() / info.shape[0];
  return {info.data, info.dtype, info.shape[0], columns, columns};
}

std::vector<float> Checkpoint::vector(const std::string& name) const {
  const TensorInfo& info = tensor(name);
  FOVEA_CHECK(info.shape.size() == 1);
  std::vector<float> values(static_cast<size_t>(info.shape[0]));
  for (size_t i = 0; i < values.size(); ++i) {
    switch (info.dtype) {
      case DType::f32:
        values[i] = static_cast<const float*>(info.data)[i];
        break;
      case DType::bf16:
        values[i] = f32_from_bf16(static_cast<const uint16_t*>(info.data)[i]);
        break;
      case DType::f16:
        values[i] = f32_from_f16(static_cast<const uint16_t*>(info.data)[i]);
        break;
      case DType::f64:
      case DType::i8:
        FOVEA_CHECK(!"no weight is stored in fp64 or int8");
    }
  }
  return values;
}

uint64_t Checkpoint::layout() const {
  uint64_t hash = kFnvBasis;
  for (const TensorInfo& t : tensors()) {
    hash = fnv1a(
        fmt::format("{} {} {} {} {} {}\n", t.name, fs::path(t.file).filename().string(), t.offset, t.bytes(),
                    name_of(t.dtype), t.format == WeightFormat::blocks ? name_of(t.blocks) : ""),
        hash);
  }
  return hash;
}

void Checkpoint::drop_pages() const {
  state_->for_each_file([](const auto& file) { file.drop_pages(); });
}

void Checkpoint::read_ahead(const ProgressFn& progress) const {
  int64_t total = 0, before = 0;
  state_->for_each_file([&](const auto& file) { total += file.bytes(); });
  state_->for_each_file([&](const auto& file) {
    file.read_ahead([&](int64_t done) {
      if (progress) progress("load", before + done, total);
    });
    before += file.bytes();
  });
}

}  // namespace fovea
