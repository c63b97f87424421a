#include "kernels/pixels-inl.h"

namespace fovea {
namespace {

void resample_rows(const uint8_t* in, int64_t width, uint8_t* out, int64_t rows, const FixedTaps& taps) {
  for (int64_t y = 0; y < rows; ++y, in += width * 3, out += taps.outputs * 3) {
    for (int64_t i = 0; i < taps.outputs; ++i) resample_pixel(in, out, i, taps);
  }
}

void resample_column(const uint8_t* in, int64_t row_bytes, uint8_t* out, int64_t i, const FixedTaps& taps) {
  resample_column_part(in, row_bytes, out, i, taps, 0, row_bytes);
}

void look_up_planes(const uint8_t* rgb, int64_t count, const float* tables, float* planes) {
  look_up_part(rgb, count, tables, planes, 0);
}

}  // namespace

extern const PixelKernels kScalarPixelKernels;
constinit const PixelKernels kScalarPixelKernels{"scalar", resample_rows, resample_column, look_up_planes};

}  // namespace fovea
