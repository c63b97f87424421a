// The pixel kernels in portable C++: their meaning, what runs without AVX2, and the edges of the others.
#pragma once

#include "kernels/pixels.h"

namespace fovea {
namespace {

uint8_t stored(int32_t sum, int bits) {
  const int32_t value = sum >> bits;
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

void resample_pixel(const uint8_t* row, uint8_t* out, int64_t i, const FixedTaps& taps) {
  const uint8_t* pixel = row + taps.first[i] * 3;
  const int32_t* weights = taps.weights + i * taps.stride;
  int32_t red = 1 << (taps.bits - 1), green = red, blue = red;
  for (int64_t k = 0; k < taps.count[i]; ++k, pixel += 3) {
    red += pixel[0] * weights[k];
    green += pixel[1] * weights[k];
    blue += pixel[2] * weights[k];
  }
  out[i * 3] = stored(red, taps.bits);
  out[i * 3 + 1] = stored(green, taps.bits);
  out[i * 3 + 2] = stored(blue, taps.bits);
}

// Bytes `begin` to `end` of output row i, a block at a time so that the sums stay in the nearest cache.
void resample_column_part(const uint8_t* in, int64_t row_bytes, uint8_t* out, int64_t i,
                          const FixedTaps& taps, int64_t begin, int64_t end) {
  constexpr int64_t kBlock = 512;
  int32_t sums[kBlock];
  const int32_t* weights = taps.weights + i * taps.stride;
  for (int64_t start = begin; start < end; start += kBlock) {
    const int64_t count = end - start < kBlock ? end - start : kBlock;
    for (int64_t x = 0; x < count; ++x) sums[x] = 1 << (taps.bits - 1);
    for (int64_t k = 0; k < taps.count[i]; ++k) {
      const uint8_t* row = in + (taps.first[i] + k) * row_bytes + start;
      for (int64_t x = 0; x < count; ++x) sums[x] += row[x] * weights[k];
    }
    for (int64_t x = 0; x < count; ++x) out[start + x] = stored(sums[x], taps.bits);
  }
}

void look_up_part(const uint8_t* rgb, int64_t count, const float* tables, float* planes, int64_t begin) {
  for (int64_t c = 0; c < 3; ++c) {
    for (int64_t x = begin; x < count; ++x) planes[c * count + x] = tables[c * 256 + rgb[x * 3 + c]];
  }
}

}  // namespace
}  // namespace fovea
