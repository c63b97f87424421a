#include "checkpoint/quantized_tensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>

#include "base/error.h"
#include "base/rounding.h"
#include "checkpoint/tensor_names.h"

namespace fovea {
namespace {

using Method = QuantizationConfig::Method;

constexpr const char* kRemedy = "download the file again; config.json must belong to these weights";

const std::vector<std::string>& suffixes(Method method) {
  static const std::vector<std::string> own{"weight_packed", "weight_scale"},
      published{"qweight", "qzeros", "scales", "g_idx"}, none;
  return method == Method::none ? none : method == Method::fovea ? own : published;
}

// The nibble of a word of AWQ that holds each of its eight columns.
constexpr std::array<int, 8> kAwqNibble{0, 4, 1, 5, 2, 6, 3, 7};

[[noreturn]] void corrupt(const std::string& what) { throw Error(ErrorKind::corrupt, what, kRemedy); }

float scale_at(const QuantizedParts& parts, int64_t index) {
  switch (parts.scale_type) {
    case DType::bf16:
      return f32_from_bf16(static_cast<const uint16_t*>(parts.scales)[index]);
    case DType::f16:
      return f32_from_f16(static_cast<const uint16_t*>(parts.scales)[index]);
    default:
      return static_cast<const float*>(parts.scales)[index];
  }
}

// Field number `place` of `bits` each in a word.
int field(uint32_t word, int64_t place, int64_t bits) {
  return static_cast<int>(word >> (place * bits)) & ((1 << bits) - 1);
}

// The value of AWQ at column k for output channel n, or the zero point of group k.
int awq_value(const int32_t* words, int64_t k, int64_t n, int64_t out) {
  return field(static_cast<uint32_t>(words[k * (out / 8) + n / 8]), kAwqNibble[static_cast<size_t>(n % 8)],
               4);
}

int gptq_value(const QuantizedParts& parts, int64_t k, int64_t n, int64_t out) {
  const int64_t per_word = 32 / parts.bits;
  const auto* words = static_cast<const int32_t*>(parts.values);
  return field(static_cast<uint32_t>(words[k / per_word * out + n]), k % per_word, parts.bits);
}

// The first version wrote words of zero points with one subtracted from each field; a zero borrowed from its
// neighbour, to which adding all ones to the word as a whole gives it back.
int gptq_zero(const QuantizedParts& parts, int64_t group, int64_t n, int64_t out) {
  const int64_t per_word = 32 / parts.bits;
  const auto ones = parts.bits == 4 ? 0x11111111u : 0x01010101u;
  const auto word = static_cast<uint32_t>(parts.zeros[group * (out / per_word) + n / per_word]);
  return field(word + (parts.zeros_minus_one ? ones : 0), n % per_word, parts.bits);
}

// Zero points and scales of output channels [first, first + count).
struct GroupTerms {
  std::vector<int> zeros;
  std::vector<float> scales;

  void read(const TensorInfo& tensor, int64_t group, int64_t first) {
    const int64_t out = tensor.shape[0];
    for (size_t i = 0; i < zeros.size(); ++i) {
      const int64_t n = first + static_cast<int64_t>(i);
      zeros[i] = tensor.format == WeightFormat::awq ? awq_value(tensor.parts.zeros, group, n, out)
                                                    : gptq_zero(tensor.parts, group, n, out);
      scales[i] = scale_at(tensor.parts, group * out + n);
    }
  }
};

}  // namespace

const char* name_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::plain:
      return "plain";
    case WeightFormat::w8a8:
      return "w8a8";
    case WeightFormat::int4:
      return "int4";
    case WeightFormat::awq:
      return "awq";
    case WeightFormat::gptq:
      return "gptq";
    case WeightFormat::blocks:
      return "blocks";
  }
  return "?";
}

void dequantize(const TensorInfo& tensor, int64_t first, int64_t count, float* out) {
  const QuantizedParts& parts = tensor.parts;
  const int64_t channels = tensor.shape[0], columns = tensor.shape[1];
  if (tensor.format == WeightFormat::blocks) {
    const int64_t row_bytes = parts.bytes / channels;
    widen_blocks(tensor.blocks, static_cast<const char*>(parts.values) + first * row_bytes, count * columns,
                 out);
    return;
  }
  const bool awq = tensor.format == WeightFormat::awq;
  FOVEA_CHECK(awq || tensor.format == WeightFormat::gptq);
  GroupTerms terms{std::vector<int>(static_cast<size_t>(count)),
                   std::vector<float>(static_cast<size_t>(count))};
  int64_t group = -1;
  for (int64_t k = 0; k < columns; ++k) {
    const int64_t own = parts.groups != nullptr ? parts.groups[k] : k / parts.group_size;
    if (own != group) terms.read(tensor, group = own, first);
    for (int64_t i = 0; i < count; ++i) {
      const int value = awq ? awq_value(static_cast<const int32_t*>(parts.values), k, first + i, channels)
                            : gptq_value(parts, k, first + i, channels);
      const auto at = static_cast<size_t>(i);
      out[i * columns + k] = static_cast<float>(value - terms.zeros[at]) * terms.scales[at];
    }
  }
}

PackedLayout packed_layout(WeightFormat format, int64_t out, int64_t in) {
  const int64_t blocks = divide_up(out, kPackedColumns), groups = divide_up(in, kPackedGroup);
  if (format == WeightFormat::w8a8) {
    return {StoredType::i8,
            StoredType::f32,
            {blocks, groups * kPackedGroup / 4, kPackedColumns, 4},
            {blocks * kPackedColumns}};
  }
  FOVEA_CHECK(format == WeightFormat::int4);
  return {StoredType::u8,
          StoredType::bf16,
          {blocks, groups, kPackedGroup / 8, kPackedColumns, 4},
          {blocks, groups, kPackedColumns}};
}

bool QuantizedTensors::take(const StoredTensor& stored, const std::string& file) {
  const size_t dot = stored.name.rfind('.');
  if (dot == std::string::npos) return false;
  const std::string suffix = stored.name.substr(dot + 1), stem = stored.name.substr(0, dot);
  const auto& known = suffixes(config_.quantization.method);
  if (std::find(known.begin(), known.end(), suffix) == known.end()) return false;
  const std::optional<std::string> name = canonical_tensor_name(stem + ".weight");
  if (!name) return false;
  Matrix& matrix = matrices_[*name];
  if (!matrix.parts.emplace(suffix, &stored).second) corrupt(fmt::format("tensor {} occurs twice", *name));
  matrix.stem = stem;
  matrix.file = file;
  return true;
}

void QuantizedTensors::assemble(const std::vector<ExpectedTensor>& expected,
                                std::vector<TensorInfo>& tensors) const {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const ExpectedTensor& tensor : expected) shapes.emplace(tensor.name, tensor.shape);
  shapes.emplace("lm_head.weight", std::vector{config_.text.vocab_size, config_.text.hidden_size});
  for (const auto& [name, matrix] : matrices_) {
    const auto shape = shapes.find(name);
    if (shape == shapes.end() || shape->second.size() != 2 || name.ends_with("embed_tokens.weight")) {
      throw Error(ErrorKind::unsupported,
                  fmt::format("{} stores {} quantized, which is no projection of this model", matrix.file,
                              matrix.stem.substr(0, 200)),
                  "use a checkpoint whose projections alone are quantized");
    }
    TensorInfo info;
    info.name = name;
    info.file_name = matrix.stem;
    info.file = matrix.file;
    info.shape = shape->second;
    switch (config_.quantization.method) {
      case Method::awq:
        read_awq(matrix, info);
        break;
      case Method::gptq:
        read_gptq(matrix, info);
        break;
      default:
        read_own(matrix, info);
    }
    for (const auto& [suffix, stored] : matrix.parts) info.parts.bytes += stored->bytes;
    tensors.push_back(std::move(info));
  }
}

const StoredTensor& QuantizedTensors::part(const Matrix& matrix, const std::string& suffix, StoredType type,
                                           const std::vector<int64_t>& shape) const {
  const std::string name = fmt::format("{}.{}", matrix.stem.substr(0, 200), suffix);
  const auto found = matrix.parts.find(suffix);
  if (found == matrix.parts.end()) {
    throw Error(ErrorKind::not_found, fmt::format("tensor {} is missing beside the others", name), kRemedy);
  }
  const StoredTensor& stored = *found->second;
  if (stored.type == type && stored.shape == shape) return stored;
  corrupt(fmt::format("tensor {} in {} is {} [{}], config.json implies {} [{}]", name, matrix.file,
                      name_of(stored.type), fmt::join(stored.shape, ", "), name_of(type),
                      fmt::join(shape, ", ")));
}

// In fp16 as published, or another type of weights.
const void* QuantizedTensors::scales(const Matrix& matrix, const std::vector<int64_t>& shape,
                                     TensorInfo& info) const {
  const auto found = matrix.parts.find("scales");
  const bool stated = found != matrix.parts.end();
  if (stated) info.parts.scale_type = weight_dtype(found->second->type, found->second->name);
  return part(matrix, "scales", stated ? found->second->type : StoredType::f16, shape).data;
}

void QuantizedTensors::read_own(const Matrix& matrix, TensorInfo& info) const {
  const auto values = matrix.parts.find("weight_packed");
  const bool int4 = values != matrix.parts.end() && values->second->type == StoredType::u8;
  info.format = int4 ? WeightFormat::int4 : WeightFormat::w8a8;
  info.parts.bits = int4 ? 4 : 8;
  info.parts.group_size = int4 ? kPackedGroup : info.shape[1];
  const PackedLayout layout = packed_layout(info.format, info.shape[0], info.shape[1]);
  info.parts.values = part(matrix, "weight_packed", layout.value_type, layout.values).data;
  info.parts.scales = part(matrix, "weight_scale", layout.scale_type, layout.scales).data;
}

void QuantizedTensors::read_awq(const Matrix& matrix, TensorInfo& info) const {
  const int64_t out = info.shape[0], in = info.shape[1],
                size = config_.quantization.group_size > 0 ? config_.quantization.group_size : in;
  if (out % 8 != 0 || in % size != 0) {
    corrupt(
        fmt::format("{} has {} output channels and {} inputs: AWQ needs multiples of 8 and of group_size {}",
                    matrix.stem, out, in, size));
  }
  info.format = WeightFormat::awq;
  info.parts.bits = 4;
  info.parts.group_size = size;
  info.parts.values = part(matrix, "qweight", StoredType::i32, {in, out / 8}).data;
  info.parts.zeros = part(matrix, "qzeros", StoredType::i32, {in / size, out / 8}).as<int32_t>();
  info.parts.scales = scales(matrix, {in / size, out}, info);
}

void QuantizedTensors::read_gptq(const Matrix& matrix, TensorInfo& info) const {
  const int64_t out = info.shape[0], in = info.shape[1], bits = config_.quantization.bits,
                per_word = 32 / bits,
                size = config_.quantization.group_size > 0 ? config_.quantization.group_size : in,
                groups = divide_up(in, size);
  if (out % per_word != 0 || in % per_word != 0) {
    corrupt(fmt::format("{} has {} output channels and {} inputs: GPTQ of {} bits needs multiples of {}",
                        matrix.stem, out, in, bits, per_word));
  }
  info.format = WeightFormat::gptq;
  info.parts.bits = bits;
  info.parts.group_size = size;
  info.parts.zeros_minus_one = config_.quantization.zeros_minus_one;
  info.parts.values = part(matrix, "qweight", StoredType::i32, {in / per_word, out}).data;
  info.parts.zeros = part(matrix, "qzeros", StoredType::i32, {groups, out / per_word}).as<int32_t>();
  info.parts.scales = scales(matrix, {groups, out}, info);
  if (matrix.parts.count("g_idx") == 0) return;
  info.parts.groups = part(matrix, "g_idx", StoredType::i32, {in}).as<int32_t>();
  for (int64_t k = 0; k < in; ++k) {
    const int32_t group = info.parts.groups[k];
    if (group >= 0 && group < groups) continue;
    corrupt(fmt::format("{}.g_idx puts column {} into group {} of {}", matrix.stem, k, group, groups));
  }
}

}  // namespace fovea
