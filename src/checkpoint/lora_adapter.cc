#include "checkpoint/lora_adapter.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/lora_config.h"
#include "checkpoint/lora_names.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/strict_json.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxRank = 1 << 14;
constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kWeights = "adapter_model.safetensors";
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.language_model.embed_tokens.weight";

using Shape = std::vector<int64_t>;

std::string shape_text(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

[[noreturn]] void refuse(ErrorKind kind, const fs::path& dir, const std::string& what,
                         const std::string& remedy) {
  throw Error(kind, fmt::format("{}: {}", dir.string(), what), remedy);
}

// Pickled files run code when they are read, and nothing in them can be checked before.
void refuse_pickled(const fs::path& dir) {
  if (!path_exists(dir / kWeights) && path_exists(dir / "adapter_model.bin")) {
    refuse(ErrorKind::unsupported, dir, "adapter_model.bin is pickled, which fovea does not read",
           "save it again with PEFT: PeftModel.from_pretrained(base, adapter).save_pretrained(folder)");
  }
  for (const char* other : {"non_lora_state_dict.bin", "non_lora_trainables.bin"}) {
    if (!path_exists(dir / other)) continue;
    refuse(ErrorKind::unsupported, dir,
           fmt::format(
               "{} holds weights that were trained beside the adapter, pickled: without them the model is "
               "another",
               other),
           "merge both with the training code's own script, or move the file away if they should not count");
  }
}

void refuse_other_places(const fs::path& dir) {
  std::error_code ignored;
  if (fs::is_regular_file(dir, ignored)) {
    refuse(ErrorKind::unsupported, dir,
           dir.extension() == ".gguf" ? "an adapter of llama.cpp, which fovea does not read" : "no folder",
           "give the folder that PEFT wrote, with adapter_config.json and adapter_model.safetensors");
  }
  if (path_exists(dir / kConfig)) return;
  refuse(ErrorKind::not_found, dir, fmt::format("no adapter: {} is missing", kConfig),
         "give the folder that PEFT wrote, with adapter_config.json and adapter_model.safetensors");
}

// Every tensor of the model by its canonical name; the head also where it is tied.
std::map<std::string, Shape, std::less<>> places_of(const ModelConfig& model) {
  std::map<std::string, Shape, std::less<>> places;
  for (ExpectedTensor& tensor : expected_tensors(model)) places.emplace(tensor.name, std::move(tensor.shape));
  places.try_emplace(kHead, places.at(kEmbedding));
  return places;
}

// "[rows, 1, 1, 1]" of a convolution is [rows].
bool is_matrix(const Shape& shape, int64_t rows, int64_t cols) {
  if (shape.size() < 2 || shape[0] != rows) return false;
  return element_count(shape, "a part of an adapter") == rows * cols;
}

// A name may be that of a module with modules in it: "merger".
bool means_part_of(const std::string& pattern, std::string tensor) {
  for (size_t dot = tensor.rfind('.'); dot != std::string::npos; dot = tensor.rfind('.')) {
    tensor.resize(dot);
    if (names_module_of(pattern, tensor)) return true;
  }
  return false;
}

}  // namespace

struct LoraAdapter::State {
  // What the file holds for one tensor of the model.
  struct Found {
    std::string module;
    bool embedding = false, base_layer = false;
    const StoredTensor *down = nullptr, *up = nullptr, *magnitude = nullptr, *whole = nullptr;

    bool in_low_rank() const { return down != nullptr || up != nullptr || magnitude != nullptr; }
  };

  State(fs::path where, const ModelConfig& model) : dir(std::move(where)), places(places_of(model)) {
    refuse_other_places(dir);
    refuse_pickled(dir);
    config = parse_lora_config(read_json_text(dir / kConfig), (dir / kConfig).string());
    file.emplace(SafetensorsFile::open(dir / kWeights));
    for (const StoredTensor& stored : file->tensors()) take(stored);
    for (const auto& [tensor, parts] : found) {
      if (parts.whole != nullptr) add_replacement(tensor, parts);
      if (parts.in_low_rank()) add_change(tensor, parts);
    }
    if (found.empty())
      refuse(ErrorKind::corrupt, dir, fmt::format("{} is empty", kWeights), "train it first");
    check_targets();
    check_saved();
  }

  void take(const StoredTensor& stored);
  void add_change(const std::string& tensor, const Found& parts);
  void add_replacement(const std::string& tensor, const Found& parts);
  int64_t checked_rank(const std::string& tensor, const Found& parts) const;
  void check_targets() const;
  void check_saved() const;
  MatrixView view(const StoredTensor& stored, int64_t rows) const;

  fs::path dir;
  std::map<std::string, Shape, std::less<>> places;
  LoraConfig config;
  std::optional<SafetensorsFile> file;
  std::map<std::string, Found> found;
  std::vector<LoraChange> changes;
  std::vector<LoraReplacement> replacements;
};

void LoraAdapter::State::take(const StoredTensor& stored) {
  const std::string name = stored.name.substr(0, 200);
  const std::optional<LoraName> parsed = parse_lora_name(stored.name);
  if (!parsed || places.find(parsed->tensor) == places.end()) {
    refuse(ErrorKind::unsupported, dir,
           fmt::format("{} holds {}, which has no place in the model", kWeights, name),
           "use an adapter that was trained on this model; those of other models have other modules");
  }
  Found& parts = found[parsed->tensor];
  const StoredTensor** place = parsed->role == LoraRole::down        ? &parts.down
                               : parsed->role == LoraRole::up        ? &parts.up
                               : parsed->role == LoraRole::magnitude ? &parts.magnitude
                                                                     : &parts.whole;
  if (*place != nullptr || (!parts.module.empty() && parts.module != parsed->module)) {
    refuse(ErrorKind::corrupt, dir,
           fmt::format("{} holds {} and another tensor for the same place", kWeights, name),
           "get the adapter again from its source");
  }
  *place = &stored;
  parts.module = parsed->module;
  parts.embedding |= parsed->embedding;
  parts.base_layer |= parsed->base_layer;
}

MatrixView LoraAdapter::State::view(const StoredTensor& stored, int64_t rows) const {
  const int64_t count = element_count(stored.shape, stored.name);
  return {stored.data, weight_dtype(stored.type, stored.name), rows, count / rows, count / rows};
}

int64_t LoraAdapter::State::checked_rank(const std::string& tensor, const Found& parts) const {
  if (parts.down == nullptr || parts.up == nullptr) {
    refuse(ErrorKind::corrupt, dir,
           fmt::format("{} holds lora_{} of {} alone", kWeights,
                       parts.down != nullptr ? "A"
                       : parts.up != nullptr ? "B"
                                             : "magnitude_vector",
                       parts.module),
           "get the adapter again from its source");
  }
  const int64_t rank = parts.down->shape.empty() ? 0 : parts.down->shape[0];
  if (rank < 1 || rank > kMaxRank) {
    refuse(ErrorKind::invalid_argument, dir,
           fmt::format("{} has rank {}, outside 1 to {}", parts.module, rank, kMaxRank),
           "get the adapter again from its source");
  }
  const bool stated = config.rank_is_stated || config.rank.pattern_means(parts.module);
  if (const auto wanted = static_cast<int64_t>(config.rank.of(parts.module)); stated && rank != wanted) {
    refuse(ErrorKind::corrupt, dir,
           fmt::format("{} has rank {}, {} says {}", parts.module, rank, kConfig, wanted),
           "config and tensors must come from one training; get both from one source");
  }
  if ((parts.magnitude != nullptr) != config.dora) {
    refuse(ErrorKind::corrupt, dir,
           fmt::format("{} has {}lora_magnitude_vector, and use_dora is {}", parts.module,
                       parts.magnitude != nullptr ? "a " : "no ", config.dora),
           "config and tensors must come from one training; get both from one source");
  }
  if (config.dora && parts.embedding) {
    refuse(ErrorKind::unsupported, dir, fmt::format("DoRA of the embedding {}", tensor),
           "merge it with PEFT");
  }
  return rank;
}

void LoraAdapter::State::add_change(const std::string& tensor, const Found& parts) {
  const Shape& shape = places.find(tensor)->second;
  if (shape.size() < 2) {
    refuse(ErrorKind::corrupt, dir,
           fmt::format("{} holds low-rank parts of {}, which is a vector", kWeights, tensor),
           "get the adapter again from its source");
  }
  if (parts.embedding != (tensor == kEmbedding)) {
    refuse(ErrorKind::corrupt, dir,
           fmt::format("{} holds {} of {}", kWeights,
                       parts.embedding ? "lora_embedding_A or B" : "lora_A or B", parts.module),
           "an embedding has lora_embedding_A and B, any other module lora_A and B");
  }
  const int64_t rank = checked_rank(tensor, parts);
  int64_t rows = shape[0], cols = 1;
  for (size_t i = 1; i < shape.size(); ++i) cols *= shape[i];
  if (parts.embedding) std::swap(rows, cols);
  if (!is_matrix(parts.down->shape, rank, cols) || !is_matrix(parts.up->shape, rows, rank)) {
    refuse(
        ErrorKind::corrupt, dir,
        fmt::format("{} holds {} and {} for {}, whose weight is {}", kWeights, shape_text(parts.down->shape),
                    shape_text(parts.up->shape), parts.module, shape_text(shape)),
        "use an adapter that was trained on a model of this size");
  }
  LoraChange change{tensor,
                    parts.embedding,
                    view(*parts.down, rank),
                    view(*parts.up, rows),
                    {},
                    config.scale(parts.module, rank)};
  if (parts.magnitude != nullptr) {
    change.magnitude = view(*parts.magnitude, 1);
    if (change.magnitude.cols != rows) {
      refuse(ErrorKind::corrupt, dir,
             fmt::format("lora_magnitude_vector of {} is {}, not {}", parts.module,
                         shape_text(parts.magnitude->shape), rows),
             "get the adapter again from its source");
    }
  }
  changes.push_back(std::move(change));
}

void LoraAdapter::State::add_replacement(const std::string& tensor, const Found& parts) {
  const Shape& shape = places.find(tensor)->second;
  if (parts.in_low_rank() && !parts.base_layer) {
    refuse(ErrorKind::unsupported, dir,
           fmt::format("{} holds {} as a whole and in low rank", kWeights, parts.module),
           "merge it with PEFT");
  }
  if (parts.whole->shape != shape) {
    refuse(ErrorKind::corrupt, dir,
           fmt::format("{} holds {} as {}, the model's is {}", kWeights, tensor,
                       shape_text(parts.whole->shape), shape_text(shape)),
           "an adapter with new tokens must be merged with PEFT, after resize_token_embeddings");
  }
  replacements.push_back({tensor, shape, view(*parts.whole, 1)});
}

// "Go by the tensors" alone would take an adapter of half a download for a whole one.
void LoraAdapter::State::check_targets() const {
  if (!config.targets) return;
  std::vector<std::string> missing;
  for (const auto& [tensor, shape] : places) {
    const auto means = [&, name = std::string_view(tensor)](const std::string& pattern) {
      return names_module_of(pattern, name);
    };
    if (shape.size() < 2 || std::none_of(config.targets->begin(), config.targets->end(), means) ||
        std::any_of(config.excluded.begin(), config.excluded.end(), means) || found.count(tensor) != 0)
      continue;
    missing.push_back(module_of_tensor(tensor));
  }
  if (missing.empty()) return;
  const size_t count = missing.size();
  missing.resize(std::min<size_t>(count, 3));
  refuse(ErrorKind::corrupt, dir,
         fmt::format("target_modules means {} modules for which {} has no tensors: {}{}", count, kWeights,
                     fmt::join(missing, ", "), count > missing.size() ? ", ..." : ""),
         "get the adapter again from its source; if these were not trained, list in target_modules those "
         "that were");
}

void LoraAdapter::State::check_saved() const {
  for (const std::string& saved : config.saved) {
    for (const auto& [tensor, shape] : places) {
      const auto parts = found.find(tensor);
      if (!means_part_of(saved, tensor) || (parts != found.end() && parts->second.whole != nullptr)) continue;
      refuse(ErrorKind::corrupt, dir,
             fmt::format("modules_to_save names {}, and {} has no tensor for {}", saved, kWeights, tensor),
             "get the adapter again from its source");
    }
  }
}

LoraAdapter::LoraAdapter(std::unique_ptr<State> state) : state_(std::move(state)) {}
LoraAdapter::LoraAdapter(LoraAdapter&&) noexcept = default;
LoraAdapter& LoraAdapter::operator=(LoraAdapter&&) noexcept = default;
LoraAdapter::~LoraAdapter() = default;

LoraAdapter LoraAdapter::open(const fs::path& dir, const ModelConfig& model) {
  return LoraAdapter(std::make_unique<State>(dir, model));
}

const fs::path& LoraAdapter::dir() const { return state_->dir; }
const std::vector<LoraChange>& LoraAdapter::changes() const { return state_->changes; }
const std::vector<LoraReplacement>& LoraAdapter::replacements() const { return state_->replacements; }
bool LoraAdapter::tie_saved_embedding() const { return state_->config.tie_saved_embedding; }
const std::vector<std::string>& LoraAdapter::warnings() const { return state_->config.warnings; }

}  // namespace fovea
