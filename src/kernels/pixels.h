// Leaf kernels of 8-bit RGB pictures (interleaved, rows without padding): the two passes of a resampling and
// the split into normalised planes. Like the other kernels they allocate nothing, start no thread and keep no
// state; pointers need no alignment. Every variant gives the same bytes.
#pragma once

#include <cstdint>

namespace fovea {

// One pass in fixed point. Output sample i is (half + sum_k weights[i * stride + k] * input[first[i] + k]) >>
// bits, half = 1 << (bits - 1), brought into 0 to 255; k < count[i].
struct FixedTaps {
  const int32_t* weights;  // [outputs, stride]; zero where k >= count[i]; the sums must fit 32 bits
  const int64_t *first, *count;
  int64_t outputs, stride;  // stride is a multiple of kStep
  int bits;                 // 1 to 22

  static constexpr int64_t kStep = 4;
};

struct PixelKernels {
  const char* name;  // "scalar", "avx2"

  // Across: `rows` rows of `width` pixels become `rows` rows of taps.outputs pixels. Fastest for multiples of
  // kRowBlock rows.
  void (*resample_rows)(const uint8_t* in, int64_t width, uint8_t* out, int64_t rows, const FixedTaps& taps);
  // Down: output row i of the input rows in[first[i]], ... of `row_bytes` bytes each.
  void (*resample_column)(const uint8_t* in, int64_t row_bytes, uint8_t* out, int64_t i,
                          const FixedTaps& taps);
  // planes[c * count + x] = tables[c * 256 + rgb[3 * x + c]] for the three channels c and x < count.
  void (*look_up_planes)(const uint8_t* rgb, int64_t count, const float* tables, float* planes);

  static constexpr int64_t kRowBlock = 4;
};

// The form that goes with kernels(): the choice of FOVEA_ISA holds here too, and so do its errors. Variants
// beyond AVX2 use the AVX2 form.
const PixelKernels& pixel_kernels();

}  // namespace fovea
