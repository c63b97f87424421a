// The two products of a tile of flash attention, with K and V packed or as they lie. Part of flash-inl.h.

// What a block of rows multiplies: `factors` shrink what is in out, and `probabilities` (kKeys a row) weigh
// the values of the first `keys` keys.
struct FlashWeights {
  const float* factors;
  const uint16_t* probabilities;
  int64_t keys;
};

// K and V packed for the tile.
class PackedOperands {
 public:
  explicit PackedOperands(const FlashTile& tile) : t_(tile) {}

  // The scores of kRows rows from `row` on with the first kVectors * 16 keys.
  template <int kRows, int kVectors>
  void multiply_keys(int64_t row, Simd::F (&scores)[kRows][kVectors]) {
    Simd::F acc[kRows][kVectors];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) acc[r][c] = Simd::splat(0.f);
    }
    const uint16_t *q = t_.q + row * t_.head_dim, *k = t_.k;
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

  // out = out * factor + P V for kRows rows.
  template <int kRows>
  void weigh_values(int64_t row, const FlashWeights& p) {
    int64_t column = 0;
    const int64_t d = t_.head_dim;
    while (d - column >= 8 * Simd::kWidth || d - column == 4 * Simd::kWidth) {
      column = weigh<kRows, 4>(row, column, p);
    }
    while (d - column >= 5 * Simd::kWidth) column = weigh<kRows, 3>(row, column, p);
    switch ((d - column) / Simd::kWidth) {
      case 4:
        weigh<kRows, 4>(row, column, p);
        break;
      case 3:
        weigh<kRows, 3>(row, column, p);
        break;
      case 2:
        weigh<kRows, 2>(row, column, p);
        break;
      case 1:
        weigh<kRows, 1>(row, column, p);
        break;
      default:
        break;
    }
  }

 private:
  // kVectors vectors of columns; returns the next column.
  template <int kRows, int kVectors>
  int64_t weigh(int64_t row, int64_t column, const FlashWeights& p) const {
    float* out = t_.out + row * t_.head_dim + column;
    Simd::F acc[kRows][kVectors];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const Simd::F factor = Simd::splat(p.factors[r]);
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) {
        acc[r][c] = Simd::mul(Simd::load(out + r * t_.head_dim + c * Simd::kWidth), factor);
      }
    }
    const uint16_t* v = t_.v + 2 * column;
    for (int64_t key = 0; key < p.keys; key += 2, v += 2 * t_.head_dim) {
      Simd::Pairs values[kVectors];
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) values[c] = Simd::load_pairs(v + 2 * Simd::kWidth * c);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const Simd::Pairs weight = Simd::splat_pair(p.probabilities + r * FlashTile::kKeys + key);
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
};

// K and V as they lie: for few rows, whose products take less than packing would. Products and their order
// are those of PackedOperands.
class StoredOperands {
 public:
  explicit StoredOperands(const FlashRows& rows)
      : t_(rows.tile),
        k_stride_(rows.k_stride),
        v_stride_(rows.v_stride),
        to_next_k_(rows.next_k == nullptr ? 0 : rows.next_k - t_.k),
        to_next_v_(rows.next_v == nullptr ? 0 : rows.next_v - t_.v) {}

  template <int kRows, int kVectors>
  void multiply_keys(int64_t row, Simd::F (&scores)[kRows][kVectors]) {
    for (int c = 0; c < kVectors; ++c) {
      Simd::F acc[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) acc[r] = Simd::splat(0.f);
      multiply_vector<kRows>(row, c * Simd::kWidth, acc);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) scores[r][c] = acc[r];
    }
  }

  template <int kRows>
  void weigh_values(int64_t row, const FlashWeights& p) {
    int64_t column = 0;
    for (; column + 2 * Simd::kWidth <= t_.head_dim; column += 2 * Simd::kWidth)
      weigh<kRows, 2>(row, column, p);
    if (column < t_.head_dim) weigh<kRows, 1>(row, column, p);
  }

 private:
  // acc += the products with the 16 keys from `key` on; those that the tile lacks are read as its last.
  template <int kRows>
  __attribute__((always_inline)) void multiply_vector(int64_t row, int64_t key, Simd::F (&acc)[kRows]) {
    const uint16_t* k = t_.k + key * k_stride_;
    const uint16_t* q = t_.q + row * t_.head_dim;
    alignas(64) uint16_t copy[Simd::kWidth * 2 * Simd::kWidth];
    const bool whole = key + Simd::kWidth <= t_.keys;
    for (int64_t column = 0; column < t_.head_dim; column += 2 * Simd::kWidth) {
      const int64_t pairs = (t_.head_dim - column) / 2;
      if (whole && pairs >= Simd::kWidth) {
        const uint16_t* next = k + column + to_next_k_;
        for (int64_t i = 0; i < Simd::kWidth; ++i) __builtin_prefetch(next + i * k_stride_, 0, 2);
        multiply_block<kRows>(q + column, k + column, k_stride_, Simd::kWidth, acc);
        continue;
      }
      const int64_t width = pairs < Simd::kWidth ? pairs : Simd::kWidth;
      for (int64_t i = 0; i < Simd::kWidth; ++i) {
        const int64_t from = key + i < t_.keys ? i : t_.keys - 1 - key;
        __builtin_memcpy(copy + 2 * Simd::kWidth * i, k + from * k_stride_ + column,
                         static_cast<size_t>(4 * width));
      }
      multiply_block<kRows>(q + column, copy, 2 * Simd::kWidth, width, acc);
    }
  }

  // The first `pairs` pairs of depth of 16 keys.
  template <int kRows>
  __attribute__((always_inline)) void multiply_block(const uint16_t* q, const uint16_t* k, int64_t stride,
                                                     int64_t pairs, Simd::F (&acc)[kRows]) {
    Simd::Pairs turned[Simd::kWidth];
    Simd::turn(k, stride, turned);
#pragma GCC unroll 16
    for (int i = 0; i < Simd::kWidth; ++i) {
      if (i == Simd::kWidth / 2 && pairs <= i) break;
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        acc[r] = Simd::dot_pairs(acc[r], turned[i], Simd::splat_pair(q + r * t_.head_dim + 2 * i));
      }
    }
  }

  // kVectors vectors of columns from `column` on.
  template <int kRows, int kVectors>
  void weigh(int64_t row, int64_t column, const FlashWeights& p) {
    alignas(64) static constexpr uint16_t kZeros[2 * Simd::kWidth] = {};
    float* out = t_.out + row * t_.head_dim + column;
    Simd::F acc[kRows][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      Simd::load_woven(out + r * t_.head_dim, acc[r]);
#pragma GCC unroll 2
      for (int c = 0; c < kVectors; ++c) acc[r][c] = Simd::mul(acc[r][c], Simd::splat(p.factors[r]));
    }
    const uint16_t* v = t_.v + column;
    for (int64_t key = 0; key < p.keys; key += 2, v += 2 * v_stride_) {
      Simd::Pairs values[kVectors];
      Simd::weave(v, key + 1 < t_.keys ? v + v_stride_ : kZeros, values);
      __builtin_prefetch(v + to_next_v_, 0, 2);
      __builtin_prefetch(v + v_stride_ + to_next_v_, 0, 2);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const Simd::Pairs weight = Simd::splat_pair(p.probabilities + r * FlashTile::kKeys + key);
#pragma GCC unroll 2
        for (int c = 0; c < kVectors; ++c) acc[r][c] = Simd::dot_pairs(acc[r][c], values[c], weight);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) Simd::store_woven(out + r * t_.head_dim, acc[r]);
  }

  const FlashTile& t_;
  int64_t k_stride_, v_stride_;
  int64_t to_next_k_, to_next_v_;  // elements from a place in this tile to the same one in the next
};
