#include "media/resample.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/pixels.h"
#include "media/row_bands.h"

namespace fovea {
namespace {

// Keys' cubic convolution kernel, in the factored form both libraries evaluate.
template <typename Real>
Real cubic(Real x) {
  constexpr Real a = Real{-0.5};
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// Output sample i is the sum of weights[i * stride + k] * input[first[i] + k] for k < count[i].
template <typename Weight>
struct Taps {
  int64_t outputs = 0, stride = 0;  // the stride is a multiple of FixedTaps::kStep
  std::vector<int64_t> first, count;
  std::vector<Weight> weights;  // zero from count[i] on
};

// When shrinking, the kernel is stretched by the scale, which makes it the antialiasing filter.
template <typename Real>
Taps<Real> make_taps(int64_t size_in, int64_t size_out) {
  const Real scale = static_cast<Real>(size_in) / static_cast<Real>(size_out);
  const Real stretch = std::max(scale, Real{1}), support = 2 * stretch, inverse = 1 / stretch;
  constexpr int64_t kStep = FixedTaps::kStep;
  const int64_t longest = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  Taps<Real> taps{size_out, (longest + kStep - 1) / kStep * kStep, {}, {}, {}};
  taps.weights.resize(static_cast<size_t>(taps.stride * size_out));
  for (int64_t i = 0; i < size_out; ++i) {
    const Real centre = (static_cast<Real>(i) + Real{0.5}) * scale;
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(centre - support + Real{0.5}), 0);
    const int64_t last = std::min(static_cast<int64_t>(centre + support + Real{0.5}), size_in);
    Real* weights = taps.weights.data() + i * taps.stride;
    Real total = 0;
    for (int64_t k = 0; k < last - first; ++k) {
      weights[k] = cubic((static_cast<Real>(k + first) - centre + Real{0.5}) * inverse);
      total += weights[k];
    }
    for (int64_t k = 0; k < last - first && total != 0; ++k) weights[k] /= total;
    taps.first.push_back(first);
    taps.count.push_back(last - first);
  }
  return taps;
}

// PyTorch keeps weights in int16: the most fractional bits (at most 22) with which the largest still fits.
int int16_bits(const Taps<double>& taps) {
  const double largest = *std::max_element(taps.weights.begin(), taps.weights.end());
  int bits = 0;
  while (bits < 22 &&
         static_cast<int64_t>(0.5 + largest * static_cast<double>(int64_t{2} << bits)) < (1 << 15)) {
    ++bits;
  }
  return bits;
}

Taps<int32_t> to_fixed_point(const Taps<double>& real, int bits) {
  Taps<int32_t> fixed{real.outputs, real.stride, real.first, real.count, {}};
  fixed.weights.reserve(real.weights.size());
  for (const double weight : real.weights) {
    const double scaled = weight * static_cast<double>(1 << bits);
    fixed.weights.push_back(static_cast<int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5));
  }
  return fixed;
}

// The taps of one pass in the form the kernels take.
class FixedPass {
 public:
  FixedPass(int64_t size_in, int64_t size_out, bool pil) {
    constexpr int kPilBits = 22;
    const auto real = make_taps<double>(size_in, size_out);
    bits_ = pil ? kPilBits : int16_bits(real);
    taps_ = to_fixed_point(real, bits_);
  }
  FixedTaps view() const {
    return {taps_.weights.data(), taps_.first.data(), taps_.count.data(), taps_.outputs, taps_.stride, bits_};
  }

 private:
  Taps<int32_t> taps_;
  int bits_;
};

// The kernels make about so many multiplications in the time of one operation of for_each_row's costs.
constexpr int64_t kProductsPerOperation = 8;

Image resample_width(const Image& image, int64_t width, bool pil) {
  const FixedPass pass(image.size.width, width, pil);
  const FixedTaps taps = pass.view();
  Image result({image.size.height, width});
  const int64_t cost = taps.outputs * taps.stride * 3 / kProductsPerOperation;
  for_each_band(image.size.height, cost, PixelKernels::kRowBlock, [&](int64_t first, int64_t count) {
    pixel_kernels().resample_rows(image.row(first), image.size.width, result.row(first), count, taps);
  });
  return result;
}

Image resample_height(const Image& image, int64_t height, bool pil) {
  const FixedPass pass(image.size.height, height, pil);
  const FixedTaps taps = pass.view();
  const int64_t row_bytes = image.size.width * 3;
  Image result({height, image.size.width});
  for_each_row(height, row_bytes * taps.stride / kProductsPerOperation, [&](int64_t y) {
    pixel_kernels().resample_column(image.rgb.data(), row_bytes, result.row(y), y, taps);
  });
  return result;
}

Image resample_fixed(const Image& image, ImageSize size, Bicubic arithmetic) {
  const bool pil = arithmetic != Bicubic::torch_u8;
  if (size.width == image.size.width) return resample_height(image, size.height, pil);
  if (size.height == image.size.height) return resample_width(image, size.width, pil);
  const int64_t rows_saved = image.size.height - size.height, columns_saved = image.size.width - size.width;
  if (arithmetic == Bicubic::pil && rows_saved > 0 && rows_saved > 2 * columns_saved) {
    return resample_width(resample_height(image, size.height, pil), size.width, pil);
  }
  return resample_height(resample_width(image, size.width, pil), size.height, pil);
}

void resample_row(const uint8_t* in, float* out, const Taps<float>& taps) {
  for (int64_t i = 0; i < taps.outputs; ++i) {
    const uint8_t* pixel = in + taps.first[i] * 3;
    const float* weights = taps.weights.data() + i * taps.stride;
    float red = 0, green = 0, blue = 0;
    for (int64_t k = 0; k < taps.count[i]; ++k, pixel += 3) {
      red += static_cast<float>(pixel[0]) * weights[k];
      green += static_cast<float>(pixel[1]) * weights[k];
      blue += static_cast<float>(pixel[2]) * weights[k];
    }
    out[i * 3] = red;
    out[i * 3 + 1] = green;
    out[i * 3 + 2] = blue;
  }
}

// Output row i from the rows of `in`, a block of columns at a time so that the sums stay in the nearest
// cache.
void resample_column(const float* in, int64_t row_size, uint8_t* out, int64_t i, const Taps<float>& taps) {
  constexpr int64_t kBlock = 512;
  float sums[kBlock];
  const float* weights = taps.weights.data() + i * taps.stride;
  for (int64_t start = 0; start < row_size; start += kBlock) {
    const int64_t count = std::min(kBlock, row_size - start);
    std::fill_n(sums, count, 0.f);
    for (int64_t k = 0; k < taps.count[i]; ++k) {
      const float* row = in + (taps.first[i] + k) * row_size + start;
      for (int64_t x = 0; x < count; ++x) sums[x] += row[x] * weights[k];
    }
    for (int64_t x = 0; x < count; ++x)
      out[start + x] = static_cast<uint8_t>(std::nearbyint(std::clamp(sums[x], 0.f, 255.f)));
  }
}

Image resample_float(const Image& image, ImageSize size) {
  const auto across = make_taps<float>(image.size.width, size.width);
  const auto down = make_taps<float>(image.size.height, size.height);
  Buffer<float> narrowed(image.size.height * size.width * 3);
  Image result(size);
  for_each_row(image.size.height, across.outputs * across.stride * 3,
               [&](int64_t y) { resample_row(image.row(y), narrowed.data() + y * size.width * 3, across); });
  for_each_row(size.height, down.stride * size.width * 3,
               [&](int64_t y) { resample_column(narrowed.data(), size.width * 3, result.row(y), y, down); });
  return result;
}

}  // namespace

Image resample_bicubic(const Image& image, ImageSize size, Bicubic arithmetic) {
  FOVEA_CHECK(size.height > 0 && size.width > 0 && image.size.height > 0 && image.size.width > 0);
  if (size == image.size) {
    Image copy(size);
    std::copy_n(image.rgb.data(), image.rgb.size(), copy.rgb.data());
    return copy;
  }
  if (arithmetic == Bicubic::torch_f32) return resample_float(image, size);
  return resample_fixed(image, size, arithmetic);
}

}  // namespace fovea
