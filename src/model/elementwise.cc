#include "model/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/kernels.h"

namespace fovea {

namespace {

void round_row(float* x, int64_t count, DType type) {
  if (type == DType::bf16) kernels().round_bf16(x, count);
  if (type == DType::f16) kernels().round_f16(x, count);
}

// Runs body(begin, count) over pieces that stay in the L1 cache.
template <typename Body>
void for_pieces(int64_t count, Body body) {
  constexpr int64_t kPiece = 2048, kPiecesPerTask = 16;
  const int64_t pieces = (count + kPiece - 1) / kPiece;
  parallel_for((pieces + kPiecesPerTask - 1) / kPiecesPerTask, [&](int64_t task) {
    const int64_t last = std::min(pieces, (task + 1) * kPiecesPerTask);
    for (int64_t piece = task * kPiecesPerTask; piece < last; ++piece) {
      body(piece * kPiece, std::min(kPiece, count - piece * kPiece));
    }
  });
}

// Eight interleaved partial sums: a fixed order that compilers vectorise.
float mean_of_squares(const float* x, int64_t count) {
  float partial[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int64_t l = 0; l < 8; ++l) partial[l] += x[i + l] * x[i + l];
  }
  for (int64_t l = 0; i < count; ++i, ++l) partial[l] += x[i] * x[i];
  const float low = (partial[0] + partial[1]) + (partial[2] + partial[3]);
  const float high = (partial[4] + partial[5]) + (partial[6] + partial[7]);
  return (low + high) / static_cast<float>(count);
}

double exact_mean_of_squares(const float* x, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += double{x[i]} * double{x[i]};
  return sum / static_cast<double>(count);
}

}  // namespace

void rms_norm(const float* x, const std::vector<float>& weight, float eps, DType type, float* out,
              int64_t rows, DType statistics) {
  const auto width = static_cast<int64_t>(weight.size());
  parallel_for(rows, [&](int64_t r) {
    const float* in = x + r * width;
    float* to = out + r * width;
    if (statistics == DType::f64) {
      const double inverse = 1 / std::sqrt(exact_mean_of_squares(in, width) + double{eps});
      for (int64_t i = 0; i < width; ++i) to[i] = static_cast<float>(double{in[i]} * inverse);
    } else {
      const float inverse = 1.f / std::sqrt(mean_of_squares(in, width) + eps);
      for (int64_t i = 0; i < width; ++i) to[i] = in[i] * inverse;
    }
    round_row(to, width, type);
    for (int64_t i = 0; i < width; ++i) to[i] *= weight[static_cast<size_t>(i)];
    round_row(to, width, type);
  });
}

void add_residual(float* residual, const float* update, int64_t count, DType type) {
  for_pieces(count, [&](int64_t begin, int64_t n) {
    for (int64_t i = begin; i < begin + n; ++i) residual[i] += update[i];
    round_row(residual + begin, n, type);
  });
}

void silu_times(float* gate, const float* up, int64_t count, DType type) {
  for_pieces(count, [&](int64_t begin, int64_t n) {
    float* g = gate + begin;
    float negative[2048];
    // exp(88) is still finite in f32; beyond it the quotient is zero to f32 anyway.
    for (int64_t i = 0; i < n; ++i) negative[i] = -g[i] > 88.f ? 88.f : -g[i];
    kernels().exp_sum(negative, n, 1.f, 0.f);
    for (int64_t i = 0; i < n; ++i) g[i] /= 1.f + negative[i];
    round_row(g, n, type);
    for (int64_t i = 0; i < n; ++i) g[i] *= up[begin + i];
    round_row(g, n, type);
  });
}

void gelu(float* x, int64_t count, DType type) {
  for_pieces(count, [&](int64_t begin, int64_t n) {
    for (int64_t i = begin; i < begin + n; ++i) x[i] *= 0.5f * (1.f + std::erf(x[i] * 0.70710678118654752f));
    round_row(x + begin, n, type);
  });
}

std::vector<double> inverse_frequencies(double theta, int64_t dim, DType type) {
  std::vector<double> result;
  for (int64_t i = 0; i < dim; i += 2) {
    if (type == DType::f64) {
      result.push_back(std::pow(theta, -static_cast<double>(i) / static_cast<double>(dim)));
      continue;
    }
    const float exponent = static_cast<float>(i) / static_cast<float>(dim);
    const float inverse = 1.f / static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
    result.push_back(double{rounded(inverse, type)});
  }
  return result;
}

double rope_angle(int64_t position, double inverse_frequency, DType type) {
  if (type == DType::f64) return static_cast<double>(position) * inverse_frequency;
  return double{static_cast<float>(position) * static_cast<float>(inverse_frequency)};
}

void set_rope_row(RopeTable& table, int64_t row, const std::vector<double>& angles, DType tables) {
  for (int64_t i = 0; i < table.pairs; ++i) {
    const double angle = angles[static_cast<size_t>(i)];
    const auto at = static_cast<size_t>(row * table.pairs + i);
    table.cos[at] = rounded(static_cast<float>(std::cos(angle)), tables);
    table.sin[at] = rounded(static_cast<float>(std::sin(angle)), tables);
  }
}

namespace {

constexpr int64_t kRopePairs = 64;  // at a time, on the stack

void rotate(float* first, float* second, const float* cos, const float* sin, int64_t pairs, DType steps) {
  float products[4 * kRopePairs];
  float *first_cos = products, *second_cos = first_cos + pairs, *second_sin = second_cos + pairs,
        *first_sin = second_sin + pairs;
  for (int64_t i = 0; i < pairs; ++i) {
    first_cos[i] = first[i] * cos[i];
    second_cos[i] = second[i] * cos[i];
    second_sin[i] = -second[i] * sin[i];
    first_sin[i] = first[i] * sin[i];
  }
  round_row(products, 4 * pairs, steps);
  for (int64_t i = 0; i < pairs; ++i) {
    first[i] = first_cos[i] + second_sin[i];
    second[i] = second_cos[i] + first_sin[i];
  }
}

}  // namespace

void apply_rope(float* x, int64_t rows, int64_t heads, int64_t stride, const RopeTable& table, DType steps,
                DType result) {
  const int64_t pairs = table.pairs;
  parallel_for(rows, [&](int64_t r) {
    const float* cos = table.cos.data() + r * pairs;
    const float* sin = table.sin.data() + r * pairs;
    for (int64_t h = 0; h < heads; ++h) {
      float *first = x + r * stride + h * 2 * pairs, *second = first + pairs;
      for (int64_t begin = 0; begin < pairs; begin += kRopePairs) {
        rotate(first + begin, second + begin, cos + begin, sin + begin, std::min(kRopePairs, pairs - begin),
               steps);
      }
      round_row(first, 2 * pairs, result);
    }
  });
}

void round_columns(float* x, int64_t rows, int64_t width, int64_t stride, DType type) {
  if (type == DType::f32) return;
  parallel_for(rows, [&](int64_t r) { round_row(x + r * stride, width, type); });
}

bool all_finite(const float* x, int64_t count) {
  // All exponent bits set is the mark of NaN and infinity; the loop stays in integers so that it vectorises.
  uint32_t found = 0;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    found |= (bits & 0x7f800000u) == 0x7f800000u;
  }
  return found == 0;
}

void require_finite(const float* x, int64_t count, const char* stage) {
  if (all_finite(x, count)) return;
  refuse_non_finite(stage,
                    "use --dtype bf16 or fp32 (fp16 overflows beyond 65504); if it remains, the weights "
                    "themselves are damaged");
}

void refuse_non_finite(const std::string& stage, const std::string& remedy) {
  throw Error(ErrorKind::numeric, stage + ": a NaN or infinite value appeared", remedy);
}

}  // namespace fovea
