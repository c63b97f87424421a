#include "model/quantized_matrix.h"

#include <algorithm>
#include <cstring>

#include "base/rounding.h"

namespace fovea {

namespace {

constexpr int64_t kColumns = kQuantColumns, kGroup = kQuantGroup;
// Bytes of 16 columns: a depth of 4 in 8 bits (or of 8 in 4 bits) is one record of 64 bytes.
constexpr int64_t kRecord = 4 * kColumns;

// Four values from -8 to 7 as nibbles of v + 8, one to a byte.
uint32_t nibbles_of(const int8_t* values) {
  uint32_t four;
  std::memcpy(&four, values, sizeof four);
  return (four ^ 0x08080808u) & 0x0f0f0f0fu;
}

int64_t value_bytes(int64_t columns, int64_t depth, Quantization quantization) {
  return quantization == Quantization::w8a8 ? columns * depth : columns * depth / 2;
}
int64_t scale_bytes(int64_t columns, int64_t depth, Quantization quantization) {
  return quantization == Quantization::w8a8 ? columns * int64_t{sizeof(float)}
                                            : columns * (depth / kGroup) * int64_t{sizeof(uint16_t)};
}

}  // namespace

void widen_row(const Kernels& kernels, const MatrixView& view, int64_t row, float* out) {
  switch (view.dtype) {
    case DType::f32:
      std::copy_n(static_cast<const float*>(view.row(row)), view.cols, out);
      break;
    case DType::bf16:
      kernels.f32_from_bf16(static_cast<const uint16_t*>(view.row(row)), out, view.cols);
      break;
    case DType::f16:
      kernels.f32_from_f16(static_cast<const uint16_t*>(view.row(row)), out, view.cols);
      break;
    case DType::f64:
    case DType::i8:
      FOVEA_CHECK(!"no weight is stored in fp64 or int8");
  }
}

QuantizedMatrix::QuantizedMatrix(const Context& context, const MatrixView& source, Quantization quantization)
    : quantization_(quantization), rows_(source.rows), depth_(round_up(source.cols, kGroup)) {
  FOVEA_CHECK(quantization != Quantization::none);
  const bool int8 = quantization == Quantization::w8a8;
  own_values_.resize(value_bytes(columns(), depth_, quantization));
  own_scales_.resize(scale_bytes(columns(), depth_, quantization));
  values_ = own_values_.data();
  scales_ = own_scales_.data();
  const Kernels& kernels = *context.kernels;
  context.parallel_for(columns() / kColumns, [&](int64_t block) {
    int8 ? pack_int8(kernels, source, block) : pack_int4(kernels, source, block);
  });
}

QuantizedMatrix QuantizedMatrix::borrowed(const void* values, const void* scales, int64_t rows, int64_t cols,
                                          Quantization quantization) {
  QuantizedMatrix matrix;
  matrix.quantization_ = quantization;
  matrix.rows_ = rows;
  matrix.depth_ = round_up(cols, kGroup);
  matrix.values_ = static_cast<const char*>(values);
  matrix.scales_ = static_cast<const char*>(scales);
  return matrix;
}

int64_t QuantizedMatrix::columns() const { return round_up(rows_, kColumns); }

std::span<const char> QuantizedMatrix::packed_values() const {
  return {values_, static_cast<size_t>(value_bytes(columns(), depth_, quantization_))};
}
std::span<const char> QuantizedMatrix::packed_scales() const {
  return {scales_, static_cast<size_t>(scale_bytes(columns(), depth_, quantization_))};
}

void QuantizedMatrix::widen(int64_t row, int64_t cols, float* out) const {
  const int64_t block = row / kColumns, n = row % kColumns, groups = depth_ / kGroup;
  if (quantization_ == Quantization::w8a8) {
    const auto* values = reinterpret_cast<const int8_t*>(values_) + block * kColumns * depth_ + 4 * n;
    float scale;
    std::memcpy(&scale, scales_ + row * int64_t{sizeof scale}, sizeof scale);
    for (int64_t k = 0; k < cols; ++k) out[k] = scale * values[k / 4 * kRecord + k % 4];
    return;
  }
  const auto* values = reinterpret_cast<const uint8_t*>(values_) + block * kColumns * depth_ / 2 + 4 * n;
  for (int64_t k = 0; k < cols; ++k) {
    const int64_t group = k / kGroup, within = k % kGroup, low = within % (kGroup / 2);
    const uint8_t both = values[group * kGroup / 2 * kColumns + low / 4 * kRecord + low % 4];
    uint16_t scale;
    std::memcpy(&scale, scales_ + ((block * groups + group) * kColumns + n) * int64_t{sizeof scale},
                sizeof scale);
    const int value = (within == low ? both & 15 : both >> 4) - 8;
    out[k] = f32_from_bf16(scale) * static_cast<float>(value);
  }
}

// Output channels [16 block, 16 block + 16); those beyond the last are zero.
void QuantizedMatrix::pack_int8(const Kernels& kernels, const MatrixView& source, int64_t block) {
  std::vector<float> wide(static_cast<size_t>(depth_));
  std::vector<int8_t> row(static_cast<size_t>(depth_));
  std::vector<int32_t> sums(static_cast<size_t>(depth_ / kGroup));
  char* values = own_values_.data() + block * kColumns * depth_;
  auto* scales = reinterpret_cast<float*>(own_scales_.data()) + block * kColumns;
  for (int64_t n = 0; n < kColumns; ++n) {
    const int64_t channel = block * kColumns + n;
    if (channel < rows_) widen_row(kernels, source, channel, wide.data());
    if (channel >= rows_) std::fill(wide.begin(), wide.end(), 0.f);
    scales[n] = kernels.quantize_row(wide.data(), depth_, row.data(), sums.data());
    for (int64_t k = 0; k < depth_; k += 4) std::memcpy(values + k * kColumns + 4 * n, row.data() + k, 4);
  }
}

void QuantizedMatrix::pack_int4(const Kernels& kernels, const MatrixView& source, int64_t block) {
  const int64_t groups = depth_ / kGroup;
  std::vector<float> wide(static_cast<size_t>(depth_));
  char* values = own_values_.data() + block * kColumns * depth_ / 2;
  auto* scales = reinterpret_cast<uint16_t*>(own_scales_.data()) + block * groups * kColumns;
  for (int64_t n = 0; n < kColumns; ++n) {
    const int64_t channel = block * kColumns + n;
    if (channel < rows_) widen_row(kernels, source, channel, wide.data());
    if (channel >= rows_) std::fill(wide.begin(), wide.end(), 0.f);
    for (int64_t g = 0; g < groups; ++g) {
      int8_t group[kGroup];
      const float scale = kernels.quantize_group(wide.data() + g * kGroup, group);
      scales[g * kColumns + n] = bf16_from_f32(scale);
      char* to = values + g * kGroup / 2 * kColumns + 4 * n;
      for (int64_t k = 0; k < kGroup / 2; k += 4) {
        const uint32_t both = nibbles_of(group + k) | nibbles_of(group + kGroup / 2 + k) << 4;
        std::memcpy(to + k / 4 * kRecord, &both, sizeof both);
      }
    }
  }
}

int64_t QuantizedMatrix::bytes_for(int64_t rows, int64_t cols, Quantization quantization) {
  const int64_t columns = round_up(rows, kColumns), depth = round_up(cols, kGroup);
  return value_bytes(columns, depth, quantization) + scale_bytes(columns, depth, quantization);
}

void QuantizedMatrix::multiply(const Kernels& kernels, QuantizedProduct p, int64_t first) const {
  p.values = values_ + value_bytes(first, depth_, quantization_);
  p.scales = scales_ + scale_bytes(first, depth_, quantization_);
  (quantization_ == Quantization::w8a8 ? kernels.matmul_int8 : kernels.matmul_int4)(p);
}

Upcoming QuantizedMatrix::memory_of(int64_t first, int64_t count) const {
  return {values_ + value_bytes(first, depth_, quantization_),
          value_bytes(round_up(count, kColumns), depth_, quantization_)};
}

}  // namespace fovea
