#include "model/weight_store.h"

#include <algorithm>

#include "base/error.h"
#include "base/rounding.h"
#include "checkpoint/quantized_tensors.h"
#include "kernels/kernels.h"
#include "model/weight_nodes.h"

namespace fovea {

namespace {

static_assert(kPackedColumns == kQuantColumns && kPackedGroup == kQuantGroup);

void narrow(const Kernels& kernels, const float* from, int64_t count, DType type, void* to) {
  switch (type) {
    case DType::bf16:
      kernels.bf16_from_f32(from, static_cast<uint16_t*>(to), count);
      break;
    case DType::f16:
      kernels.f16_from_f32(from, static_cast<uint16_t*>(to), count);
      break;
    default:
      std::copy_n(from, count, static_cast<float*>(to));
  }
}

}  // namespace

Buffer<uint16_t> converted(const Context& context, const MatrixView& source, DType type) {
  Buffer<uint16_t> values(source.rows * source.cols);
  context.parallel_for(source.rows, [&](int64_t r) {
    std::vector<float> wide(static_cast<size_t>(source.cols));
    widen_row(*context.kernels, source, r, wide.data());
    narrow(*context.kernels, wide.data(), source.cols, type, values.data() + r * source.cols);
  });
  return values;
}

namespace {

QuantizedMatrix stored_matrix(const TensorInfo& info) {
  return QuantizedMatrix::borrowed(info.parts.values, info.parts.scales, info.shape[0], info.shape[1],
                                   quantization_of(info.format));
}

// Rows [first, first + count) of a tensor, however they are stored, as f32.
void widen_rows(const Kernels& kernels, const TensorInfo& info, const QuantizedMatrix& packed, int64_t first,
                int64_t count, int64_t cols, float* out) {
  if (info.format == WeightFormat::plain) {
    const MatrixView view{info.data, info.dtype, info.shape[0], cols, cols};
    for (int64_t r = 0; r < count; ++r) widen_row(kernels, view, first + r, out + r * cols);
  } else if (packed.rows() > 0) {
    for (int64_t r = 0; r < count; ++r) packed.widen(first + r, cols, out + r * cols);
  } else {
    dequantize(info, first, count, out);
  }
}

}  // namespace

Buffer<char> rounded_copy(const Context& context, const TensorInfo& info, DType type) {
  constexpr int64_t kRows = 64;  // words of awq and gptq hold neighbouring rows
  const int64_t rows = info.shape[0], cols = info.elements() / rows;
  const bool packed = quantization_of(info.format) != Quantization::none;
  const QuantizedMatrix matrix = packed ? stored_matrix(info) : QuantizedMatrix();
  Buffer<char> values(rows * cols * static_cast<int64_t>(bytes_of(type)));
  context.parallel_for(divide_up(rows, kRows), [&](int64_t block) {
    const int64_t first = block * kRows, count = std::min(kRows, rows - first);
    std::vector<float> wide(static_cast<size_t>(count * cols));
    widen_rows(*context.kernels, info, matrix, first, count, cols, wide.data());
    narrow(*context.kernels, wide.data(), count * cols, type,
           values.data() + first * cols * static_cast<int64_t>(bytes_of(type)));
  });
  return values;
}

namespace {

[[noreturn]] void refuse_other(const TensorInfo& info, Quantization wanted) {
  throw Error(ErrorKind::invalid_argument,
              fmt::format("{} is stored in {}, the precision policy wants {}", info.name,
                          name_of(info.format), name_of(wanted)),
              "leave the preset and quantization out to compute as stored, or give the checkpoint that was "
              "quantized");
}

bool serves(DType stored, DType wanted) { return wanted == DType::f32 || stored == wanted; }

[[noreturn]] void refuse_quantization() {
  throw Error(
      ErrorKind::unsupported, "weights that are streamed cannot be quantized while they are read",
      "raise --ram until the quantized weights fit beside the stored ones, or leave the quantization out "
      "(--preset exact)");
}

}  // namespace

WeightLease::~WeightLease() {
  if (store_ != nullptr) store_->release();
}

// The mutex is held.
MatrixView WeightStore::in_memory(const std::string& tensor, DType type,
                                  std::shared_ptr<const void>& memory) const {
  const TensorInfo& info = checkpoint_.tensor(tensor);
  const auto shared = [&memory](auto& slot, const auto& make) {
    auto copy = slot.lock();
    if (!copy) {
      copy = std::make_shared<std::decay_t<decltype(make())>>(make());
      slot = copy;
    }
    memory = copy;
    return copy->data();
  };
  if (info.format != WeightFormat::plain) {
    const char* values =
        shared(dequantized_[{tensor, type}], [&] { return rounded_copy(context_, info, type); });
    return {values, type, info.shape[0], info.shape[1], info.shape[1]};
  }
  const MatrixView source = checkpoint_.matrix(tensor);
  if (serves(source.dtype, type)) return source;
  const uint16_t* values =
      shared(converted_[{tensor, type}], [&] { return converted(context_, source, type); });
  return {values, type, source.rows, source.cols, source.cols};
}

HeldMatrix WeightStore::matrix(const std::string& tensor, DType type) const {
  return rows(tensor, type, 0, checkpoint_.tensor(tensor).shape[0]);
}

void WeightStore::find_group(const std::string& tensor, int64_t first, Part& part) const {
  for (int64_t g = 0; g < std::ssize(groups_.all()); ++g) {
    for (const GroupPart& place : groups_[g].parts) {
      if (place.tensor->name != tensor || place.first_row != first || place.rows != part.view.rows) continue;
      part.group = g;
      part.at = place.at;
    }
  }
}

HeldMatrix WeightStore::rows(const std::string& tensor, DType type, int64_t first, int64_t count) const {
  const std::lock_guard lock(mutex_);
  const auto [found, made] = parts_.try_emplace({tensor, type, first, count});
  Part& part = found->second;
  std::shared_ptr<const void> memory = part.memory.lock();
  if (!made && (streams() || !part.converted || memory)) return {&part.view, memory};
  const MatrixView view = streams() ? checkpoint_.matrix(tensor) : in_memory(tensor, type, memory);
  part.stored = checkpoint_.tensor(tensor).dtype;
  part.view = {view.row(first), serves(part.stored, type) ? part.stored : type, count, view.cols, view.cols};
  part.converted = memory != nullptr;
  part.memory = memory;
  part.group = -1;
  find_group(tensor, first, part);
  if (streams()) part.view.data = nullptr;
  return {&part.view, memory};
}

std::shared_ptr<const QuantizedMatrix> WeightStore::quantized(const std::string& tensor, DType type,
                                                              Quantization quantization) const {
  if (streams()) refuse_quantization();
  const TensorInfo& info = checkpoint_.tensor(tensor);
  const Quantization stored = quantization_of(info.format);
  if (stored != Quantization::none && stored != quantization) refuse_other(info, quantization);
  const HeldMatrix source = stored == Quantization::none ? matrix(tensor, type) : HeldMatrix{};
  const std::lock_guard lock(mutex_);
  auto& slot = quantized_[{tensor, type, quantization}];
  std::shared_ptr<const QuantizedMatrix> made = slot.lock();
  if (!made) {
    made = std::make_shared<const QuantizedMatrix>(stored == Quantization::none
                                                       ? QuantizedMatrix(context_, *source.view, quantization)
                                                       : stored_matrix(info));
    slot = made;
  }
  return made;
}

std::vector<float> WeightStore::vector(const std::string& tensor, DType type) const {
  std::vector<float> values = checkpoint_.vector(tensor);
  for (float& value : values) value = rounded(value, type);
  return values;
}

void WeightStore::stream(std::unique_ptr<WeightSource> source) const {
  const std::lock_guard lock(mutex_);
  if (checkpoint_.quantized()) {
    throw Error(ErrorKind::unsupported, "a quantized checkpoint cannot be streamed",
                "raise --ram until it fits, or stream the checkpoint it was made from");
  }
  const bool quantizes = std::any_of(quantized_.begin(), quantized_.end(),
                                     [](const auto& entry) { return !entry.second.expired(); });
  if (quantizes) refuse_quantization();
  stream_ = std::make_unique<WeightStream>(groups_, std::move(source));
  for (auto& [key, part] : parts_) part.view.data = nullptr;
  for (auto& [key, copy] : converted_) {
    if (const auto held = copy.lock()) *held = {};
  }
  converted_.clear();
  checkpoint_.drop_pages();
}

void WeightStore::begin(ModelPart part, int64_t passes, const std::optional<WeightLimit>& limit) const {
  if (!streams()) return;
  const GroupRange range = part == ModelPart::vision ? groups_.vision() : groups_.text();
  const int64_t everything = groups_.total(groups_.vision()) + groups_.total(groups_.text());
  const int64_t allowed = limit ? (part == ModelPart::vision ? limit->vision : limit->text) : everything;
  const std::lock_guard use_lock(use_mutex_);
  stream_->begin(range, allowed, passes > 1);
}

WeightLease WeightStore::use(int64_t group, DType type, const std::function<void()>& while_waiting) const {
  if (!streams()) return {};
  use_mutex_.lock();
  WeightLease lease(*this);
  const char* memory = stream_->acquire(group, while_waiting);
  const std::lock_guard lock(mutex_);
  for (auto& [key, part] : parts_) {
    if (part.group != group || std::get<DType>(key) != type) continue;
    MatrixView& view = part.view;
    const MatrixView stored{memory + part.at, part.stored, view.rows, view.cols, view.cols};
    if (serves(part.stored, type)) {
      view.data = stored.data;
    } else {
      converted_for_use_.push_back(converted(context_, stored, type));
      view.data = converted_for_use_.back().data();
    }
    used_.push_back(&part);
  }
  return lease;
}

void WeightStore::release() const {
  for (Part* part : used_) part->view.data = nullptr;
  used_.clear();
  converted_for_use_.clear();
  stream_->release();
  use_mutex_.unlock();
}

void WeightStore::read_row(const std::string& tensor, DType type, int64_t row, float* out) const {
  const TensorInfo& info = checkpoint_.tensor(tensor);
  const int64_t columns = info.shape[1], bytes = columns * static_cast<int64_t>(bytes_of(info.dtype));
  Buffer<char> stored(bytes);
  stream_->source().read(info, row * bytes, bytes, stored.data());
  widen_row(*context_.kernels, {stored.data(), info.dtype, 1, columns, columns}, 0, out);
  for (int64_t i = 0; i < columns && type != DType::f32; ++i) out[i] = rounded(out[i], type);
}

}  // namespace fovea
