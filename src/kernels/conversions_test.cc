// Goal: every variant converts exactly as base/dtype.h, at every length and without touching its
// surroundings. Method: all 65536 patterns one way; random, special and midpoint f32 the other; lengths 0 to
// 40 between guard pages.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/guarded_memory_testing.h"
#include "kernels/random_testing.h"
#include "kernels/variants_testing.h"

namespace fovea {
namespace {

class Conversions : public testing::TestWithParam<Variant> {
 protected:
  const Kernels& kernels() const { return *GetParam().kernels; }
};
INSTANTIATE_TEST_SUITE_P(Variants, Conversions, testing::ValuesIn(all_variants()), kVariantName);

using Widen = void (*)(const uint16_t*, float*, int64_t);
using Narrow = void (*)(const float*, uint16_t*, int64_t);
using Round = void (*)(float*, int64_t);

// NaN stays NaN, whatever its payload; everything else, zeros' signs included, is equal in every bit.
bool same(float a, float b) {
  return std::isnan(b) ? std::isnan(a) : std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}
bool same(uint16_t a, uint16_t b, DType type) {
  const float wanted = type == DType::bf16 ? f32_from_bf16(b) : f32_from_f16(b);
  return std::isnan(wanted) ? std::isnan(type == DType::bf16 ? f32_from_bf16(a) : f32_from_f16(a)) : a == b;
}

void check_widening(Widen widen, float (*reference)(uint16_t)) {
  std::vector<uint16_t> patterns(0x10000);
  for (size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<uint16_t>(i);
  std::vector<float> wide(patterns.size());
  widen(patterns.data(), wide.data(), static_cast<int64_t>(patterns.size()));
  for (const uint16_t bits : patterns)
    ASSERT_TRUE(same(wide[bits], reference(bits))) << bits << ": " << wide[bits];
}

TEST_P(Conversions, WidenAllPatterns) {
  ASSERT_NO_FATAL_FAILURE(check_widening(kernels().f32_from_bf16, f32_from_bf16));
  ASSERT_NO_FATAL_FAILURE(check_widening(kernels().f32_from_f16, f32_from_f16));
}

// Each 16-bit value of either type, the midpoints between neighbours and both sides of them, and random bits.
std::vector<float> values_to_round() {
  std::vector<float> values{0.f,
                            -0.f,
                            std::numeric_limits<float>::denorm_min(),
                            std::numeric_limits<float>::max(),
                            std::bit_cast<float>(0x7f800001u),
                            std::bit_cast<float>(0xffffffffu),
                            65519.99f,
                            65520.f};
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float f16_low = f32_from_f16(static_cast<uint16_t>(bits));
    const float f16_high = f32_from_f16(static_cast<uint16_t>(bits + 1));
    const float f16_middle = (f16_low + f16_high) / 2;
    values.push_back(f16_low);
    for (const float towards : {-INFINITY, f16_middle, INFINITY})
      values.push_back(std::nextafter(f16_middle, towards));
    for (const uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      values.push_back(std::bit_cast<float>(bits << 16 | low));
    }
  }
  Random random("values_to_round");
  for (int i = 0; i < 1 << 20; ++i)
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(random.bits())));
  return values;
}

void check_narrowing(Narrow narrow, Round round, uint16_t (*reference)(float), DType type) {
  std::vector<float> values = values_to_round();
  std::vector<uint16_t> narrowed(values.size());
  narrow(values.data(), narrowed.data(), static_cast<int64_t>(values.size()));
  std::vector<float> in_place = values;
  round(in_place.data(), static_cast<int64_t>(values.size()));
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_TRUE(same(narrowed[i], reference(values[i]), type))
        << name_of(type) << " of " << values[i] << " at " << i;
    ASSERT_TRUE(same(in_place[i], rounded(values[i], type)))
        << name_of(type) << " of " << values[i] << " at " << i;
  }
}

TEST_P(Conversions, RoundToNearestEven) {
  ASSERT_NO_FATAL_FAILURE(
      check_narrowing(kernels().bf16_from_f32, kernels().round_bf16, bf16_from_f32, DType::bf16));
  ASSERT_NO_FATAL_FAILURE(
      check_narrowing(kernels().f16_from_f32, kernels().round_f16, f16_from_f32, DType::f16));
}

// Converts between arrays that end at guard pages; one element before the result must survive.
template <typename In, typename Out>
void check_length(void (*convert)(const In*, Out*, int64_t), Out (*reference)(In), int64_t count) {
  const GuardedArray<In> in(count);
  const GuardedArray<Out> out(count + 1, Out{77});
  for (int64_t i = 0; i < count; ++i) in[i] = static_cast<In>(i * 3 + 1000);
  convert(in.data(), out.data() + 1, count);
  ASSERT_EQ(out[0], Out{77}) << count;
  for (int64_t i = 0; i < count; ++i) ASSERT_EQ(out[i + 1], reference(in[i])) << count << " at " << i;
}

TEST_P(Conversions, EveryLengthStaysInItsMemory) {
  for (int64_t count = 0; count <= 40; ++count) {
    ASSERT_NO_FATAL_FAILURE((check_length<uint16_t, float>(kernels().f32_from_bf16, f32_from_bf16, count)));
    ASSERT_NO_FATAL_FAILURE((check_length<uint16_t, float>(kernels().f32_from_f16, f32_from_f16, count)));
    ASSERT_NO_FATAL_FAILURE((check_length<float, uint16_t>(kernels().bf16_from_f32, bf16_from_f32, count)));
    ASSERT_NO_FATAL_FAILURE((check_length<float, uint16_t>(kernels().f16_from_f32, f16_from_f32, count)));
    for (const auto& [round, type] :
         {std::pair(kernels().round_bf16, DType::bf16), std::pair(kernels().round_f16, DType::f16)}) {
      const GuardedArray<float> x(count + 1, 1000.7f);
      round(x.data() + 1, count);
      ASSERT_EQ(x[0], 1000.7f);
      for (int64_t i = 0; i < count; ++i) ASSERT_EQ(x[i + 1], rounded(1000.7f, type)) << count << " at " << i;
    }
  }
}

TEST_P(Conversions, EightBitsTimesTheirScale) {
  for (int64_t count = 0; count <= 40; ++count) {
    const GuardedArray<int8_t> in(count);
    const GuardedArray<float> out(count + 1, 77.f);
    for (int64_t i = 0; i < count; ++i) in[i] = static_cast<int8_t>(i * 37 - 127);
    kernels().f32_from_int8(in.data(), 0.3f, out.data() + 1, count);
    ASSERT_EQ(out[0], 77.f) << count;
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(out[i + 1], 0.3f * static_cast<float>(in[i])) << count << " at " << i;
    }
  }
}

}  // namespace
}  // namespace fovea
