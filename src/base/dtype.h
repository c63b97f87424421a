// The storage types of a checkpoint and the exact conversions between them (round to nearest even); fp64, in
// which some nodes of the computation can be asked for but in which no tensor is stored; and int8, in which
// the KV cache alone stores rows, each with an f32 scale beside it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace fovea {

enum class DType : uint8_t { f32, bf16, f16, f64, i8 };

// Of one element.
constexpr size_t bytes_of(DType type) {
  return type == DType::f32 ? 4 : type == DType::f64 ? 8 : type == DType::i8 ? 1 : 2;
}
// "fp32", "bf16", "fp16", "fp64", "int8": the names on the command line.
const char* name_of(DType type);
// A storage type of a checkpoint: throws Error(invalid_argument) for any other name, fp64 included;
// "float32", "bfloat16", "float16" are understood too.
DType parse_dtype(std::string_view name);
// Unit roundoff times two: the distance from 1 to the next number, 2^-23, 2^-7, 2^-10, 2^-52. Not of int8,
// whose steps are equal: there, that of the largest value of a row, 2^-6.
double epsilon_of(DType type);

inline float f32_from_bf16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

inline uint16_t bf16_from_f32(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);  // quiet NaN
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float f32_from_f16(uint16_t bits);
uint16_t f16_from_f32(float value);

// The value nearest to `value` that `type` can hold, as f32 (infinite where f16 overflows).
inline float rounded(float value, DType type) {
  switch (type) {
    case DType::f32:
    case DType::f64:
    case DType::i8:  // rows have a common scale: a value alone has no neighbours in it
      return value;
    case DType::bf16:
      return f32_from_bf16(bf16_from_f32(value));
    case DType::f16:
      return f32_from_f16(f16_from_f32(value));
  }
  return value;
}

}  // namespace fovea
