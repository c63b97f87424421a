// Goal: every variant of the pixel kernels gives the bytes that their header defines and stays in its memory.
// Method: an independent sum in 64 bits; sizes around every block and vector width; inputs and outputs that
// end at guard pages; the extremes of weights and samples.
#include "kernels/pixels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "kernels/guarded_memory_testing.h"
#include "kernels/random_testing.h"
#include "kernels/variants_testing.h"

namespace fovea {

extern const PixelKernels kScalarPixelKernels;
#ifdef __x86_64__
extern const PixelKernels kAvx2PixelKernels;
#endif

namespace {

std::vector<const PixelKernels*> pixel_variants() {
  std::vector<const PixelKernels*> found{&kScalarPixelKernels};
#ifdef __x86_64__
  if (available_kernels().size() > 1) found.push_back(&kAvx2PixelKernels);
#endif
  return found;
}

class Pixels : public testing::TestWithParam<const PixelKernels*> {
 protected:
  const PixelKernels& kernels() const { return *GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Variants, Pixels, testing::ValuesIn(pixel_variants()),
                         [](const auto& instance) { return std::string(instance.param->name); });

// Random bytes, half of them 0 or 255.
void fill(const GuardedArray<uint8_t>& bytes, Random& random) {
  for (int64_t i = 0; i < bytes.size(); ++i) {
    const uint64_t bits = random.bits();
    bytes[i] = static_cast<uint8_t>(bits % 4 == 0 ? 255 : bits % 4 == 1 ? 0 : bits >> 8);
  }
}

// Taps of `longest` or fewer inputs, spread over `inputs`, random of both signs and any size that 32-bit sums
// allow; in guarded memory. The last output ends with the last input.
struct RandomTaps {
  GuardedArray<int32_t> weights;
  std::vector<int64_t> first, count;
  FixedTaps taps;

  RandomTaps(int64_t inputs, int64_t outputs, int64_t longest, int bits, Random& random)
      : weights(outputs * rounded_up(longest), 0) {
    const int64_t stride = rounded_up(longest), most = (int64_t{1} << 31) / 256 / longest - 1;
    const int32_t limit = static_cast<int32_t>(std::min<int64_t>(most, 1 << 23));
    for (int64_t i = 0; i < outputs; ++i) {
      const int64_t n = i + 1 == outputs ? longest : 1 + static_cast<int64_t>(random.bits() % longest);
      first.push_back(outputs == 1 ? inputs - n : (inputs - longest) * i / (outputs - 1));
      count.push_back(n);
      for (int64_t k = 0; k < n; ++k) weights[i * stride + k] = random_weight(limit, random);
    }
    taps = {weights.data(), first.data(), count.data(), outputs, stride, bits};
  }

  static int64_t rounded_up(int64_t n) {
    return (n + FixedTaps::kStep - 1) / FixedTaps::kStep * FixedTaps::kStep;
  }
  // Also those on both sides of a carry between the halves.
  static int32_t random_weight(int32_t limit, Random& random) {
    constexpr int32_t kSpecial[] = {0x7fff, 0x8000, -0x8000, -0x8001, 0xffff, 0x10000};
    const uint64_t bits = random.bits();
    if (bits % 8 == 0) return bits & 8 ? limit : -limit;
    const int32_t value = static_cast<int32_t>(static_cast<float>(limit) * random.value());
    return bits % 8 == 1 ? std::clamp(kSpecial[bits / 8 % 6], -limit, limit) : value;
  }
  // What the header says, from samples that lie `step` bytes apart.
  uint8_t expected(const uint8_t* samples, int64_t step, int64_t i) const {
    int64_t sum = int64_t{1} << (taps.bits - 1);
    for (int64_t k = 0; k < taps.count[i]; ++k)
      sum += int64_t{taps.weights[i * taps.stride + k]} * samples[(taps.first[i] + k) * step];
    return static_cast<uint8_t>(std::clamp<int64_t>(sum >> taps.bits, 0, 255));
  }
};

void check_rows(const PixelKernels& kernels, int64_t width, int64_t outputs, int64_t longest, int64_t rows,
                Random& random) {
  // The last output may end with the row or before it.
  const int64_t used = rows % 3 == 0 ? std::max(longest, width - 9) : width;
  const RandomTaps taps(used, outputs, longest, rows % 2 ? 22 : 15, random);
  const GuardedArray<uint8_t> in(rows * width * 3);
  fill(in, random);
  const GuardedArray<uint8_t> out(rows * outputs * 3 + 1, uint8_t{77});
  kernels.resample_rows(in.data(), width, out.data() + 1, rows, taps.taps);
  ASSERT_EQ(out[0], 77);
  for (int64_t at = 0; at < rows * outputs * 3; ++at) {
    const int64_t y = at / 3 / outputs, i = at / 3 % outputs, c = at % 3;
    ASSERT_EQ(out[at + 1], taps.expected(in.data() + y * width * 3 + c, 3, i))
        << width << " to " << outputs << " by " << longest << ", row " << y << " pixel " << i << " channel "
        << c;
  }
}

TEST_P(Pixels, RowsAreResampledExactly) {
  Random random("rows");
  for (int64_t longest = 1; longest <= 18; ++longest) {
    for (const int64_t width : {longest, longest + 1, longest + 3, longest + 8, int64_t{61}}) {
      for (const int64_t outputs : {1, 2, 3, 7, 40}) {
        for (const int64_t rows : {1, 3, 4, 5, 9})
          ASSERT_NO_FATAL_FAILURE(check_rows(kernels(), width, outputs, longest, rows, random));
      }
    }
  }
}

void check_column(const PixelKernels& kernels, int64_t row_bytes, int64_t longest, Random& random) {
  const int64_t rows = longest + 5, outputs = 6;
  const RandomTaps taps(rows, outputs, longest, longest % 2 ? 22 : 15, random);
  const GuardedArray<uint8_t> in(rows * row_bytes);
  fill(in, random);
  for (int64_t i = 0; i < outputs; ++i) {
    const GuardedArray<uint8_t> out(row_bytes + 1, uint8_t{77});
    kernels.resample_column(in.data(), row_bytes, out.data() + 1, i, taps.taps);
    ASSERT_EQ(out[0], 77);
    for (int64_t x = 0; x < row_bytes; ++x)
      ASSERT_EQ(out[x + 1], taps.expected(in.data() + x, row_bytes, i))
          << row_bytes << " bytes by " << longest << ", row " << i << " byte " << x;
  }
}

TEST_P(Pixels, ColumnsAreResampledExactly) {
  Random random("columns");
  for (int64_t longest = 1; longest <= 18; ++longest) {
    for (const int64_t row_bytes : {3, 30, 33, 63, 66, 96, 99, 600})
      ASSERT_NO_FATAL_FAILURE(check_column(kernels(), row_bytes, longest, random));
  }
}

TEST_P(Pixels, PlanesHoldTheTablesValuesBitForBit) {
  Random random("planes");
  const GuardedArray<float> tables(3 * 256);
  for (int64_t i = 0; i < tables.size(); ++i)
    tables[i] = std::bit_cast<float>(static_cast<uint32_t>(random.bits()));
  for (int64_t count = 0; count <= 70; ++count) {
    const GuardedArray<uint8_t> rgb(count * 3);
    fill(rgb, random);
    const GuardedArray<float> planes(count * 3 + 1, 77.f);
    kernels().look_up_planes(rgb.data(), count, tables.data(), planes.data() + 1);
    ASSERT_EQ(planes[0], 77.f);
    for (int64_t i = 0; i < count * 3; ++i) {
      const float* expected = &tables[i / count * 256 + rgb[i % count * 3 + i / count]];
      ASSERT_EQ(std::memcmp(&planes[i + 1], expected, sizeof(float)), 0) << count << " at " << i;
    }
  }
}

// Exits with 0 when a process that starts with FOVEA_ISA=wanted gets the pixel kernels `expected`.
[[noreturn]] void exit_with_pixels(const char* wanted, std::string_view expected) {
  setenv("FOVEA_ISA", wanted, 1);
  std::exit(pixel_kernels().name == expected ? 0 : 1);
}

TEST(PixelDispatch, FollowsTheOtherKernels) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const Kernels* variant : available_kernels()) {
    const std::string_view name = variant->name;
    const char* expected = name == "scalar" ? "scalar" : "avx2";
    EXPECT_EXIT(exit_with_pixels(variant->name, expected), testing::ExitedWithCode(0), "") << name;
  }
}

}  // namespace
}  // namespace fovea
