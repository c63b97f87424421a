// The operations between projections and attention over the including file's Simd, one pass over memory each.
// Part of kernels-inl.h. Every element is computed alone, so that nothing depends on where a vector begins.

// Calls body(round) with the rounding to `type` of a vector.
template <typename Body>
void with_rounding(DType type, Body body) {
  switch (type) {
    case DType::bf16:
      return body([](Simd::F a) { return Simd::round_bf16(a); });
    case DType::f16:
      return body([](Simd::F a) { return round_f16_of(a); });
    default:
      return body([](Simd::F a) { return a; });
  }
}

// Calls step(i) for whole vectors, then step(i, rest) for what is left; `step` hands the rest to loads and
// stores.
template <typename Step>
void for_vectors(int64_t count, Step step) {
  int64_t i = 0;
  for (; i + Simd::kWidth <= count; i += Simd::kWidth) step(i);
  if (i < count) step(i, static_cast<int>(count - i));
}

// Eight interleaved partial sums whatever the width of a vector.
inline float sum_of_squares(const float* x, int64_t count) {
  float partial[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int64_t l = 0; l < 8; ++l) partial[l] += x[i + l] * x[i + l];
  }
  for (int64_t l = 0; i < count; ++i, ++l) partial[l] += x[i] * x[i];
  const float low = (partial[0] + partial[1]) + (partial[2] + partial[3]);
  const float high = (partial[4] + partial[5]) + (partial[6] + partial[7]);
  return low + high;
}

inline void scale(const float* x, float factor, float* out, int64_t count, DType type) {
  const Simd::F by = Simd::splat(factor);
  with_rounding(type, [&](auto round) {
    for_vectors(count, [&](int64_t i, auto... rest) {
      Simd::store(out + i, round(Simd::mul(Simd::load(x + i, rest...), by)), rest...);
    });
  });
}

inline void scale_and_weigh(const float* x, float factor, const float* weight, float* out, int64_t count,
                            DType type) {
  const Simd::F by = Simd::splat(factor);
  with_rounding(type, [&](auto round) {
    for_vectors(count, [&](int64_t i, auto... rest) {
      const Simd::F scaled = round(Simd::mul(Simd::load(x + i, rest...), by));
      Simd::store(out + i, round(Simd::mul(scaled, Simd::load(weight + i, rest...))), rest...);
    });
  });
}

inline void add_rounded(float* y, const float* x, int64_t count, DType type) {
  with_rounding(type, [&](auto round) {
    for_vectors(count, [&](int64_t i, auto... rest) {
      Simd::store(y + i, round(Simd::add(Simd::load(y + i, rest...), Simd::load(x + i, rest...))), rest...);
    });
  });
}

inline bool all_finite(const float* x, int64_t count) {
  Simd::F poison = Simd::splat(0.f);  // NaN once an element is not finite
  for_vectors(count, [&](int64_t i, auto... rest) {
    poison = Simd::fma(Simd::load(x + i, rest...), Simd::splat(0.f), poison);
  });
  return lanes_sum(poison) == 0.f;
}

// exp(88) is still finite in f32; beyond it the quotient is zero to f32 anyway. NaN, as the second operand of
// min, stays.
inline void silu_times(float* gate, const float* up, int64_t count, DType type) {
  with_rounding(type, [&](auto round) {
    for_vectors(count, [&](int64_t i, auto... rest) {
      const Simd::F x = Simd::load(gate + i, rest...);
      const Simd::F power = exp_of(Simd::min(Simd::splat(88.f), Simd::mul(x, Simd::splat(-1.f))));
      const Simd::F silu = round(Simd::div(x, Simd::add(Simd::splat(1.f), power)));
      Simd::store(gate + i, round(Simd::mul(silu, Simd::load(up + i, rest...))), rest...);
    });
  });
}

template <typename Step, typename Result>
void rotate_pairs(float* first, float* second, const float* cos, const float* sin, int64_t pairs, Step step,
                  Result result) {
  for_vectors(pairs, [&](int64_t i, auto... rest) {
    const Simd::F a = Simd::load(first + i, rest...), b = Simd::load(second + i, rest...);
    const Simd::F c = Simd::load(cos + i, rest...), s = Simd::load(sin + i, rest...);
    const Simd::F minus_b = Simd::mul(b, Simd::splat(-1.f));
    Simd::store(first + i, result(Simd::add(step(Simd::mul(a, c)), step(Simd::mul(minus_b, s)))), rest...);
    Simd::store(second + i, result(Simd::add(step(Simd::mul(b, c)), step(Simd::mul(a, s)))), rest...);
  });
}

inline void rotate(float* x, int64_t heads, const float* cos, const float* sin, int64_t pairs, DType steps,
                   DType result) {
  with_rounding(steps, [&](auto round_step) {
    with_rounding(result, [&](auto round_result) {
      for (int64_t h = 0; h < heads; ++h, x += 2 * pairs) {
        rotate_pairs(x, x + pairs, cos, sin, pairs, round_step, round_result);
      }
    });
  });
}
