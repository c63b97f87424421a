#include "quantize/merge.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/input_files.h"
#include "base/output_folder.h"
#include "base/parallel.h"
#include "base/rounding.h"
#include "checkpoint/safetensors_writer.h"
#include "checkpoint/shards.h"
#include "checkpoint/strict_json.h"
#include "checkpoint/tensor_names.h"
#include "model/elementwise.h"
#include "model/quantized_matrix.h"
#include "model/weight_store.h"
#include "quantize/folder_copies.h"
#include "quantize/merged_rows.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSmallFilesBytes = int64_t{64} << 20;
constexpr int64_t kRowsPerTask = 16;
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.language_model.embed_tokens.weight";

struct Cancelled {};

// A tensor of the folder that is written.
struct Item {
  std::string name;  // in the file
  const TensorInfo* source = nullptr;
  DType type = DType::f32;
  const LoraChange* change = nullptr;
  const LoraReplacement* replacement = nullptr;

  int64_t bytes() const { return source->elements() * static_cast<int64_t>(bytes_of(type)); }
};

template <typename Part>
const Part* part_for(const std::vector<Part>& parts, const std::string& tensor) {
  const auto found =
      std::find_if(parts.begin(), parts.end(), [&](const Part& part) { return part.tensor == tensor; });
  return found != parts.end() ? &*found : nullptr;
}

// The name that a folder has for it. The embedding of a tied model may be stored as the head alone.
std::string file_name(const TensorInfo& tensor, const Checkpoint& checkpoint) {
  const bool other =
      tensor.format != WeightFormat::plain || (tensor.name == kEmbedding && tensor.file_name == kHead);
  return checkpoint.is_gguf() || other ? older_tensor_name(tensor.name) : tensor.file_name;
}

class Merge {
 public:
  Merge(const Checkpoint& checkpoint, const LoraAdapter& adapter, const MergeOptions& options,
        const ProgressFn& progress)
      : checkpoint_(checkpoint), adapter_(adapter), options_(options), progress_(progress) {
    for (const TensorInfo& tensor : checkpoint.tensors())
      add(tensor, tensor.name, file_name(tensor, checkpoint));
    if (untied()) add(checkpoint.tensor(kEmbedding), kHead, kHead);
  }

  MergeSummary write() {
    check_scale();
    OutputFolder folder(options_.out, options_.replace, "config.json");
    check_disk(folder.partial(), summary_.bytes + kSmallFilesBytes);
    const std::vector<std::vector<const Item*>> shards = in_shards();
    std::vector<std::vector<std::string>> names;
    for (size_t i = 0; i < shards.size(); ++i)
      names.push_back(write_shard(folder.path(shard_name(i, shards.size())), shards[i]));
    if (shards.size() > 1)
      folder.write_text("model.safetensors.index.json", shard_index(names, summary_.bytes));
    copy_others(checkpoint_, folder);
    folder.write_text("config.json", config());
    folder.finish();
    summary_.complete = true;
    return summary_;
  }

  const MergeSummary& summary() const { return summary_; }

 private:
  // Whether the adapter changes one of a tied head and its embedding and not the other.
  bool untied() const {
    if (!checkpoint_.config().text.tie_word_embeddings) return false;
    const auto named = [&](const char* tensor) {
      return part_for(adapter_.changes(), tensor) != nullptr ||
             part_for(adapter_.replacements(), tensor) != nullptr;
    };
    return named(kHead) || (named(kEmbedding) && !adapter_.tie_saved_embedding());
  }

  void add(const TensorInfo& source, const std::string& tensor, const std::string& name) {
    Item item{name, &source, source.dtype, part_for(adapter_.changes(), tensor),
              part_for(adapter_.replacements(), tensor)};
    if (source.format != WeightFormat::plain) {
      item.type = checkpoint_.config().dtype;
      ++summary_.widened;
    }
    ++(item.change != nullptr        ? summary_.changed
       : item.replacement != nullptr ? summary_.replaced
                                     : summary_.unchanged);
    summary_.bytes += item.bytes();
    summary_.untied |= &source == &checkpoint_.tensor(kEmbedding) && tensor == kHead;
    items_.push_back(std::move(item));
  }

  // Half a vector that was trained as a whole, or half a direction, would be neither model.
  void check_scale() const {
    if (options_.scale == 1) return;
    const bool dora = std::any_of(adapter_.changes().begin(), adapter_.changes().end(),
                                  [](const LoraChange& change) { return change.magnitude.data != nullptr; });
    if (!dora && adapter_.replacements().empty()) return;
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} has {}, so it has no other scale than 1", adapter_.dir().string(),
                            dora ? "magnitudes (DoRA)" : "whole tensors (modules_to_save)"),
                "leave the scale out");
  }

  std::vector<std::vector<const Item*>> in_shards() const {
    std::vector<std::vector<const Item*>> shards(1);
    int64_t bytes = 0;
    for (const Item& item : items_) {
      if (bytes > 0 && bytes + item.bytes() > kShardBytes) {
        shards.emplace_back();
        bytes = 0;
      }
      shards.back().push_back(&item);
      bytes += item.bytes();
    }
    // Falling element size keeps each tensor aligned.
    for (auto& shard : shards) {
      std::stable_sort(shard.begin(), shard.end(),
                       [](const Item* a, const Item* b) { return bytes_of(a->type) > bytes_of(b->type); });
    }
    return shards;
  }

  std::vector<std::string> write_shard(const fs::path& path, const std::vector<const Item*>& items) {
    std::vector<TensorToWrite> tensors;
    std::vector<std::string> names;
    for (const Item* item : items) {
      tensors.push_back({item->name, stored_type(item->type), item->source->shape, nullptr});
      names.push_back(item->name);
    }
    SafetensorsWriter writer(path, tensors, {{"format", "pt"}});
    for (const Item* item : items) {
      append(*item, writer);
      done_ += item->bytes();
      if (progress_) progress_("merge", done_, summary_.bytes);
      if (options_.cancel != nullptr && options_.cancel->load()) throw Cancelled{};
    }
    writer.finish();
    return names;
  }

  void append(const Item& item, SafetensorsWriter& writer) const {
    const TensorInfo& source = *item.source;
    const int64_t elements = source.elements();
    if (item.change == nullptr && item.replacement == nullptr && source.format == WeightFormat::plain)
      return writer.append(source.data, item.bytes());
    if (item.change != nullptr) {
      const Buffer<char> merged = merged_values(item);
      return writer.append(merged.data(), item.bytes());
    }
    Buffer<char> values;
    if (item.replacement != nullptr) {
      std::vector<float> wide(static_cast<size_t>(elements));
      widen_row(*process_context().kernels, item.replacement->values, 0, wide.data());
      values = Buffer<char>(item.bytes());
      narrow_row(*process_context().kernels, wide.data(), elements, item.type, values.data());
      if (!all_finite(*process_context().kernels, wide.data(), elements)) refuse_not_finite(item);
    } else {
      values = rounded_copy(process_context(), source, item.type);
    }
    writer.append(values.data(), item.bytes());
  }

  Buffer<char> merged_values(const Item& item) const {
    const TensorInfo& source = *item.source;
    const int64_t rows = source.shape[0], cols = source.elements() / rows;
    const MergedRows merged(*item.change, options_.scale);
    Buffer<char> widened;
    MatrixView from{source.data, source.dtype, rows, cols, cols};
    if (item.replacement != nullptr) {
      from = {item.replacement->values.data, item.replacement->values.dtype, rows, cols, cols};
    } else if (source.format != WeightFormat::plain) {
      widened = rounded_copy(process_context(), source, DType::f32);
      from = {widened.data(), DType::f32, rows, cols, cols};
    }
    Buffer<char> values(item.bytes());
    std::atomic<bool> finite{true};
    parallel_for(divide_up(rows, kRowsPerTask), [&](int64_t task) {
      std::vector<float> wide(static_cast<size_t>(cols));
      std::vector<double> exact(static_cast<size_t>(cols));
      for (int64_t r = task * kRowsPerTask; r < std::min(rows, (task + 1) * kRowsPerTask); ++r) {
        widen_row(*process_context().kernels, from, r, wide.data());
        std::copy(wide.begin(), wide.end(), exact.begin());
        merged.add_to(r, exact.data());
        std::transform(exact.begin(), exact.end(), wide.begin(),
                       [](double v) { return static_cast<float>(v); });
        narrow_row(*process_context().kernels, wide.data(), cols, item.type,
                   values.data() + r * cols * static_cast<int64_t>(bytes_of(item.type)));
        widen_row(*process_context().kernels, {values.data(), item.type, rows, cols, cols}, r, wide.data());
        if (!all_finite(*process_context().kernels, wide.data(), cols)) finite = false;
      }
    });
    if (!finite) refuse_not_finite(item);
    return values;
  }

  [[noreturn]] void refuse_not_finite(const Item& item) const {
    throw Error(
        ErrorKind::numeric,
        fmt::format("{} is not finite after the merge with {}", item.name, adapter_.dir().string()),
        "the adapter holds NaN or infinite values, or too large a scale: train it again, or give a smaller "
        "scale");
  }

  std::string config() const {
    const ConfigText source = config_text(checkpoint_);
    nlohmann::json config = parse_json_object(source.text, source.name);
    config.erase("quantization_config");
    const auto untie = [&](nlohmann::json& object) {
      if (summary_.untied || object.contains("tie_word_embeddings"))
        object["tie_word_embeddings"] = checkpoint_.config().text.tie_word_embeddings && !summary_.untied;
    };
    untie(config);
    if (const auto text = config.find("text_config"); text != config.end() && text->is_object()) untie(*text);
    return config.dump(2) + "\n";
  }

  const Checkpoint& checkpoint_;
  const LoraAdapter& adapter_;
  const MergeOptions& options_;
  const ProgressFn& progress_;
  std::vector<Item> items_;
  MergeSummary summary_;
  int64_t done_ = 0;
};

}  // namespace

MergeSummary merge_adapter(const Checkpoint& checkpoint, const LoraAdapter& adapter,
                           const MergeOptions& options, const ProgressFn& progress) {
  if (checkpoint.config().quantization.method == QuantizationConfig::Method::fovea) {
    throw Error(ErrorKind::unsupported, fmt::format("{} is quantized", checkpoint.dir().string()),
                "merge into the checkpoint it was made from, then fovea quantize the result");
  }
  InputFiles inputs;
  inputs.add(checkpoint.dir());
  inputs.add(adapter.dir());
  if (const fs::path& mmproj = checkpoint.files().mmproj; !mmproj.empty()) inputs.add(mmproj);
  inputs.refuse_as_output_folder(options.out, "--out");
  Merge merge(checkpoint, adapter, options, progress);
  try {
    return merge.write();
  } catch (const Cancelled&) {  // the folder is gone
    return merge.summary();
  }
}

}  // namespace fovea
