#include "quantize/quantize.h"

#include <algorithm>

#include "base/error.h"
#include "base/input_files.h"
#include "base/output_folder.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/quantized_tensors.h"
#include "checkpoint/safetensors_writer.h"
#include "checkpoint/shards.h"
#include "checkpoint/tensor_names.h"
#include "model/weight_nodes.h"
#include "model/weight_store.h"
#include "quantize/folder_copies.h"
#include "quantize/quantized_text.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSmallFilesBytes = int64_t{64} << 20;
constexpr int64_t kAlignment = 64;  // of the first packed matrix in its file; their sizes are multiples of it

// A tensor of the source and what becomes of it. The output head of a tied model occurs twice.
struct Item {
  const TensorInfo* source;
  std::string name;  // in the file
  Quantization quantization;
  DType type;  // rounded to; the stored one when that is exact

  bool quantized() const { return quantization != Quantization::none; }
  // Rounded to `type`; what is not yet so is put into `copy`.
  MatrixView view(Buffer<char>& copy) const {
    const int64_t rows = source->shape[0], cols = source->elements() / rows;
    if (source->format == WeightFormat::plain && (type == DType::f32 || type == source->dtype))
      return {source->data, source->dtype, rows, cols, cols};
    copy = rounded_copy(process_context(), *source, type);
    return {copy.data(), type, rows, cols, cols};
  }
  PackedLayout layout() const {
    const auto format = quantization == Quantization::w8a8 ? WeightFormat::w8a8 : WeightFormat::int4;
    return packed_layout(format, source->shape[0], source->shape[1]);
  }
  std::string form() const { return quantized() ? name_of(quantization) : name_of(type); }
  int64_t bytes() const {
    if (quantized()) return QuantizedMatrix::bytes_for(source->shape[0], source->shape[1], quantization);
    return source->elements() * static_cast<int64_t>(bytes_of(type));
  }
};

std::vector<Item> items_of(const Checkpoint& checkpoint, const Precision& precision) {
  const std::string head = head_tensor(checkpoint, precision.text.tower.head);
  std::vector<Item> items;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    // What comes from GGUF has names of its own in its file.
    const std::string name = checkpoint.is_gguf() ? older_tensor_name(tensor.name) : tensor.file_name;
    if (tensor.shape.size() < 2) {
      items.push_back({&tensor, name, Quantization::none, tensor.dtype});
      continue;
    }
    const auto [type, quantization] = wanted_weight(tensor.name, precision, checkpoint);
    const bool exact = type == DType::f32;
    // The rows of a tied head are looked up as well, so it keeps its plain form.
    const bool tied = quantization != Quantization::none && tensor.name == head && head != "lm_head.weight";
    if (tied) items.push_back({&tensor, "lm_head.weight", quantization, type});
    items.push_back({&tensor, name, tied ? Quantization::none : quantization, exact ? tensor.dtype : type});
  }
  return items;
}

std::vector<std::vector<Item>> shards_of(const std::vector<Item>& items) {
  std::vector<std::vector<Item>> shards(1);
  int64_t bytes = 0;
  for (const Item& item : items) {
    if (bytes > 0 && bytes + item.bytes() > kShardBytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(item);
    bytes += item.bytes();
  }
  return shards;
}

struct Cancelled {};

// Writes shards: packed values first, for their alignment, then scales, which wait in memory meanwhile, then
// what is not quantized.
class ShardWriter {
 public:
  ShardWriter(const QuantizeOptions& options, int64_t total, const ProgressFn& progress)
      : options_(options), total_(total), progress_(progress) {}

  // Returns the names of the tensors written.
  std::vector<std::string> write(const fs::path& path, const std::vector<Item>& items) {
    std::vector<const Item*> quantized, plain;
    for (const Item& item : items) (item.quantized() ? quantized : plain).push_back(&item);
    // Falling element size: fp32 scales of w8a8 before those of int4, fp32 tensors before others.
    std::stable_sort(quantized.begin(), quantized.end(),
                     [](const Item* a, const Item* b) { return a->quantization < b->quantization; });
    std::stable_sort(plain.begin(), plain.end(),
                     [](const Item* a, const Item* b) { return bytes_of(a->type) > bytes_of(b->type); });
    const std::vector<TensorToWrite> tensors = listing(quantized, plain);
    SafetensorsWriter writer(path, tensors, {{"format", "pt"}, {"quant_method", "fovea"}}, kAlignment);
    append_quantized(quantized, writer);
    for (const Item* item : plain) append_plain(*item, writer);
    writer.finish();
    std::vector<std::string> names;
    for (const TensorToWrite& tensor : tensors) names.push_back(tensor.name);
    return names;
  }

 private:
  static std::vector<TensorToWrite> listing(const std::vector<const Item*>& quantized,
                                            const std::vector<const Item*>& plain) {
    std::vector<TensorToWrite> tensors;
    for (const Item* item : quantized) {
      const PackedLayout layout = item->layout();
      tensors.push_back({item->name + "_packed", layout.value_type, layout.values, nullptr});
    }
    for (const Item* item : quantized) {
      const PackedLayout layout = item->layout();
      tensors.push_back({item->name + "_scale", layout.scale_type, layout.scales, nullptr});
    }
    for (const Item* item : plain) {
      tensors.push_back({item->name, stored_type(item->type), item->source->shape, nullptr});
    }
    return tensors;
  }

  static void append(std::span<const char> bytes, SafetensorsWriter& writer) {
    writer.append(bytes.data(), std::ssize(bytes));
  }

  void append_quantized(const std::vector<const Item*>& items, SafetensorsWriter& writer) {
    std::vector<char> scales;
    for (const Item* item : items) {
      Buffer<char> copy;
      const QuantizedMatrix matrix(process_context(), item->view(copy), item->quantization);
      append(matrix.packed_values(), writer);
      scales.insert(scales.end(), matrix.packed_scales().begin(), matrix.packed_scales().end());
      step(*item);
    }
    append(scales, writer);
  }

  void append_plain(const Item& item, SafetensorsWriter& writer) {
    Buffer<char> copy;
    writer.append(item.view(copy).data, item.bytes());
    step(item);
  }

  void step(const Item& item) {
    done_ += item.source->bytes();
    if (progress_) progress_("quantize", done_, total_);
    if (options_.cancel != nullptr && options_.cancel->load()) throw Cancelled{};
  }

  const QuantizeOptions& options_;
  int64_t total_, done_ = 0;
  const ProgressFn& progress_;
};

std::string module_of(const std::string& tensor) {
  return tensor.substr(0, tensor.size() - std::string_view(".weight").size());
}

QuantizeSummary summary_of(const std::vector<Item>& items) {
  QuantizeSummary summary;
  for (const Item& item : items) {
    QuantizedForm& form = summary.forms[item.form()];
    const bool copy = item.name == "lm_head.weight" && item.source->name != item.name;
    const int64_t before = copy ? 0 : item.source->bytes();
    ++form.tensors;
    form.parameters += item.source->elements();
    form.bytes_before += before;
    form.bytes += item.bytes();
    summary.bytes_before += before;
    summary.bytes += item.bytes();
  }
  return summary;
}

void write_folder(const Checkpoint& checkpoint, const std::vector<Item>& items,
                  const QuantizeSummary& summary, const QuantizeOptions& options,
                  const ProgressFn& progress) {
  OutputFolder folder(options.out, options.replace, "config.json");
  check_disk(folder.partial(), summary.bytes + kSmallFilesBytes);
  const auto shards = shards_of(items);
  int64_t total = 0;
  for (const Item& item : items) total += item.source->bytes();
  ShardWriter writer(options, total, progress);
  std::vector<std::vector<std::string>> names;
  for (size_t i = 0; i < shards.size(); ++i) {
    names.push_back(writer.write(folder.path(shard_name(i, shards.size())), shards[i]));
  }
  if (shards.size() > 1) folder.write_text("model.safetensors.index.json", shard_index(names, summary.bytes));
  copy_others(checkpoint, folder);
  std::vector<QuantizedModule> modules;
  for (const Item& item : items) {
    if (item.quantized()) modules.push_back({module_of(item.name), item.quantization});
  }
  const ConfigText config = config_text(checkpoint);
  folder.write_text("QUANTIZATION.md", quantization_readme(summary, options));
  folder.write_text("config.json", quantized_config(config.text, config.name, options, modules,
                                                    checkpoint.config().text.tie_word_embeddings));
  folder.finish();
}

}  // namespace

QuantizeSummary planned_quantization(const Checkpoint& checkpoint, const Precision& precision) {
  return summary_of(items_of(checkpoint, precision));
}

QuantizeSummary quantize_checkpoint(const Checkpoint& checkpoint, const Precision& precision,
                                    const QuantizeOptions& options, const ProgressFn& progress) {
  if (checkpoint.quantized() && !checkpoint.is_gguf()) {
    throw Error(ErrorKind::unsupported, fmt::format("{} is quantized already", checkpoint.dir().string()),
                "give the checkpoint it was made from: quantizing twice loses twice");
  }
  InputFiles inputs;
  inputs.add(checkpoint.dir());
  if (const fs::path& mmproj = checkpoint.files().mmproj; !mmproj.empty()) inputs.add(mmproj);
  inputs.refuse_as_output_folder(options.out, "--out");
  const std::vector<Item> items = items_of(checkpoint, precision);
  QuantizeSummary summary = summary_of(items);
  try {
    write_folder(checkpoint, items, summary, options, progress);
    summary.complete = true;
  } catch (const Cancelled&) {  // the folder is gone
  }
  return summary;
}

}  // namespace fovea
