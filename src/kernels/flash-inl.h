// One tile of FlashAttention-2 (Dao 2023, algorithm 1) over the including file's Simd with native bf16
// products. Part of kernels-inl.h. A block of rows keeps its scores in registers from the product to the
// probabilities; K and V are packed so that a vector holds 16 keys (or 16 columns) and a pair of the other
// operand is broadcast.

// 2^a = 2^n 2^f with n = round(a), |f| <= 1/2, where a - n is exact; 2^f by the polynomial of degree 6 with
// constant term 1 of least relative error (Remez), 2^-27.9, plus its f32 roundings. -inf and what is below
// -160 give 0; NaN, as the second operand of max, stays.
inline Simd::F power_of_two_of(Simd::F argument) {
  const Simd::F a = Simd::max(Simd::splat(-160.f), argument);
  const Simd::F n = Simd::round_to_integer(a);
  const Simd::F f = Simd::fma(n, Simd::splat(-1.f), a);
  Simd::F p = Simd::splat(1.54697322e-4f);
  for (const float c :
       {1.34100008e-3f, 9.61803086e-3f, 5.55029735e-2f, 2.40226507e-1f, 6.93147242e-1f, 1.f}) {
    p = Simd::fma(p, f, Simd::splat(c));
  }
  return Simd::times_power_of_two(p, n);
}

inline int lanes_of(int64_t visible, int vector) {
  const int64_t lanes = visible - vector * Simd::kWidth;
  return static_cast<int>(lanes < 0 ? 0 : lanes > Simd::kWidth ? Simd::kWidth : lanes);
}

// kRows rows of a tile, starting with `row`.
template <int kRows>
class FlashBlock {
 public:
  FlashBlock(const FlashTile& tile, int64_t row) : t_(tile), row_(row) {
    for (int r = 0; r < kRows; ++r) {
      const int64_t sees = t_.visible + (row + r) / t_.group;
      visible_[r] = sees < 0 ? 0 : sees > t_.keys ? t_.keys : sees;
    }
    most_ = visible_[kRows - 1];  // later rows see no less
  }

  void run() {
    switch ((most_ + Simd::kWidth - 1) / Simd::kWidth) {
      case 0:
        return;  // no row sees a key: nothing changes
      case 1:
        return with_vectors<1>();
      case 2:
        return with_vectors<2>();
      case 3:
        return with_vectors<3>();
      default:
        return with_vectors<4>();
    }
  }

 private:
  // Scores of the first kVectors * 16 keys become probabilities; the rest of each row's 64 stays unused.
  template <int kVectors>
  void with_vectors() {
    Simd::F scores[kRows][kVectors];
    multiply_keys<kVectors>(scores);
    if (visible_[0] < kVectors * Simd::kWidth) {
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) {
          scores[r][c] =
              Simd::first_of(lanes_of(visible_[r], c), scores[r][c], Simd::splat(-__builtin_inff()));
        }
      }
    }
    move_shift<kVectors>(scores);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) exponentiate<kVectors>(scores[r], r);
    int64_t column = 0;
    const int64_t d = t_.head_dim;
    while (d - column >= 8 * Simd::kWidth || d - column == 4 * Simd::kWidth) column = weigh<4>(column);
    while (d - column >= 5 * Simd::kWidth) column = weigh<3>(column);
    switch ((d - column) / Simd::kWidth) {
      case 4:
        weigh<4>(column);
        break;
      case 3:
        weigh<3>(column);
        break;
      case 2:
        weigh<2>(column);
        break;
      case 1:
        weigh<1>(column);
        break;
      default:
        break;
    }
  }

  template <int kVectors>
  void multiply_keys(Simd::F (&scores)[kRows][kVectors]) const {
    Simd::F acc[kRows][kVectors];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) acc[r][c] = Simd::splat(0.f);
    }
    const uint16_t *q = t_.q + row_ * t_.head_dim, *k = t_.k;
    for (int64_t i = 0; i < t_.head_dim; i += 2, k += 2 * FlashTile::kKeys) {
      Simd::Pairs keys[kVectors];
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) keys[c] = Simd::load_pairs(k + 2 * Simd::kWidth * c);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const Simd::Pairs query = Simd::splat_pair(q + r * t_.head_dim + i);
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) acc[r][c] = Simd::dot_pairs(acc[r][c], query, keys[c]);
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) scores[r][c] = acc[r][c];
    }
  }

  // The running maxima move to those of the tile; factors_ = what earlier sums and products shrink by.
  template <int kVectors>
  void move_shift(const Simd::F (&scores)[kRows][kVectors]) {
    alignas(64) float moved[Simd::kWidth] = {};
    for (int r = 0; r < kRows; ++r) {
      Simd::F best = scores[r][0];
#pragma GCC unroll 4
      for (int c = 1; c < kVectors; ++c) best = Simd::max(best, scores[r][c]);
      const float highest = Simd::max_lane(best) * t_.scale;
      float& shift = t_.shift[row_ + r];
      if (highest > shift) {
        moved[r] = shift - highest;
        shift = highest;
      }
    }
    Simd::store(factors_, power_of_two_of(Simd::load(moved)));
  }

  // Row r's scores to powers of two, their sum, and their roundings in probabilities_.
  template <int kVectors>
  void exponentiate(Simd::F (&scores)[kVectors], int r) {
    // A row without a visible key keeps shift -inf; 0 in its place gives 2^-inf = 0 instead of NaN.
    const float shift = t_.shift[row_ + r];
    const Simd::F factor = Simd::splat(t_.scale),
                  offset = Simd::splat(shift == -__builtin_inff() ? 0.f : -shift);
    Simd::F sum = Simd::splat(0.f);
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) {
      scores[c] = power_of_two_of(Simd::fma(scores[c], factor, offset));
      sum = Simd::add(sum, scores[c]);
    }
    uint16_t* to = probabilities_ + r * FlashTile::kKeys;
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; c += 2) {
      Simd::store_two_bf16(to + c * Simd::kWidth, scores[c],
                           c + 1 < kVectors ? scores[c + 1] : Simd::splat(0.f));
    }
    float& total = t_.sum[row_ + r];
    total = total * factors_[r] + Simd::sum_lanes(sum);
  }

  // kVectors vectors of columns of out = out * factor + P V; returns the next column.
  template <int kVectors>
  int64_t weigh(int64_t column) const {
    float* out = t_.out + row_ * t_.head_dim + column;
    Simd::F acc[kRows][kVectors];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const Simd::F factor = Simd::splat(factors_[r]);
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) {
        acc[r][c] = Simd::mul(Simd::load(out + r * t_.head_dim + c * Simd::kWidth), factor);
      }
    }
    const uint16_t* v = t_.v + 2 * column;
    for (int64_t key = 0; key < most_; key += 2, v += 2 * t_.head_dim) {
      Simd::Pairs values[kVectors];
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) values[c] = Simd::load_pairs(v + 2 * Simd::kWidth * c);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const Simd::Pairs weight = Simd::splat_pair(probabilities_ + r * FlashTile::kKeys + key);
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) acc[r][c] = Simd::dot_pairs(acc[r][c], weight, values[c]);
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) Simd::store(out + r * t_.head_dim + c * Simd::kWidth, acc[r][c]);
    }
    return column + kVectors * Simd::kWidth;
  }

  const FlashTile& t_;
  int64_t row_, most_ = 0, visible_[kRows];
  alignas(64) float factors_[Simd::kWidth];
  alignas(64) uint16_t probabilities_[kRows * FlashTile::kKeys];
};

inline void flash_tile(const FlashTile& tile) {
  int64_t row = 0;
  for (; tile.rows - row >= 6 && tile.rows - row != 8; row += 6) FlashBlock<6>(tile, row).run();
  for (; tile.rows - row >= 4; row += 4) FlashBlock<4>(tile, row).run();
  for (; tile.rows - row >= 2; row += 2) FlashBlock<2>(tile, row).run();
  if (row < tile.rows) FlashBlock<1>(tile, row).run();
}

// Pairs are elements of 32 bits, so that packing keys is a transposition of [keys, head_dim / 2].
inline void pack_flash_keys(const uint16_t* rows, int64_t stride, int64_t count, int64_t head_dim,
                            uint16_t* out) {
  constexpr int64_t kBlock = 16;
  for (int64_t key = 0; key < FlashTile::kKeys; key += kBlock) {
    for (int64_t pair = 0; pair < head_dim / 2; pair += kBlock) {
      const int64_t pairs = head_dim / 2 - pair < kBlock ? head_dim / 2 - pair : kBlock;
      alignas(64) uint16_t block[kBlock * 2 * kBlock] = {};
      uint16_t* to = out + (pair * FlashTile::kKeys + key) * 2;
      if (count - key >= kBlock && pairs == kBlock) {
        Simd::transpose_16x16(rows + key * stride + 2 * pair, stride / 2, to, FlashTile::kKeys);
        continue;
      }
      for (int64_t k = 0; k < kBlock && key + k < count; ++k) {
        __builtin_memcpy(block + 2 * kBlock * k, rows + (key + k) * stride + 2 * pair,
                         static_cast<size_t>(4 * pairs));
      }
      alignas(64) uint16_t turned[kBlock * 2 * kBlock];
      Simd::transpose_16x16(block, kBlock, turned, kBlock);
      for (int64_t p = 0; p < pairs; ++p) {
        __builtin_memcpy(to + 2 * FlashTile::kKeys * p, turned + 2 * kBlock * p, 4 * kBlock);
      }
    }
  }
}

inline void pack_flash_values(const uint16_t* rows, int64_t stride, int64_t count, int64_t head_dim,
                              uint16_t* out) {
  alignas(64) static constexpr uint16_t kZeros[Simd::kWidth] = {};
  for (int64_t key = 0; key < FlashTile::kKeys; key += 2) {
    for (int64_t c = 0; c < head_dim; c += Simd::kWidth, out += 2 * Simd::kWidth) {
      const uint16_t* row = rows + key * stride + c;
      Simd::interleave(key < count ? row : kZeros, key + 1 < count ? row + stride : kZeros, out);
    }
  }
}
