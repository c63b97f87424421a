// One tile of FlashAttention-2 (Dao 2023, algorithm 1) over the including file's Simd with native bf16
// products. Part of kernels-inl.h. A block of rows keeps its scores in registers from the product to the
// probabilities; K and V are packed so that a vector holds 16 keys (or 16 columns) and a pair of the other
// operand is broadcast.

#include "kernels/flash_operands-inl.h"

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
template <int kRows, typename Operands>
class FlashBlock {
 public:
  FlashBlock(const FlashTile& tile, int64_t row, Operands& operands)
      : t_(tile), row_(row), operands_(operands) {
    for (int r = 0; r < kRows; ++r) {
      const int64_t of = row + r < t_.rows ? row + r : t_.rows - 1, sees = t_.visible + of / t_.group;
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
    operands_.multiply_keys(row_, scores);
    if (visible_[0] < kVectors * Simd::kWidth) {
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) {
          scores[r][c] =
              Simd::first_of(lanes_of(visible_[r], c), scores[r][c], Simd::splat(-__builtin_inff()));
        }
      }
    }
    move_shift(scores);
    exponentiate(scores);
    operands_.template weigh_values<kRows>(row_, {factors_, probabilities_, most_});
  }

  // The running maxima move to those of the tile; factors_ = what earlier sums and products shrink by.
  template <int kVectors>
  void move_shift(const Simd::F (&scores)[kRows][kVectors]) {
    Simd::F best[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      best[r] = scores[r][0];
#pragma GCC unroll 4
      for (int c = 1; c < kVectors; ++c) best[r] = Simd::max(best[r], scores[r][c]);
    }
    const Simd::F highest = Simd::mul(Simd::max_rows(best), Simd::splat(t_.scale));
    const Simd::F before = Simd::load(t_.shift + row_, kRows), shift = Simd::max(highest, before);
    Simd::store(t_.shift + row_, shift, kRows);
    // A row without a visible key keeps shift -inf; a finite one in its place gives 2^-inf = 0 instead of
    // NaN.
    const Simd::F minus = Simd::mul(Simd::max(shift, Simd::splat(-__FLT_MAX__)), Simd::splat(-1.f));
    Simd::store(offsets_, minus);
    Simd::store(factors_, power_of_two_of(Simd::add(before, minus)));
  }

  // Scores to powers of two, their sums, and their roundings in probabilities_.
  template <int kVectors>
  void exponentiate(Simd::F (&scores)[kRows][kVectors]) {
    const Simd::F scale = Simd::splat(t_.scale);
    Simd::F sums[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Simd::F offset = Simd::splat(offsets_[r]);
      sums[r] = Simd::splat(0.f);
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) {
        scores[r][c] = power_of_two_of(Simd::fma(scores[r][c], scale, offset));
        sums[r] = Simd::add(sums[r], scores[r][c]);
      }
      uint16_t* to = probabilities_ + r * FlashTile::kKeys;
#pragma GCC unroll 2
      for (int c = 0; c < kVectors; c += 2) {
        Simd::store_two_bf16(to + c * Simd::kWidth, scores[r][c],
                             c + 1 < kVectors ? scores[r][c + 1] : Simd::splat(0.f));
      }
    }
    float* total = t_.sum + row_;
    const Simd::F kept = Simd::mul(Simd::load(total, kRows), Simd::load(factors_));
    Simd::store(total, Simd::add(kept, Simd::sum_rows(sums)), kRows);
  }

  const FlashTile& t_;
  int64_t row_, most_ = 0, visible_[kRows];
  Operands& operands_;
  alignas(64) float factors_[Simd::kWidth], offsets_[Simd::kWidth];
  alignas(64) uint16_t probabilities_[kRows * FlashTile::kKeys];
};

template <int kRows, typename Operands>
void flash_block(const FlashTile& tile, int64_t row, Operands& operands) {
  FlashBlock<kRows, Operands>(tile, row, operands).run();
}

inline void flash_tile(const FlashTile& tile) {
  PackedOperands packed(tile);
  int64_t row = 0;
  for (; tile.rows - row >= 6 && tile.rows - row != 8; row += 6) flash_block<6>(tile, row, packed);
  for (; tile.rows - row >= 4; row += 4) flash_block<4>(tile, row, packed);
  for (; tile.rows - row >= 2; row += 2) flash_block<2>(tile, row, packed);
  if (row < tile.rows) flash_block<1>(tile, row, packed);
}

inline void flash_rows(const FlashRows& rows) {
  StoredOperands stored(rows);
  if (rows.tile.rows <= FlashRows::kMost / 2) {
    flash_block<FlashRows::kMost / 2>(rows.tile, 0, stored);
  } else {
    flash_block<FlashRows::kMost>(rows.tile, 0, stored);
  }
}

// Pairs are elements of 32 bits, so that packing keys is a transposition of [keys, head_dim / 2].
inline void pack_flash_keys(const uint16_t* rows, int64_t stride, int64_t count, int64_t head_dim,
                            uint16_t* out) {
  constexpr int64_t kBlock = 16;
  for (int64_t key = 0; key < FlashTile::kKeys; key += kBlock) {
    for (int64_t pair = 0; pair < head_dim / 2; pair += kBlock) {
      const int64_t pairs = head_dim / 2 - pair < kBlock ? head_dim / 2 - pair : kBlock;
      uint16_t* to = out + (pair * FlashTile::kKeys + key) * 2;
      if (count - key >= kBlock) {  // head_dim is a multiple of 16: a block has 8 or 16 pairs
        const uint16_t* from = rows + key * stride + 2 * pair;
        if (pairs == kBlock) {
          Simd::transpose_16(from, stride / 2, to, FlashTile::kKeys);
        } else {
          Simd::transpose_16<kBlock / 2>(from, stride / 2, to, FlashTile::kKeys);
        }
        continue;
      }
      alignas(64) uint16_t block[kBlock * 2 * kBlock] = {}, turned[kBlock * 2 * kBlock];
      for (int64_t k = 0; k < kBlock && key + k < count; ++k) {
        __builtin_memcpy(block + 2 * kBlock * k, rows + (key + k) * stride + 2 * pair,
                         static_cast<size_t>(4 * pairs));
      }
      Simd::transpose_16(block, kBlock, turned, kBlock);
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
