#include <cmath>

#include "base/splitmix64.h"
#include "bench/parts.h"
#include "model/elementwise.h"

namespace fovea::bench {

namespace {

constexpr int64_t kRows = 2048, kHidden = 2048, kInner = 11008, kHeads = 16, kPairs = 64;

Buffer<float> values(int64_t count) {
  Buffer<float> x(count);
  SplitMix64 random(1);
  for (int64_t i = 0; i < count; ++i) {
    x[i] = rounded(static_cast<float>(static_cast<double>(random.bits() >> 40) * 0x1p-23 - 1), DType::bf16);
  }
  return x;
}

void require_near(double actual, double exact, double limit, const char* name) {
  if (std::fabs(actual - exact) <= limit) return;
  throw Error(ErrorKind::numeric, fmt::format("{} is {}, not {}", name, actual, exact),
              "report this with the output of lscpu");
}

// Bytes that must be read from f32 containers.
Work reading(const char* name, int64_t floats, std::function<void()> call) {
  return {name, Bound::read, 4.0 * static_cast<double>(floats), "GB/s", std::move(call)};
}

Work rms_norm_work() {
  const auto x = std::make_shared<Buffer<float>>(values(kRows * kHidden));
  const auto out = std::make_shared<Buffer<float>>(x->size());
  const std::vector<float> weight(kHidden, 1.f);
  const auto call = [=] {
    rms_norm(process_context(), x->data(), weight, 1e-6f, DType::bf16, out->data(), kRows, DType::f32);
  };
  call();
  double squares = 0;
  for (int64_t i = 0; i < kHidden; ++i) squares += double{(*x)[i]} * (*x)[i];
  const double exact = (*x)[0] / std::sqrt(squares / kHidden + 1e-6);
  require_near((*out)[0], exact, std::fabs(exact) * 0x1p-8, "rms_norm");  // two roundings to bf16
  return reading("rms_norm", x->size(), call);
}

Work silu_work() {
  const auto gate = std::make_shared<Buffer<float>>(values(kRows * kInner));
  const auto up = std::make_shared<Buffer<float>>(values(kRows * kInner));
  const double g = (*gate)[0], u = (*up)[0], exact = g / (1 + std::exp(-g)) * u;
  const auto call = [=] {
    silu_times(process_context(), gate->data(), up->data(), kRows * kInner, DType::bf16);
  };
  call();
  require_near((*gate)[0], exact, std::fabs(exact) * 0x1p-8, "silu_times");
  return reading("silu_times", 2 * kRows * kInner, call);
}

Work rope_work() {
  const auto x = std::make_shared<Buffer<float>>(values(kRows * kHeads * 2 * kPairs));
  const auto table = std::make_shared<RopeTable>();
  table->pairs = kPairs;
  table->cos.resize(kRows * kPairs);
  table->sin.resize(kRows * kPairs);
  const std::vector<double> inverse = inverse_frequencies(1e6, 2 * kPairs, DType::f32);
  for (int64_t row = 0; row < kRows; ++row) {
    std::vector<double> angles;
    for (const double f : inverse) angles.push_back(rope_angle(row, f, DType::f32));
    set_rope_row(*table, row, angles, DType::bf16);
  }
  const int64_t at = (kRows - 1) * kHeads * 2 * kPairs, last = (kRows - 1) * kPairs;
  const double a = (*x)[at], b = (*x)[at + kPairs], c = table->cos[static_cast<size_t>(last)],
               s = table->sin[static_cast<size_t>(last)];
  const auto call = [=] {
    apply_rope(process_context(), x->data(), 0, kRows, kHeads, kHeads * 2 * kPairs, *table, DType::bf16,
               DType::bf16);
  };
  call();
  // Two products and their sum, each rounded to bf16 at most 2^-9 off.
  require_near((*x)[at], a * c - b * s, (std::fabs(a * c) + std::fabs(b * s)) * 0x1p-8, "rope");
  return reading("rope", x->size(), call);
}

}  // namespace

std::vector<Part> elementwise_parts() {
  return {{"rms_norm", rms_norm_work}, {"silu_times", silu_work}, {"rope", rope_work}};
}

}  // namespace fovea::bench
