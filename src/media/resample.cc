#include "media/resample.h"

#include <algorithm>
#include <cmath>
#include <vector>

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
  int64_t outputs = 0, stride = 0;
  std::vector<int64_t> first, count;
  std::vector<Weight> weights;
};

template <typename Weight>
int64_t cost_of(const Taps<Weight>& taps) {
  return taps.outputs * taps.stride;
}

// When shrinking, the kernel is stretched by the scale, which makes it the antialiasing filter.
template <typename Real>
Taps<Real> make_taps(int64_t size_in, int64_t size_out) {
  const Real scale = static_cast<Real>(size_in) / static_cast<Real>(size_out);
  const Real stretch = std::max(scale, Real{1}), support = 2 * stretch, inverse = 1 / stretch;
  Taps<Real> taps{size_out, static_cast<int64_t>(std::ceil(support)) * 2 + 1, {}, {}, {}};
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

struct StoreFixed {
  int bits;
  int32_t initial() const { return 1 << (bits - 1); }
  void operator()(int32_t sum, uint8_t& out) const {
    out = static_cast<uint8_t>(std::clamp(sum >> bits, 0, 255));
  }
};

struct StoreFloat {
  float initial() const { return 0; }
  void operator()(float sum, float& out) const { out = sum; }
  void operator()(float sum, uint8_t& out) const {
    out = static_cast<uint8_t>(std::nearbyint(std::clamp(sum, 0.f, 255.f)));
  }
};

template <typename In, typename Out, typename Weight, typename Store>
void resample_row(const In* in, Out* out, const Taps<Weight>& taps, Store store) {
  for (int64_t i = 0; i < taps.outputs; ++i) {
    const In* pixel = in + taps.first[i] * 3;
    const Weight* weights = taps.weights.data() + i * taps.stride;
    Weight red = store.initial(), green = red, blue = red;
    for (int64_t k = 0; k < taps.count[i]; ++k, pixel += 3) {
      red += static_cast<Weight>(pixel[0]) * weights[k];
      green += static_cast<Weight>(pixel[1]) * weights[k];
      blue += static_cast<Weight>(pixel[2]) * weights[k];
    }
    store(red, out[i * 3]);
    store(green, out[i * 3 + 1]);
    store(blue, out[i * 3 + 2]);
  }
}

// Output row i from the rows of `in`, a block of columns at a time so that the sums stay in the nearest
// cache.
template <typename In, typename Weight, typename Store>
void resample_column(const In* in, int64_t row_size, uint8_t* out, int64_t i, const Taps<Weight>& taps,
                     Store store) {
  constexpr int64_t kBlock = 512;
  Weight sums[kBlock];
  const Weight* weights = taps.weights.data() + i * taps.stride;
  for (int64_t start = 0; start < row_size; start += kBlock) {
    const int64_t count = std::min(kBlock, row_size - start);
    std::fill_n(sums, count, store.initial());
    for (int64_t k = 0; k < taps.count[i]; ++k) {
      const In* row = in + (taps.first[i] + k) * row_size + start;
      for (int64_t x = 0; x < count; ++x) sums[x] += static_cast<Weight>(row[x]) * weights[k];
    }
    for (int64_t x = 0; x < count; ++x) store(sums[x], out[start + x]);
  }
}

struct FixedTaps {
  Taps<int32_t> taps;
  StoreFixed store;
};

FixedTaps make_fixed_taps(int64_t size_in, int64_t size_out, bool pil) {
  constexpr int kPilBits = 22;
  const auto real = make_taps<double>(size_in, size_out);
  const int bits = pil ? kPilBits : int16_bits(real);
  return {to_fixed_point(real, bits), StoreFixed{bits}};
}

Image resample_width(const Image& image, int64_t width, bool pil) {
  const FixedTaps fixed = make_fixed_taps(image.size.width, width, pil);
  Image result({image.size.height, width});
  for_each_row(image.size.height, cost_of(fixed.taps) * 3,
               [&](int64_t y) { resample_row(image.row(y), result.row(y), fixed.taps, fixed.store); });
  return result;
}

Image resample_height(const Image& image, int64_t height, bool pil) {
  const FixedTaps fixed = make_fixed_taps(image.size.height, height, pil);
  Image result({height, image.size.width});
  for_each_row(height, fixed.taps.stride * image.size.width * 3, [&](int64_t y) {
    resample_column(image.rgb.data(), image.size.width * 3, result.row(y), y, fixed.taps, fixed.store);
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

Image resample_float(const Image& image, ImageSize size) {
  const auto across = make_taps<float>(image.size.width, size.width);
  const auto down = make_taps<float>(image.size.height, size.height);
  Buffer<float> narrowed(image.size.height * size.width * 3);
  Image result(size);
  for_each_row(image.size.height, cost_of(across) * 3, [&](int64_t y) {
    resample_row(image.row(y), narrowed.data() + y * size.width * 3, across, StoreFloat{});
  });
  for_each_row(size.height, down.stride * size.width * 3, [&](int64_t y) {
    resample_column(narrowed.data(), size.width * 3, result.row(y), y, down, StoreFloat{});
  });
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
