// The node-by-node operations between projections and attention, on f32 containers, rows in parallel on the
// context's threads. Each rounds to the policy's dtype exactly where transformers stores a tensor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/precision.h"
#include "kernels/context.h"

namespace fovea {

// out = r(w * r(x / sqrt(mean(x^2) + eps))): Qwen2RMSNorm, statistics in f32 or f64, two roundings. x, out:
// [rows, width].
void rms_norm(const Context& context, const float* x, const std::vector<float>& weight, float eps, DType type,
              float* out, int64_t rows, DType statistics = DType::f32);

// residual = r(residual + update), in place; whether every sum is finite.
bool add_residual(const Context& context, float* residual, const float* update, int64_t count, DType type);

// gate = r(r(silu(gate)) * up), in place.
void silu_times(const Context& context, float* gate, const float* up, int64_t count, DType type);

// x = r(gelu(x)), the exact erf form, in place.
void gelu(const Context& context, float* x, int64_t count, DType type);

// cos and sin of the rotary angles, [rows, head_dim / 2], rounded to `tables`.
struct RopeTable {
  std::vector<float> cos, sin;
  int64_t pairs = 0;  // head_dim / 2
};

// 1 / theta^(2i / dim) for i < dim / 2: in f32 as transformers computes it, rounded to `type`; exact for f64.
std::vector<double> inverse_frequencies(double theta, int64_t dim, DType type);
// position * inverse_frequency, in f32 unless `type` is f64.
double rope_angle(int64_t position, double inverse_frequency, DType type);

// Fills row `row` from angles; cos and sin are multiplied by `scale` before they are rounded.
void set_rope_row(RopeTable& table, int64_t row, const std::vector<double>& angles, DType tables,
                  float scale = 1);

// x: [rows, heads, 2 * pairs] with `stride` between rows, whose angles are the table's from row `first` on;
// rotates pair (i, i + pairs) in place. With steps fp32 the rotation is computed in f32 and rounded once to
// `result`; otherwise both products and their sum are rounded.
void apply_rope(const Context& context, float* x, int64_t first, int64_t rows, int64_t heads, int64_t stride,
                const RopeTable& table, DType steps, DType result);

// x = the nearest value of `type` in the first `width` columns of `rows` rows `stride` apart, in place.
void round_columns(const Context& context, float* x, int64_t rows, int64_t width, int64_t stride, DType type);

// x = r(x); with all threads, and by the calling one alone.
void round_to(const Context& context, float* x, int64_t count, DType type);
void round_serial(const Kernels& kernels, float* x, int64_t count, DType type);
// out = r(x) as a tensor of fp32, bf16 or fp16 stores it; widen_row is the way back.
void narrow_row(const Kernels& kernels, const float* x, int64_t count, DType type, void* out);

bool all_finite(const Kernels& kernels, const float* x, int64_t count);
// Throws Error(numeric) naming `stage` if any value is NaN or infinite.
void require_finite(const Kernels& kernels, const float* x, int64_t count, const char* stage);
[[noreturn]] void refuse_non_finite(const std::string& stage, const std::string& remedy);

}  // namespace fovea
