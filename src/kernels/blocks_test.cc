// Goal: every variant unpacks blocks to the bits that their definition gives, rounded once, whatever the
// bytes. Method: widen_blocks of random bytes, scales that are not finite included, over memory that ends at
// an inaccessible page.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "kernels/guarded_memory_testing.h"
#include "kernels/random_testing.h"
#include "kernels/variants_testing.h"

namespace fovea {
namespace {

class Blocks : public testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(Variants, Blocks, testing::ValuesIn(all_variants()), kVariantName);

// NaN has many bits, and which of them a sum of two has is the machine's choice.
uint32_t bits_of(float value) { return std::isnan(value) ? 0x7fc00000u : std::bit_cast<uint32_t>(value); }

TEST_P(Blocks, AreTheirDefinitionRoundedOnce) {
  for (const auto format : {BlockFormat::q8_0, BlockFormat::q4_k, BlockFormat::q5_k, BlockFormat::q6_k}) {
    Random random(name_of(format));
    const int64_t blocks = 600, count = blocks * elements_of(format);
    const GuardedArray<uint8_t> bytes(blocks * bytes_of(format));
    for (int64_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(random.bits() >> 32);
    std::vector<float> exact(static_cast<size_t>(count));
    widen_blocks(format, bytes.data(), count, exact.data());
    const GuardedArray<float> wide(count);
    const GuardedArray<uint16_t> narrow(count);
    GetParam().kernels->unpack_blocks(format, bytes.data(), count, DType::f32, wide.data());
    for (int64_t i = 0; i < count; ++i)
      ASSERT_EQ(bits_of(wide[i]), bits_of(exact[static_cast<size_t>(i)])) << name_of(format) << " " << i;
    for (const DType type : {DType::bf16, DType::f16}) {
      GetParam().kernels->unpack_blocks(format, bytes.data(), count, type, narrow.data());
      for (int64_t i = 0; i < count; ++i) {
        const float ours = type == DType::bf16 ? f32_from_bf16(narrow[i]) : f32_from_f16(narrow[i]);
        ASSERT_EQ(bits_of(ours), bits_of(rounded(exact[static_cast<size_t>(i)], type)))
            << name_of(format) << " " << name_of(type) << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace fovea
