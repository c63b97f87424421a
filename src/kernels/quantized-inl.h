// Quantized rows and their products over the including file's Simd. Part of kernels-inl.h. A vector holds the
// sums of kWidth columns; four neighbouring elements of a row meet those of every column. Integer sums are
// exact, so that no result depends on how the work is cut.

inline Simd::F load_some(const float* x, int64_t count) {
  return count >= Simd::kWidth ? Simd::load(x) : Simd::load(x, static_cast<int>(count < 0 ? 0 : count));
}

inline float quantize_row(const float* x, int64_t count, int8_t* values, int32_t* sums) {
  Simd::F largest = Simd::splat(0.f), poison = Simd::splat(0.f);
  for (int64_t i = 0; i < count; i += Simd::kWidth) {
    const Simd::F a = load_some(x + i, count - i);
    largest = Simd::max(largest, Simd::max(a, Simd::mul(a, Simd::splat(-1.f))));
    poison = Simd::fma(a, Simd::splat(0.f), poison);  // NaN once an element is not finite
  }
  const float highest = Simd::max_lane(largest);
  // Below 1e-36 the inverse overflows: such rows count as zero.
  const float inverse = highest > 1e-36f && highest <= __FLT_MAX__ ? 127.f / highest : 0.f;
  for (int64_t group = 0; group < count; group += kQuantGroup, ++sums) {
    Simd::F sum = Simd::splat(0.f);
    for (int64_t i = group; i < group + kQuantGroup; i += Simd::kWidth) {
      Simd::F q = Simd::round_to_integer(Simd::mul(load_some(x + i, count - i), Simd::splat(inverse)));
      q = Simd::min(Simd::max(q, Simd::splat(-127.f)), Simd::splat(127.f));
      Simd::store_int8(values + i, q);
      sum = Simd::add(sum, q);
    }
    *sums = static_cast<int32_t>(lanes_sum(sum));
  }
  return (inverse == 0.f ? 0.f : highest / 127.f) + lanes_sum(poison);
}

// Of the scales that put the group's largest magnitude at -8 or near it, the one of least squared error; as
// bf16.
inline float quantize_group(const float* w, int8_t* values) {
  constexpr int64_t kVectors = kQuantGroup / Simd::kWidth;
  Simd::F high = Simd::splat(0.f), low = Simd::splat(0.f);
  for (int64_t i = 0; i < kVectors; ++i) {
    const Simd::F a = Simd::load(w + i * Simd::kWidth);
    high = Simd::max(high, a);
    low = Simd::max(low, Simd::mul(a, Simd::splat(-1.f)));
  }
  const float above = Simd::max_lane(high), below = Simd::max_lane(low);
  const float extreme = above > below ? above : -below;
  float best_scale = 0, best_error = __builtin_inff();
  for (const float steps : {-8.f, -7.4f, 7.f, -6.8f, -6.2f}) {
    float scale = extreme / steps;
    scale = Simd::max_lane(Simd::round_bf16(Simd::splat(scale)));
    if (!(scale > 1e-36f || scale < -1e-36f)) continue;
    const Simd::F inverse = Simd::splat(1.f / scale);
    Simd::F error = Simd::splat(0.f);
    for (int64_t i = 0; i < kVectors; ++i) {
      const Simd::F a = Simd::load(w + i * Simd::kWidth);
      Simd::F q = Simd::round_to_integer(Simd::mul(a, inverse));
      q = Simd::min(Simd::max(q, Simd::splat(-8.f)), Simd::splat(7.f));
      const Simd::F off = Simd::fma(q, Simd::splat(-scale), a);
      error = Simd::fma(off, off, error);
    }
    const float total = lanes_sum(error);
    if (total < best_error) {
      best_error = total;
      best_scale = scale;
    }
  }
  const Simd::F inverse = Simd::splat(best_scale == 0.f ? 0.f : 1.f / best_scale);
  for (int64_t i = 0; i < kVectors; ++i) {
    Simd::F q = Simd::round_to_integer(Simd::mul(Simd::load(w + i * Simd::kWidth), inverse));
    q = Simd::min(Simd::max(q, Simd::splat(-8.f)), Simd::splat(7.f));
    Simd::store_int8(values + i * Simd::kWidth, q);
  }
  return best_scale;
}

// The four values of depth at p in every column.
inline Simd::I splat_four(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, sizeof four);
  return Simd::splat_int(four);
}

// Where vector number `vector` of a packed record starts that spans `stride` bytes per 16 columns.
inline const char* packed_vector(const void* packed, int64_t vector, int64_t stride) {
  const int64_t column = vector * Simd::kWidth;
  return static_cast<const char*>(packed) + column / kQuantColumns * stride + column % kQuantColumns * 4;
}

inline int32_t row_sum(const QuantizedRows& x, int64_t row) {
  const int64_t groups = x.depth / kQuantGroup;
  int32_t sum = 0;
  for (int64_t g = 0; g < groups; ++g) sum += x.sums[row * groups + g];
  return sum;
}

// One vector of results as y wants it, of the columns from `column` on.
template <typename Round>
Simd::F finished(const QuantizedProduct& p, int64_t column, Simd::F result, Round round) {
  if (p.bias != nullptr) result = Simd::add(result, load_some(p.bias + column, p.cols - column));
  return round(result);
}

// Writes a tile of results to the columns from `vector` on that y has. Loops over registers have no branch
// inside: a compiler that does not unroll them keeps all sums in memory.
template <int kRows, int kVectors>
void store_tile(const QuantizedProduct& p, int64_t row, int64_t vector,
                const Simd::F (&tile)[kRows][kVectors]) {
  constexpr int64_t kColumns = kVectors * Simd::kWidth;
  const int64_t column = vector * Simd::kWidth, left = p.cols - column;
  float *y = p.y + row * p.ldy + column, *to = y, beyond[kRows * kColumns];
  const int64_t stride = left >= kColumns ? p.ldy : kColumns;
  if (left < kColumns) to = beyond;
  with_rounding(p.round, [&](auto round) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const int64_t at = v * Simd::kWidth;
        Simd::store(to + r * stride + at, finished(p, column + at, tile[r][v], round));
      }
    }
  });
  for (int64_t r = 0; left < kColumns && r < kRows; ++r) {
    for (int64_t c = 0; c < left; ++c) y[r * p.ldy + c] = beyond[r * kColumns + c];
  }
}

// A single row reads the weights as streams of records of kQuantColumns columns, kAcross vectors each, with
// kChains sums for each vector that hide the time one takes; they are integers, so that the cut changes
// nothing. Two streams that lie far apart keep the memory busier than one does (see few_rows_nt).
constexpr int64_t kRecordBytes = 4 * kQuantColumns;
constexpr int kChains = 2, kAcross = static_cast<int>(kQuantColumns / Simd::kWidth);
struct Chains {
  Simd::I acc[kAcross][kChains];

  Chains() = default;
  __attribute__((always_inline)) explicit Chains(int32_t start) {
#pragma GCC unroll 2
    for (int v = 0; v < kAcross; ++v) {
      acc[v][0] = Simd::splat_int(start);
#pragma GCC unroll 4
      for (int c = 1; c < kChains; ++c) acc[v][c] = Simd::splat_int(0);
    }
  }
  __attribute__((always_inline)) Simd::F sum(int v) const {
    Simd::I total = acc[v][0];
#pragma GCC unroll 4
    for (int c = 1; c < kChains; ++c) total = Simd::add_int(total, acc[v][c]);
    return Simd::from_int(total);
  }
};

struct Int8Weights {
  // A single row: kStreams records of columns, `apart` columns from each other.
  template <int kStreams>
  static void single(const QuantizedProduct& p, int64_t column, int64_t apart) {
    const int64_t depth = p.x.depth;
    const char* w = static_cast<const char*>(p.values) + column * depth;
    Chains chains[kStreams];
    for (Chains& c : chains) c = Chains(-Simd::kByteOffset * row_sum(p.x, 0));
    for (int64_t k = 0; k < depth; k += 4 * kChains) {
#pragma GCC unroll 4
      for (int c = 0; c < kChains; ++c, w += kRecordBytes) {
        const Simd::I four = splat_four(p.x.values + k + 4 * c);
#pragma GCC unroll 2
        for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 2
          for (int v = 0; v < kAcross; ++v) {
            const Simd::I weights =
                Simd::bytes_for_dot(Simd::load_int(w + s * apart * depth + v * 4 * Simd::kWidth));
            chains[s].acc[v][c] = Simd::dot_bytes(chains[s].acc[v][c], weights, four);
          }
        }
      }
    }
    for (int s = 0; s < kStreams; ++s, column += apart) {
      Simd::F result[1][kAcross];
#pragma GCC unroll 2
      for (int v = 0; v < kAcross; ++v) {
        const Simd::F scale = Simd::load(static_cast<const float*>(p.scales) + column + v * Simd::kWidth);
        result[0][v] = Simd::mul(Simd::mul(chains[s].sum(v), Simd::splat(p.x.scales[0])), scale);
      }
      store_tile(p, 0, column / Simd::kWidth, result);
    }
  }

  static constexpr int kRows = Simd::kInt8Rows, kVectors = Simd::kInt8Vectors;

  template <int kRowsNow, int kVectorsNow>
  static void tile(const QuantizedProduct& p, int64_t row, int64_t vector) {
    const int64_t depth = p.x.depth;
    const int8_t* x = p.x.values + row * depth;
    int32_t starts[kRowsNow];
    for (int r = 0; r < kRowsNow; ++r) starts[r] = -Simd::kByteOffset * row_sum(p.x, row + r);
    Simd::I acc[kRowsNow][kVectorsNow];
#pragma GCC unroll 8
    for (int r = 0; r < kRowsNow; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectorsNow; ++v) acc[r][v] = Simd::splat_int(starts[r]);
    }
    const char* w[kVectorsNow];
#pragma GCC unroll 8
    for (int v = 0; v < kVectorsNow; ++v) w[v] = packed_vector(p.values, vector + v, depth * kQuantColumns);
    for (int64_t k = 0; k < depth; k += 4) {
      Simd::I weights[kVectorsNow];
#pragma GCC unroll 8
      for (int v = 0; v < kVectorsNow; ++v) {
        weights[v] = Simd::bytes_for_dot(Simd::load_int(w[v] + k * kQuantColumns));
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRowsNow; ++r) {
        const Simd::I four = splat_four(x + r * depth + k);
#pragma GCC unroll 8
        for (int v = 0; v < kVectorsNow; ++v) acc[r][v] = Simd::dot_bytes(acc[r][v], weights[v], four);
      }
    }
    Simd::F results[kRowsNow][kVectorsNow];
#pragma GCC unroll 8
    for (int v = 0; v < kVectorsNow; ++v) {
      const Simd::F scale = Simd::load(static_cast<const float*>(p.scales) + (vector + v) * Simd::kWidth);
#pragma GCC unroll 8
      for (int r = 0; r < kRowsNow; ++r) {
        const Simd::F scaled = Simd::mul(Simd::from_int(acc[r][v]), Simd::splat(p.x.scales[row + r]));
        results[r][v] = Simd::mul(scaled, scale);
      }
    }
    store_tile(p, row, vector, results);
  }
};

struct Int4Weights {
  // See Int8Weights::single.
  template <int kStreams>
  static void single(const QuantizedProduct& p, int64_t column, int64_t apart) {
    const int64_t groups = p.x.depth / kQuantGroup,
                  apart_bytes = apart / kQuantColumns * groups * kGroupBytes;
    const char* w = static_cast<const char*>(p.values) + column / kQuantColumns * groups * kGroupBytes;
    const auto* scales = static_cast<const uint16_t*>(p.scales) + column * groups;
    const int8_t* x = p.x.values;
    Simd::F total[kStreams][1][kAcross];
#pragma GCC unroll 2
    for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 2
      for (int v = 0; v < kAcross; ++v) total[s][0][v] = Simd::splat(0.f);
    }
    for (int64_t g = 0; g < groups; ++g, x += kQuantGroup, scales += kQuantColumns) {
      Chains chains[kStreams];
#pragma GCC unroll 2
      for (int s = 0; s < kStreams; ++s) chains[s] = Chains(-8 * p.x.sums[g]);
#pragma GCC unroll 8
      for (int i = 0; i < kQuantGroup / 8; ++i, w += kRecordBytes) {
        const Simd::I first = splat_four(x + 4 * i), second = splat_four(x + 4 * i + 32);
#pragma GCC unroll 2
        for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 2
          for (int v = 0; v < kAcross; ++v) {
            const Simd::I both = Simd::load_int(w + s * apart_bytes + v * 4 * Simd::kWidth);
            Simd::I &low = chains[s].acc[v][2 * i % kChains], &high = chains[s].acc[v][(2 * i + 1) % kChains];
            low = Simd::dot_nibbles(low, Simd::low_nibbles(both), first);
            high = Simd::dot_nibbles(high, Simd::high_nibbles(both), second);
          }
        }
      }
#pragma GCC unroll 2
      for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 2
        for (int v = 0; v < kAcross; ++v) {
          const Simd::F scale = Simd::load_bf16(scales + s * apart * groups + v * Simd::kWidth);
          total[s][0][v] = Simd::fma(chains[s].sum(v), scale, total[s][0][v]);
        }
      }
    }
    for (int s = 0; s < kStreams; ++s, column += apart) {
#pragma GCC unroll 2
      for (int v = 0; v < kAcross; ++v) {
        total[s][0][v] = Simd::mul(total[s][0][v], Simd::splat(p.x.scales[0]));
      }
      store_tile(p, 0, column / Simd::kWidth, total[s]);
    }
  }

  static constexpr int kRows = Simd::kInt4Rows, kVectors = Simd::kInt4Vectors;
  static constexpr int64_t kGroupBytes = kQuantGroup / 2 * kQuantColumns;

  template <int kRowsNow, int kVectorsNow>
  static void tile(const QuantizedProduct& p, int64_t row, int64_t vector) {
    const int64_t depth = p.x.depth, groups = depth / kQuantGroup;
    Simd::F total[kRowsNow][kVectorsNow];
#pragma GCC unroll 8
    for (int r = 0; r < kRowsNow; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectorsNow; ++v) total[r][v] = Simd::splat(0.f);
    }
    for (int64_t g = 0; g < groups; ++g) {
      Simd::I acc[kRowsNow][kVectorsNow];
      add_group<kRowsNow, kVectorsNow>(p, row, vector, g, acc);
#pragma GCC unroll 8
      for (int v = 0; v < kVectorsNow; ++v) {
        const int64_t column = (vector + v) * Simd::kWidth;
        const auto* scales = static_cast<const uint16_t*>(p.scales) +
                             (column / kQuantColumns * groups + g) * kQuantColumns + column % kQuantColumns;
        const Simd::F scale = Simd::load_bf16(scales);
#pragma GCC unroll 8
        for (int r = 0; r < kRowsNow; ++r) {
          total[r][v] = Simd::fma(Simd::from_int(acc[r][v]), scale, total[r][v]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRowsNow; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectorsNow; ++v) {
        total[r][v] = Simd::mul(total[r][v], Simd::splat(p.x.scales[row + r]));
      }
    }
    store_tile(p, row, vector, total);
  }

  // acc = sum over group g of x * (nibble - 8).
  template <int kRowsNow, int kVectorsNow>
  static void add_group(const QuantizedProduct& p, int64_t row, int64_t vector, int64_t g,
                        Simd::I (&acc)[kRowsNow][kVectorsNow]) {
    const int64_t depth = p.x.depth, groups = depth / kQuantGroup;
    const int8_t* x = p.x.values + row * depth + g * kQuantGroup;
#pragma GCC unroll 8
    for (int r = 0; r < kRowsNow; ++r) {
      const Simd::I start = Simd::splat_int(-8 * p.x.sums[(row + r) * groups + g]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectorsNow; ++v) acc[r][v] = start;
    }
    const char* w[kVectorsNow];
#pragma GCC unroll 8
    for (int v = 0; v < kVectorsNow; ++v) {
      w[v] = packed_vector(p.values, vector + v, groups * kGroupBytes) + g * kGroupBytes;
    }
#pragma GCC unroll 2
    for (int64_t half = 0; half < kQuantGroup / 2; half += kQuantGroup / 4) {
      Simd::I sums[kRowsNow][kVectorsNow];
#pragma GCC unroll 8
      for (int r = 0; r < kRowsNow; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < kVectorsNow; ++v) sums[r][v] = Simd::begin_nibbles(acc[r][v]);
      }
#pragma GCC unroll 4
      for (int64_t k = half; k < half + kQuantGroup / 4; k += 4) {
        add_eight<kRowsNow, kVectorsNow>(x + k, depth, w, k, sums);
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRowsNow; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < kVectorsNow; ++v) acc[r][v] = Simd::end_nibbles(acc[r][v], sums[r][v]);
      }
    }
  }

  // The elements k to k + 3 of a group, and those 32 behind.
  template <int kRowsNow, int kVectorsNow>
  __attribute__((always_inline)) static void add_eight(const int8_t* x, int64_t depth,
                                                       const char* const (&w)[kVectorsNow], int64_t k,
                                                       Simd::I (&sums)[kRowsNow][kVectorsNow]) {
    Simd::I low[kVectorsNow], high[kVectorsNow];
#pragma GCC unroll 8
    for (int v = 0; v < kVectorsNow; ++v) {
      const Simd::I both = Simd::load_int(w[v] + k * kQuantColumns);
      low[v] = Simd::low_nibbles(both);
      high[v] = Simd::high_nibbles(both);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRowsNow; ++r) {
      const Simd::I first = splat_four(x + r * depth), second = splat_four(x + r * depth + 32);
#pragma GCC unroll 8
      for (int v = 0; v < kVectorsNow; ++v) {
        sums[r][v] = Simd::add_nibbles(Simd::add_nibbles(sums[r][v], low[v], first), high[v], second);
      }
    }
  }
};

// All rows against kVectors vectors of columns at a time: those weights stay in the L2 cache meanwhile.
template <typename Weights, int kVectors>
void quantized_columns(const QuantizedProduct& p, int64_t vector, Fetch& ahead) {
  const int64_t vectors = (p.cols + Simd::kWidth - 1) / Simd::kWidth;
  for (; vector + kVectors <= vectors; vector += kVectors) {
    for_strips<Weights::kRows>(
        p.rows, [&](int64_t row, auto height) __attribute__((always_inline)) {
          Weights::template tile<decltype(height)::value, kVectors>(p, row, vector);
          ahead.some();
        });
  }
  if constexpr (kVectors > 1) {
    if (vector < vectors) quantized_columns<Weights, kVectors / 2>(p, vector, ahead);
  }
}

template <typename Weights>
void quantized_product(const QuantizedProduct& p) {
  if (p.rows == 1) {
    const int64_t records = (p.cols + kQuantColumns - 1) / kQuantColumns, apart = records / 2 * kQuantColumns;
    for (int64_t column = 0; column < apart; column += kQuantColumns) {
      Weights::template single<2>(p, column, apart);
    }
    if (records % 2 == 1) Weights::template single<1>(p, 2 * apart, 0);
    return;
  }
  const int64_t tiles = p.rows / Weights::kRows * (p.cols / (Weights::kVectors * Simd::kWidth));
  Fetch ahead(p.next.at, 1, p.next.bytes, p.next.bytes, tiles);
  quantized_columns<Weights, Weights::kVectors>(p, 0, ahead);
}
