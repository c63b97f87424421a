#include "model/elementwise.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/error.h"

namespace fovea {

namespace {

// Calls body(begin, count) for pieces that are worth a task each.
template <typename Body>
void for_pieces(const Context& context, int64_t count, int64_t piece, Body body) {
  context.parallel_for((count + piece - 1) / piece,
                       [&](int64_t i) { body(i * piece, std::min(piece, count - i * piece)); });
}
constexpr int64_t kElementsPerTask = 1 << 15, kRowsPerTask = 8;

double exact_mean_of_squares(const float* x, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += double{x[i]} * double{x[i]};
  return sum / static_cast<double>(count);
}

}  // namespace

void rms_norm(const Context& context, const float* x, const std::vector<float>& weight, float eps, DType type,
              float* out, int64_t rows, DType statistics) {
  const auto width = static_cast<int64_t>(weight.size());
  const auto norm_row = [&](const float* in, float* to) {
    if (statistics == DType::f64) {
      const double inverse = 1 / std::sqrt(exact_mean_of_squares(in, width) + double{eps});
      for (int64_t i = 0; i < width; ++i) to[i] = static_cast<float>(double{in[i]} * inverse);
      return context.kernels->scale_and_weigh(to, 1.f, weight.data(), to, width, type);
    }
    const float mean = context.kernels->sum_of_squares(in, width) / static_cast<float>(width);
    context.kernels->scale_and_weigh(in, 1.f / std::sqrt(mean + eps), weight.data(), to, width, type);
  };
  for_pieces(context, rows, kRowsPerTask, [&](int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r) norm_row(x + r * width, out + r * width);
  });
}

bool add_residual(const Context& context, float* residual, const float* update, int64_t count, DType type) {
  std::atomic<bool> finite = true;
  for_pieces(context, count, kElementsPerTask, [&](int64_t begin, int64_t n) {
    constexpr int64_t kInL1 = 2048;
    for (int64_t i = begin; i < begin + n; i += kInL1) {
      const int64_t now = std::min(kInL1, begin + n - i);
      context.kernels->add_rounded(residual + i, update + i, now, type);
      if (!context.kernels->all_finite(residual + i, now)) finite = false;
    }
  });
  return finite;
}

void silu_times(const Context& context, float* gate, const float* up, int64_t count, DType type) {
  for_pieces(context, count, kElementsPerTask, [&](int64_t begin, int64_t n) {
    context.kernels->silu_times(gate + begin, up + begin, n, type);
  });
}

void gelu(const Context& context, float* x, int64_t count, DType type) {
  for_pieces(context, count, kElementsPerTask / 16, [&](int64_t begin, int64_t n) {
    for (int64_t i = begin; i < begin + n; ++i) x[i] *= 0.5f * (1.f + std::erf(x[i] * 0.70710678118654752f));
    round_serial(*context.kernels, x + begin, n, type);
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

void set_rope_row(RopeTable& table, int64_t row, const std::vector<double>& angles, DType tables,
                  float scale) {
  for (int64_t i = 0; i < table.pairs; ++i) {
    const double angle = angles[static_cast<size_t>(i)];
    const auto at = static_cast<size_t>(row * table.pairs + i);
    table.cos[at] = rounded(static_cast<float>(std::cos(angle)) * scale, tables);
    table.sin[at] = rounded(static_cast<float>(std::sin(angle)) * scale, tables);
  }
}

void apply_rope(const Context& context, float* x, int64_t first, int64_t rows, int64_t heads, int64_t stride,
                const RopeTable& table, DType steps, DType result) {
  const int64_t pairs = table.pairs;
  for_pieces(context, rows, kRowsPerTask, [&](int64_t begin, int64_t count) {
    for (int64_t r = begin; r < begin + count; ++r) {
      const int64_t angles = (first + r) * pairs;
      context.kernels->rotate(x + r * stride, heads, table.cos.data() + angles, table.sin.data() + angles,
                              pairs, steps, result);
    }
  });
}

void round_columns(const Context& context, float* x, int64_t rows, int64_t width, int64_t stride,
                   DType type) {
  if (type == DType::f32) return;
  for_pieces(context, rows, kRowsPerTask, [&](int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r)
      round_serial(*context.kernels, x + r * stride, width, type);
  });
}

void round_serial(const Kernels& kernels, float* x, int64_t count, DType type) {
  if (type == DType::bf16) kernels.round_bf16(x, count);
  if (type == DType::f16) kernels.round_f16(x, count);
}

void narrow_row(const Kernels& kernels, const float* x, int64_t count, DType type, void* out) {
  switch (type) {
    case DType::f32:
      std::copy_n(x, count, static_cast<float*>(out));
      return;
    case DType::bf16:
      return kernels.bf16_from_f32(x, static_cast<uint16_t*>(out), count);
    case DType::f16:
      return kernels.f16_from_f32(x, static_cast<uint16_t*>(out), count);
    case DType::i8:
    case DType::f64:
      FOVEA_CHECK(!"no row is stored alone in int8, none in fp64");
  }
}

void round_to(const Context& context, float* x, int64_t count, DType type) {
  if (type == DType::f32) return;
  for_pieces(context, count, kElementsPerTask,
             [&](int64_t begin, int64_t n) { round_serial(*context.kernels, x + begin, n, type); });
}

bool all_finite(const Kernels& kernels, const float* x, int64_t count) {
  return kernels.all_finite(x, count);
}

void require_finite(const Kernels& kernels, const float* x, int64_t count, const char* stage) {
  if (all_finite(kernels, x, count)) return;
  refuse_non_finite(stage,
                    "use --dtype bf16 or fp32 (fp16 overflows beyond 65504); if it remains, the weights "
                    "themselves are damaged");
}

void refuse_non_finite(const std::string& stage, const std::string& remedy) {
  throw Error(ErrorKind::numeric, stage + ": a NaN or infinite value appeared", remedy);
}

}  // namespace fovea
