#include "attention/rows.h"

#include <algorithm>

namespace fovea {

void gather_queries(const AttentionProblem& problem, const QueryTile& tile, float* out) {
  const int64_t group = problem.q.heads / problem.k.heads;
  const int64_t columns = group * problem.q.head_dim;
  for (int64_t i = 0; i < tile.queries; ++i) {
    const auto* row = static_cast<const float*>(problem.q.at(tile.first_query + i, tile.kv_head * group));
    std::copy_n(row, columns, out + i * columns);
  }
}

double value_at(const HeadsView& view, int64_t token, int64_t head, int64_t column) {
  const void* row = view.at(token, head);
  if (view.dtype == DType::f32) return static_cast<const float*>(row)[column];
  if (view.dtype == DType::i8) {
    return double{view.scale_at(token, head) * static_cast<const int8_t*>(row)[column]};
  }
  const uint16_t bits = static_cast<const uint16_t*>(row)[column];
  return view.dtype == DType::bf16 ? f32_from_bf16(bits) : f32_from_f16(bits);
}

void pack_rows(const Kernels& kernels, const HeadsView& view, int64_t head, int64_t heads, int64_t first,
               int64_t count, float* out) {
  const int64_t d = view.head_dim;
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t h = 0; h < heads; ++h) {
      const void* row = view.at(first + i, head + h);
      float* to = out + (h * kKeyTile + i) * d;
      switch (view.dtype) {
        case DType::f32:
          std::copy_n(static_cast<const float*>(row), d, to);
          break;
        case DType::bf16:
          kernels.f32_from_bf16(static_cast<const uint16_t*>(row), to, d);
          break;
        case DType::f16:
          kernels.f32_from_f16(static_cast<const uint16_t*>(row), to, d);
          break;
        case DType::i8:
          kernels.f32_from_int8(static_cast<const int8_t*>(row), view.scale_at(first + i, head + h), to, d);
          break;
        case DType::f64:
          FOVEA_CHECK(!"no tensor is stored in fp64");
      }
    }
  }
}

void add_key_bias(const AttentionProblem& problem, int64_t head, int64_t first, int64_t count, float factor,
                  float* out) {
  const int64_t d = problem.k.head_dim, pairs = d / 2;
  const float *low = problem.key_bias.bias + head * d, *high = low + pairs;
  for (int64_t i = 0; i < count; ++i, out += d) {
    const float* cos = problem.key_bias.cos_of(first + i, pairs);
    const float* sin = problem.key_bias.sin_of(first + i, pairs);
    for (int64_t p = 0; p < pairs; ++p) {
      out[p] += factor * (low[p] * cos[p] - high[p] * sin[p]);
      out[p + pairs] += factor * (high[p] * cos[p] + low[p] * sin[p]);
    }
  }
}

void pack_keys(const AttentionProblem& problem, int64_t head, int64_t heads, int64_t first, int64_t count,
               float* out) {
  const int64_t d = problem.k.head_dim;
  pack_rows(*problem.context.kernels, problem.k, head, heads, first, count, out);
  for (int64_t h = 0; problem.key_bias.present() && h < heads; ++h) {
    add_key_bias(problem, head + h, first, count, 1.f, out + h * kKeyTile * d);
  }
}

double key_at(const AttentionProblem& problem, int64_t token, int64_t head, int64_t column) {
  const double stored = value_at(problem.k, token, head, column);
  if (!problem.key_bias.present()) return stored;
  const int64_t d = problem.k.head_dim, pairs = d / 2, pair = column % pairs;
  const float* bias = problem.key_bias.bias + head * d;
  const double low = double{bias[pair]}, high = double{bias[pair + pairs]},
               cos = double{problem.key_bias.cos_of(token, pairs)[pair]},
               sin = double{problem.key_bias.sin_of(token, pairs)[pair]};
  return stored + (column < pairs ? low * cos - high * sin : high * cos + low * sin);
}

void score_rows(const AttentionProblem& problem, const float* x, int64_t rows, int64_t head, int64_t first,
                int64_t count, float* y, int64_t ldy, float* scratch) {
  // Few rows read each key once or twice: then packing costs more than it saves. The bits are the same.
  constexpr int64_t kFewRows = 4;
  const HeadsView& k = problem.k;
  const Kernels& kernels = *problem.context.kernels;
  const int64_t d = k.head_dim;
  if (rows > kFewRows || k.dtype == DType::f32 || k.dtype == DType::i8 || problem.key_bias.present()) {
    pack_keys(problem, head, 1, first, count, scratch);
    kernels.matmul_nt_f32(x, d, scratch, d, y, ldy, rows, count, d);
    return;
  }
  const auto matmul = k.dtype == DType::bf16 ? kernels.matmul_nt_bf16 : kernels.matmul_nt_f16;
  matmul(x, d, static_cast<const uint16_t*>(k.at(first, head)), k.stride, y, ldy, rows, count, d,
         nullptr);  // no variant widens a copy for so few rows
}

void weigh_rows(const Kernels& kernels, const float* p, int64_t ldp, int64_t rows, const HeadsView& v,
                int64_t head, int64_t first, int64_t count, float* y, float* scratch) {
  const int64_t d = v.head_dim;
  pack_rows(kernels, v, head, 1, first, count, scratch);
  kernels.matmul_nn_f32(p, ldp, scratch, d, y, d, rows, d, count);
}

void round_to(const Kernels& kernels, DType type, float* x, int64_t count) {
  switch (type) {
    case DType::f32:
    case DType::f64:
    case DType::i8:
      return;
    case DType::bf16:
      kernels.round_bf16(x, count);
      return;
    case DType::f16:
      kernels.round_f16(x, count);
      return;
  }
}

void write_output(const AttentionProblem& problem, const QueryTile& tile, const float* rows,
                  const float* sums) {
  FOVEA_CHECK(problem.out != nullptr);
  const int64_t group = problem.q.heads / problem.k.heads, d = problem.q.head_dim;
  for (int64_t r = 0; r < tile.queries * group; ++r) {
    const int64_t token = tile.first_query + r / group, head = tile.kv_head * group + r % group;
    float* out = problem.out + (token * problem.q.heads + head) * d;
    problem.context.kernels->scale(rows + r * d, sums[r] == 0.f ? 0.f : 1.f / sums[r], out, d,
                                   problem.precision.output);
  }
}

}  // namespace fovea
