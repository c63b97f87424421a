// A 32-bit weight is the sum of two 16-bit ones, low + 65536 * high with low signed, so that VPMADDWD takes
// two taps at a time; both sums are exact modulo 2^32, and so is their combination.
#include <immintrin.h>

#include "kernels/pixels-inl.h"

namespace fovea {
namespace {

struct Weights {
  __m256i low, high;  // 16-bit pairs, one for each 32-bit sum
};

struct Sums {
  __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();

  // `pairs`: 16-bit samples, the two of one sum side by side.
  void add(__m256i pairs, const Weights& weights) {
    low = _mm256_add_epi32(low, _mm256_madd_epi16(pairs, weights.low));
    high = _mm256_add_epi32(high, _mm256_madd_epi16(pairs, weights.high));
  }
  __m256i total() const { return _mm256_add_epi32(low, _mm256_slli_epi32(high, 16)); }
};

// The halves of the first two weights for every sum of the lower 128-bit lane; of the two at `upper` (0 or 2)
// of its own lane for those of the upper one.
Weights split(__m256i weights, int upper) {
  const int low_halves = 0x05040100, high_halves = 0x07060302, further = upper * 0x04040404;
  const __m256i pick_low = _mm256_set_m128i(_mm_set1_epi32(low_halves + further), _mm_set1_epi32(low_halves));
  const __m256i pick_high =
      _mm256_set_m128i(_mm_set1_epi32(high_halves + further), _mm_set1_epi32(high_halves));
  const __m256i carried = _mm256_add_epi32(weights, _mm256_set1_epi32(0x8000));
  return {_mm256_shuffle_epi8(weights, pick_low), _mm256_shuffle_epi8(carried, pick_high)};
}

__m256i broadcast_16_bytes(const void* p) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}

// ---- across
// -------------------------------------------------------------------------------------------------

// Of four RGB pixels, twice: 16-bit pairs red, green, blue, nothing; of pixels 0 and 1, then of 2 and 3.
__m256i pairs_of_pixels(__m256i pixels) {
  const char z = -1;                                                                     // zero
  const __m256i pick = _mm256_setr_epi8(0, z, 3, z, 1, z, 4, z, 2, z, 5, z, z, z, z, z,  //
                                        6, z, 9, z, 7, z, 10, z, 8, z, 11, z, z, z, z, z);
  return _mm256_shuffle_epi8(pixels, pick);
}

// The two lanes of each sum added: that of `a` below, that of `b` above.
__m256i add_lanes(__m256i a, __m256i b) {
  return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

void store_pixel(uint8_t* out, int rgb0) { __builtin_memcpy(out, &rgb0, 4); }

// Pixel i of kRows rows. Reads up to 16 bytes from every fourth tap on and writes one byte behind the pixel.
template <int kRows>
void resample_pixels(const uint8_t* in, int64_t in_bytes, uint8_t* out, int64_t out_bytes, int64_t i,
                     const FixedTaps& taps) {
  static_assert(kRows == 4 || kRows == 1);
  const uint8_t* pixel = in + taps.first[i] * 3;
  const int32_t* weights = taps.weights + i * taps.stride;
  Sums sums[kRows];
  for (int64_t k = 0; k < taps.count[i]; k += FixedTaps::kStep) {
    const Weights pairs = split(broadcast_16_bytes(weights + k), 2);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
      sums[r].add(pairs_of_pixels(broadcast_16_bytes(pixel + r * in_bytes + k * 3)), pairs);
  }
  const __m256i half = _mm256_set1_epi32(1 << (taps.bits - 1));
  const __m128i bits = _mm_cvtsi32_si128(taps.bits);
  const auto shifted = [&](const Sums& a, const Sums& b) {
    return _mm256_sra_epi32(_mm256_add_epi32(add_lanes(a.total(), b.total()), half), bits);
  };
  const __m256i even = shifted(sums[0], sums[kRows / 2]),
                odd = kRows == 1 ? even : shifted(sums[kRows / 4], sums[kRows - 1]);
  const __m256i words = _mm256_packs_epi32(even, odd), bytes = _mm256_packus_epi16(words, words);
  out += i * 3;
  store_pixel(out, _mm256_extract_epi32(bytes, 0));
  if constexpr (kRows == 4) {
    store_pixel(out + out_bytes, _mm256_extract_epi32(bytes, 1));
    store_pixel(out + 2 * out_bytes, _mm256_extract_epi32(bytes, 4));
    store_pixel(out + 3 * out_bytes, _mm256_extract_epi32(bytes, 5));
  }
}

template <int kRows>
void resample_row_block(const uint8_t* in, int64_t width, uint8_t* out, const FixedTaps& taps) {
  const int64_t in_bytes = width * 3, out_bytes = taps.outputs * 3;
  for (int64_t i = 0; i < taps.outputs; ++i) {
    const int64_t steps = (taps.count[i] + FixedTaps::kStep - 1) / FixedTaps::kStep;
    const bool reads_inside = (taps.first[i] + steps * FixedTaps::kStep) * 3 + 4 <= in_bytes;
    if (reads_inside && i + 1 < taps.outputs) {
      resample_pixels<kRows>(in, in_bytes, out, out_bytes, i, taps);
    } else {
      for (int r = 0; r < kRows; ++r) resample_pixel(in + r * in_bytes, out + r * out_bytes, i, taps);
    }
  }
}

void resample_rows(const uint8_t* in, int64_t width, uint8_t* out, int64_t rows, const FixedTaps& taps) {
  constexpr int kBlock = PixelKernels::kRowBlock;
  int64_t y = 0;
  for (; y + kBlock <= rows; y += kBlock)
    resample_row_block<kBlock>(in + y * width * 3, width, out + y * taps.outputs * 3, taps);
  for (; y < rows; ++y) resample_row_block<1>(in + y * width * 3, width, out + y * taps.outputs * 3, taps);
}

// ---- down
// ---------------------------------------------------------------------------------------------------

constexpr int64_t kColumns = 32;  // bytes of a row at a time

// kColumns bytes of an output row; `in` and `out` point at the first of them.
void resample_columns(const uint8_t* in, int64_t row_bytes, uint8_t* out, const int32_t* weights,
                      int64_t count, int bits) {
  const __m256i zero = _mm256_setzero_si256();
  Sums sums[4];  // of columns 0-3 and 16-19, 4-7 and 20-23, 8-11 and 24-27, 12-15 and 28-31
  for (int64_t k = 0; k < count; k += 2) {
    const auto* row = reinterpret_cast<const __m256i*>(in + k * row_bytes);
    const auto* next = reinterpret_cast<const __m256i*>(in + (k + 1) * row_bytes);
    const __m256i a = _mm256_loadu_si256(row), b = k + 1 < count ? _mm256_loadu_si256(next) : zero;
    long long two;
    __builtin_memcpy(&two, weights + k, sizeof two);
    const Weights pairs = split(_mm256_set1_epi64x(two), 0);
    const __m256i left = _mm256_unpacklo_epi8(a, b), right = _mm256_unpackhi_epi8(a, b);
    sums[0].add(_mm256_unpacklo_epi8(left, zero), pairs);
    sums[1].add(_mm256_unpackhi_epi8(left, zero), pairs);
    sums[2].add(_mm256_unpacklo_epi8(right, zero), pairs);
    sums[3].add(_mm256_unpackhi_epi8(right, zero), pairs);
  }
  const __m256i half = _mm256_set1_epi32(1 << (bits - 1));
  const auto shifted = [&](const Sums& s) {
    return _mm256_sra_epi32(_mm256_add_epi32(s.total(), half), _mm_cvtsi32_si128(bits));
  };
  const __m256i left = _mm256_packs_epi32(shifted(sums[0]), shifted(sums[1])),
                right = _mm256_packs_epi32(shifted(sums[2]), shifted(sums[3]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_packus_epi16(left, right));
}

void resample_column(const uint8_t* in, int64_t row_bytes, uint8_t* out, int64_t i, const FixedTaps& taps) {
  if (row_bytes < kColumns) return resample_column_part(in, row_bytes, out, i, taps, 0, row_bytes);
  const uint8_t* top = in + taps.first[i] * row_bytes;
  for (int64_t x = 0; x < row_bytes; x += kColumns) {
    // The last block ends with the row and may compute some bytes again.
    const int64_t start = x + kColumns <= row_bytes ? x : row_bytes - kColumns;
    resample_columns(top + start, row_bytes, out + start, taps.weights + i * taps.stride, taps.count[i],
                     taps.bits);
  }
}

// ---- planes
// -------------------------------------------------------------------------------------------------

void look_up_planes(const uint8_t* rgb, int64_t count, const float* tables, float* planes) {
  int64_t x = 0;
  // Eight pixels at a time, four in each lane; the second load ends four bytes behind them.
  for (; x * 3 + 28 <= count * 3; x += 8) {
    const auto* pixels = reinterpret_cast<const __m128i*>(rgb + x * 3);
    const auto* others = reinterpret_cast<const __m128i*>(rgb + x * 3 + 12);
    const __m256i both = _mm256_set_m128i(_mm_loadu_si128(others), _mm_loadu_si128(pixels));
    const char z = -1;  // zero
    const __m128i reds = _mm_setr_epi8(0, z, z, z, 3, z, z, z, 6, z, z, z, 9, z, z, z);
    for (int c = 0; c < 3; ++c) {
      const __m256i pick = _mm256_broadcastsi128_si256(_mm_add_epi32(reds, _mm_set1_epi32(c)));
      const __m256 values = _mm256_i32gather_ps(tables + c * 256, _mm256_shuffle_epi8(both, pick), 4);
      _mm256_storeu_ps(planes + c * count + x, values);
    }
  }
  look_up_part(rgb, count, tables, planes, x);
}

}  // namespace

extern const PixelKernels kAvx2PixelKernels;
constinit const PixelKernels kAvx2PixelKernels{"avx2", resample_rows, resample_column, look_up_planes};

}  // namespace fovea
