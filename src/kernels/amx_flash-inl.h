// One tile of FlashAttention-2 on AMX tiles: FlashTile's promise (kernels.h) in blocks of 16 rows, whose
// scores lie in four tiles of sums. Part of amx-inl.h.

class FlashTiles {
 public:
  FlashTiles(const FlashTile& tile, int64_t row)
      : t_(tile), row_(row), rows_(smaller(kSide, tile.rows - row)) {
    for (int64_t r = 0; r < rows_; ++r) {
      const int64_t sees = t_.visible + (row + r) / t_.group;
      visible_[r] = sees < 0 ? 0 : smaller(sees, t_.keys);
    }
  }

  void run() {
    if (visible_[rows_ - 1] == 0) return;  // no row sees a key: nothing changes
    multiply_keys();
    move_shift();
    for (int64_t r = 0; r < rows_; ++r) exponentiate(r);
    for (int64_t column = 0; column < t_.head_dim; column += 4 * kSide) {
      switch (smaller(4, (t_.head_dim - column) / kSide)) {
        case 4:
          weigh<4>(column);
          break;
        case 3:
          weigh<3>(column);
          break;
        case 2:
          weigh<2>(column);
          break;
        default:
          weigh<1>(column);
      }
    }
  }

 private:
  static constexpr int64_t kKeys = FlashTile::kKeys;
  static constexpr int64_t kKeyStride = kKeys * 4;  // bytes between pairs of packed keys

  // Scores of all rows with all keys, those that a row may not see included.
  void multiply_keys() {
    const auto* q = reinterpret_cast<const char*>(t_.q + row_ * t_.head_dim);
    const auto* k = reinterpret_cast<const char*>(t_.k);
    const int64_t stride = t_.head_dim * 2, steps = t_.head_dim / kBf16Step;
    before_loading_tiles();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < steps; ++i, k += kSide * kKeyStride) {
      _tile_loadd(4, q + i * 64, stride);
      _tile_loadd(6, k, kKeyStride);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(6, k + 64, kKeyStride);
      _tile_dpbf16ps(1, 4, 6);
      _tile_loadd(6, k + 128, kKeyStride);
      _tile_dpbf16ps(2, 4, 6);
      _tile_loadd(6, k + 192, kKeyStride);
      _tile_dpbf16ps(3, 4, 6);
    }
    if (t_.head_dim % kBf16Step != 0) {  // 16 elements are left: tiles of that shape
      _tile_loadd(5, q + steps * 64, stride);
      _tile_loadd(7, k, kKeyStride);
      _tile_dpbf16ps(0, 5, 7);
      _tile_loadd(7, k + 64, kKeyStride);
      _tile_dpbf16ps(1, 5, 7);
      _tile_loadd(7, k + 128, kKeyStride);
      _tile_dpbf16ps(2, 5, 7);
      _tile_loadd(7, k + 192, kKeyStride);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, scores_, kKeys * 4);
    _tile_stored(1, scores_ + kSide, kKeys * 4);
    _tile_stored(2, scores_ + 2 * kSide, kKeys * 4);
    _tile_stored(3, scores_ + 3 * kSide, kKeys * 4);
  }

  Simd::F score(int64_t row, int vector) const {
    const Simd::F all = Simd::load(scores_ + row * kKeys + vector * Simd::kWidth);
    return visible_[row] >= (vector + 1) * Simd::kWidth
               ? all
               : Simd::first_of(lanes_of(visible_[row], vector), all, Simd::splat(-__builtin_inff()));
  }

  // The running maxima move to those of the tile, and what was summed before shrinks accordingly.
  void move_shift() {
    alignas(64) float moved[kSide] = {};
    bool any = false;
    for (int64_t r = 0; r < rows_; ++r) {
      const Simd::F best =
          Simd::max(Simd::max(score(r, 0), score(r, 1)), Simd::max(score(r, 2), score(r, 3)));
      const float highest = Simd::max_lane(best) * t_.scale;
      float& shift = t_.shift[row_ + r];
      if (highest > shift) {
        moved[r] = shift - highest;
        shift = highest;
        any = true;
      }
    }
    if (!any) return;  // times one
    alignas(64) float factors[kSide];
    Simd::store(factors, power_of_two_of(Simd::load(moved)));
    for (int64_t r = 0; r < rows_; ++r) {
      t_.sum[row_ + r] *= factors[r];
      float* out = t_.out + (row_ + r) * t_.head_dim;
      const Simd::F factor = Simd::splat(factors[r]);
      for (int64_t c = 0; c < t_.head_dim; c += Simd::kWidth)
        Simd::store(out + c, Simd::mul(Simd::load(out + c), factor));
    }
  }

  // Row r's scores to powers of two, their sum, and their roundings in probabilities_; hidden keys give 0.
  void exponentiate(int64_t r) {
    const float shift = t_.shift[row_ + r];
    // A row without a visible key keeps shift -inf; 0 in its place gives 2^-inf = 0 instead of NaN.
    const Simd::F factor = Simd::splat(t_.scale),
                  offset = Simd::splat(shift == -__builtin_inff() ? 0.f : -shift);
    Simd::F powers[4];
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) powers[c] = power_of_two_of(Simd::fma(score(r, c), factor, offset));
    uint16_t* to = probabilities_ + r * kKeys;
    Simd::store_two_bf16(to, powers[0], powers[1]);
    Simd::store_two_bf16(to + 2 * Simd::kWidth, powers[2], powers[3]);
    t_.sum[row_ + r] +=
        Simd::sum_lanes(Simd::add(Simd::add(powers[0], powers[1]), Simd::add(powers[2], powers[3])));
  }

  // kTiles x 16 columns of out += P V. Always over all keys of the tile: a row's bits then do not depend on
  // how far its neighbours see.
  template <int kTiles>
  void weigh(int64_t column) const {
    const int64_t stride = t_.head_dim * 4;  // bytes, of out and of a pair of packed values
    auto* out = reinterpret_cast<char*>(t_.out + row_ * t_.head_dim + column);
    const auto* v = reinterpret_cast<const char*>(t_.v + 2 * column);
    before_loading_tiles();
    _tile_loadd(0, out, stride);
    if constexpr (kTiles > 1) _tile_loadd(1, out + 64, stride);
    if constexpr (kTiles > 2) _tile_loadd(2, out + 128, stride);
    if constexpr (kTiles > 3) _tile_loadd(3, out + 192, stride);
    for (int64_t i = 0; i < kKeys / kBf16Step; ++i, v += kSide * stride) {
      _tile_loadd(4, probabilities_ + i * kBf16Step, kKeys * 2);
      _tile_loadd(6, v, stride);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (kTiles > 1) {
        _tile_loadd(6, v + 64, stride);
        _tile_dpbf16ps(1, 4, 6);
      }
      if constexpr (kTiles > 2) {
        _tile_loadd(6, v + 128, stride);
        _tile_dpbf16ps(2, 4, 6);
      }
      if constexpr (kTiles > 3) {
        _tile_loadd(6, v + 192, stride);
        _tile_dpbf16ps(3, 4, 6);
      }
    }
    _tile_stored(0, out, stride);
    if constexpr (kTiles > 1) _tile_stored(1, out + 64, stride);
    if constexpr (kTiles > 2) _tile_stored(2, out + 128, stride);
    if constexpr (kTiles > 3) _tile_stored(3, out + 192, stride);
  }

  const FlashTile& t_;
  int64_t row_, rows_, visible_[kSide];
  alignas(64) float scores_[kSide * kKeys];
  alignas(64) uint16_t probabilities_[kSide * kKeys];
};

inline void flash_tile_amx(const FlashTile& tile) {
  const int64_t whole = tile.rows / kSide * kSide, tail = tile.head_dim % kBf16Step * 2;
  if (whole > 0) {
    const TileShapes shapes(kSide, tail);
    for (int64_t row = 0; row < whole; row += kSide) FlashTiles(tile, row).run();
  }
  if (whole < tile.rows) {
    const TileShapes shapes(tile.rows - whole, tail);
    FlashTiles(tile, whole).run();
  }
}
