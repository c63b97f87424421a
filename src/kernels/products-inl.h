// Products of rows in f32 and bf16 with weights as they lie in a checkpoint, over the including file's Simd.
// Part of kernels-inl.h.

// ---- how work is cut
// ---------------------------------------------------------------------------------------------

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Calls body(first, height) for strips of at most kMost rows; `height` is a constant. The last two strips
// share what they have, because a strip of one or two rows waits for its weights.
template <int kMost, typename Body>
__attribute__((always_inline)) inline void strip_of(int64_t height, int64_t first, Body& body) {
  if (height == kMost) return body(first, std::integral_constant<int, kMost>{});
  if constexpr (kMost > 1) strip_of<kMost - 1>(height, first, body);
}
template <int kMost, typename Body>
__attribute__((always_inline)) inline void for_strips(int64_t rows, Body body) {
  for (int64_t first = 0, left = rows; left > 0;) {
    const int64_t height = left >= 2 * kMost ? kMost : left > kMost ? (left + 1) / 2 : left;
    strip_of<kMost>(height, first, body);
    first += height;
    left -= height;
  }
}

// Memory that is read next, `rows` rows of `bytes` each, brought to the L2 cache evenly while some() is
// called `calls` times beside other work: the first strip of a product would wait for it. Nothing is fetched
// that would drive out what is in use.
class Fetch {
 public:
  static constexpr int kSteps = 0;  // tiles of many rows take long enough to fetch between them

  Fetch() = default;
  Fetch(const void* at, int64_t rows, int64_t bytes, int64_t stride, int64_t calls) {
    constexpr int64_t kMost = 512 << 10;  // half of the smallest L2 cache among machines with fast products
    if (at == nullptr || calls < 1 || rows * bytes > kMost) return;
    row_ = at_ = static_cast<const char*>(at);
    rows_ = rows;
    bytes_ = bytes;
    stride_ = stride;
    rate_ = (rows * ((bytes + kLine - 1) / kLine) * kOne + calls - 1) / calls;
  }
  void some() {
    for (due_ += rate_; due_ >= kOne && rows_ > 0; due_ -= kOne) {
      __builtin_prefetch(at_, 0, 2);
      at_ += kLine;
      if (at_ < row_ + bytes_) continue;
      row_ = at_ = row_ + stride_;
      --rows_;
    }
  }

 private:
  static constexpr int64_t kLine = 64,
                           kOne = 1 << 16;  // lines are counted in parts: few rows need less than one
  const char *row_ = nullptr, *at_ = nullptr;
  int64_t rows_ = 0, bytes_ = 0, stride_ = 0, rate_ = 0, due_ = 0;
};
// For few rows, whose product takes as long as the memory: within tiles, every so many steps of depth,
// because what is asked for at once waits in a queue.
struct SteadyFetch : Fetch {
  static constexpr int kSteps = 16;
  using Fetch::Fetch;
};

// ---- y[m, n] = sum_k x[m, k] w[n, k]
// ------------------------------------------------------------------------ Vectors run along k for both
// operands, so neither needs packing and a row of a memory-mapped weight is read as it lies. One accumulator
// per output, summed in blocks of k whose size depends on the operand types alone: the order of every sum is
// the same whatever the tile, which makes results independent of batch and chunk size.

// How an operand pair is loaded and multiplied. kStep: elements of k per vector step. kBlock: elements of k
// per partial sum; a tile's rows of x over one block stay in L1. kFewCols: rows of w that few rows of x read
// at a time, far from each other: a stream each, which the CPU itself fetches ahead. One sum at a time waits
// for its own last step, and neighbouring rows, a multiple of 4 KiB apart, confuse that fetching.
struct F32F32 {
  using X = float;
  using W = float;
  using XVec = Simd::F;
  static constexpr int64_t kStep = Simd::kWidth, kBlock = 1024;
  static constexpr int kFewCols = 4;
  template <typename... Count>
  static XVec load_x(const X* p, Count... count) {
    return Simd::load(p, count...);
  }
  template <typename... Count>
  static XVec load_w(const W* p, Count... count) {
    return Simd::load(p, count...);
  }
  static Simd::F mac(Simd::F acc, XVec x, XVec w) { return Simd::fma(x, w, acc); }
};
template <typename Op>
struct InTiles : Op {};

struct F32Bf16 : F32F32 {
  using W = uint16_t;
  template <typename... Count>
  static XVec load_w(const W* p, Count... count) {
    return Simd::load_bf16(p, count...);
  }
  static void widen(const W* in, float* out, int64_t count);
};

// As tiles of many sums load it.
template <>
struct InTiles<F32Bf16> : F32Bf16 {
  template <typename... Count>
  static XVec load_w(const W* p, Count... count) {
    return Simd::load_bf16_beside_sums(p, count...);
  }
};

struct F32F16 : F32F32 {
  using W = uint16_t;
  template <typename... Count>
  static XVec load_w(const W* p, Count... count) {
    return Simd::load_f16(p, count...);
  }
  static void widen(const W* in, float* out, int64_t count);
};

#ifdef FOVEA_BF16_DOT
struct Bf16Bf16 {
  using X = uint16_t;
  using W = uint16_t;
  using XVec = Simd::Pairs;
  static constexpr int64_t kStep = 2 * Simd::kWidth, kBlock = 2048;
  static constexpr int kFewCols = 2;
  template <typename... Count>
  static XVec load_x(const X* p, Count... count) {
    return Simd::load_pairs(p, count...);
  }
  template <typename... Count>
  static XVec load_w(const W* p, Count... count) {
    return Simd::load_pairs(p, count...);
  }
  static Simd::F mac(Simd::F acc, XVec x, XVec w) { return Simd::dot_pairs(acc, x, w); }
};
#endif

// The partial sums of a kRows x kCols tile over at most one block of k, added to y (or stored, for the first
// block).
template <typename Op, int kRows, int kCols, typename Ahead>
void tile_nt(const typename Op::X* x, int64_t ldx, const typename Op::W* w, int64_t ldw, float* y,
             int64_t ldy, int64_t k, bool first, Ahead& ahead) {
  constexpr int kTotal = kRows * kCols;
  Simd::F acc[(kTotal + 3) / 4 * 4];
  for (Simd::F& a : acc) a = Simd::splat(0.f);
  const auto step = [&](int64_t at, auto... count) __attribute__((always_inline)) {
    typename Op::XVec ws[kCols];
#pragma GCC unroll 8
    for (int c = 0; c < kCols; ++c) ws[c] = Op::load_w(w + c * ldw + at, count...);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      typename Op::XVec xs = Op::load_x(x + r * ldx + at, count...);
      if constexpr (Ahead::kSteps > 0) FOVEA_IN_REGISTER(xs);
#pragma GCC unroll 8
      for (int c = 0; c < kCols; ++c) acc[r * kCols + c] = Op::mac(acc[r * kCols + c], xs, ws[c]);
    }
  };
  int64_t at = 0;
  if constexpr (Ahead::kSteps > 0) {
    constexpr int64_t kRun = Ahead::kSteps * Op::kStep;
    for (int64_t end = kRun; end <= k; end += kRun) {
      for (; at < end; at += Op::kStep) step(at);
      ahead.some();
    }
  }
  for (; at + Op::kStep <= k; at += Op::kStep) step(at);
  if (at < k) step(at, static_cast<int>(k - at));
  constexpr int kPaired = kCols == 4 ? kRows / 2 * 2 : 0;
  if constexpr (kPaired > 0) {
#pragma GCC unroll 3
    for (int r = 0; r < kPaired; r += 2) {
      Simd::sum_pair(acc + r * kCols, acc + (r + 1) * kCols, y + r * ldy, y + (r + 1) * ldy, first);
    }
  }
  float sums[(kTotal + 3) / 4 * 4];
#pragma GCC unroll 8
  for (int i = kPaired * kCols; i < kTotal; i += 4) {
    Simd::sum4(acc[i], acc[i + 1], acc[i + 2], acc[i + 3], sums + i);
  }
  for (int r = kPaired; r < kRows; ++r) {
    for (int c = 0; c < kCols; ++c) {
      float& out = y[r * ldy + c];
      out = first ? sums[r * kCols + c] : out + sums[r * kCols + c];
    }
  }
}

// A strip of kRows rows of x against all rows of w, over one block of k.
template <typename Op, int kRows, int kCols, typename Ahead>
void strip_nt(const typename Op::X* x, int64_t ldx, const typename Op::W* w, int64_t ldw, float* y,
              int64_t ldy, int64_t cols, int64_t k, bool first, Ahead& ahead) {
  int64_t n = 0;
  for (; n + kCols <= cols; n += kCols) {
    tile_nt<Op, kRows, kCols>(x, ldx, w + n * ldw, ldw, y + n, ldy, k, first, ahead);
    if constexpr (Ahead::kSteps == 0) ahead.some();
  }
  if constexpr (kCols > 1) {
    if (n < cols) {
      strip_nt<Op, kRows, kCols / 2>(x, ldx, w + n * ldw, ldw, y + n, ldy, cols - n, k, first, ahead);
    }
  }
}

// One block of k for any number of rows, in strips of at most kMost, whose tiles have as many columns as
// registers allow.
template <typename Op, int kMost, typename Ahead>
void block_nt(const typename Op::X* x, int64_t ldx, const typename Op::W* w, int64_t ldw, float* y,
              int64_t ldy, int64_t rows, int64_t cols, int64_t k, bool first, Ahead& ahead) {
  for_strips<kMost>(
      rows, [&](int64_t m, auto height) __attribute__((always_inline)) {
        constexpr int kRows = decltype(height)::value, kSums = Simd::kTileRows * Simd::kTileCols,
                      kCols = kSums / kRows < Simd::kTileCols ? kSums / kRows : Simd::kTileCols;
        strip_nt<Op, kRows, kCols>(x + m * ldx, ldx, w, ldw, y + m * ldy, ldy, cols, k, first, ahead);
      });
}

// kCols columns that lie `apart` rows of w from each other, over the whole depth.
template <typename Op, int kRows, int kCols>
__attribute__((always_inline)) inline void columns_apart_nt(const typename Op::X* x, int64_t ldx,
                                                            const typename Op::W* w, int64_t ldw, float* y,
                                                            int64_t ldy, int64_t apart, int64_t k) {
  for (int64_t at = 0; at < k; at += Op::kBlock) {
    const int64_t k_now = k - at < Op::kBlock ? k - at : Op::kBlock;
    float sums[kRows * kCols];
    Fetch none;
    tile_nt<Op, kRows, kCols>(x + at, ldx, w + at, apart * ldw, sums, kCols, k_now, true, none);
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < kCols; ++c) {
        float& out = y[r * ldy + c * apart];
        out = at == 0 ? sums[r * kCols + c] : out + sums[r * kCols + c];
      }
    }
  }
}

// Few rows are bound by reading w. Not inlined: its instructions are counted (tools/count_instructions.py).
template <typename Op>
__attribute__((noinline)) void few_rows_nt(const typename Op::X* x, int64_t ldx, const typename Op::W* w,
                                           int64_t ldw, float* y, int64_t ldy, int64_t rows, int64_t cols,
                                           int64_t k) {
  for_strips<Simd::kTileRows>(
      rows, [&](int64_t, auto height) __attribute__((always_inline)) {
        constexpr int kRows = decltype(height)::value,
                      kCols = kRows == 1 || Op::kFewCols < Simd::kTileCols ? Op::kFewCols : Simd::kTileCols;
        const int64_t apart = cols / kCols;
        int64_t n = 0;
        for (; n < apart; ++n) {
          columns_apart_nt<Op, kRows, kCols>(x, ldx, w + n * ldw, ldw, y + n, ldy, apart, k);
        }
        for (n = apart * kCols; n < cols; ++n) {
          columns_apart_nt<Op, kRows, 1>(x, ldx, w + n * ldw, ldw, y + n, ldy, 1, k);
        }
      });
}

// More rows than one tile has: a block of depth of some columns stays in the L2 cache while the strips of
// rows pass over it, and the block that follows comes from memory in the same time.
template <typename Op>
void grouped_nt(const typename Op::X* x, int64_t ldx, const typename Op::W* w, int64_t ldw, float* y,
                int64_t ldy, int64_t rows, int64_t cols, int64_t k) {
  constexpr int64_t kElement = sizeof(typename Op::W), kGroup = (96 << 10) / (Op::kBlock * kElement);
  constexpr int64_t kSums = Simd::kTileRows * Simd::kTileCols, kRun = SteadyFetch::kSteps * Op::kStep;
  for (int64_t n = 0; n < cols; n += kGroup) {
    const int64_t cols_now = smaller(kGroup, cols - n), tiles = rows * cols_now / kSums;
    for (int64_t at = 0; at < k; at += Op::kBlock) {
      const int64_t k_now = smaller(Op::kBlock, k - at);
      const bool deeper = at + k_now < k;
      const int64_t next = deeper ? n : n + kGroup, next_at = deeper ? at + k_now : 0;
      SteadyFetch ahead;
      if (next < cols) {
        ahead = {w + next * ldw + next_at, smaller(kGroup, cols - next),
                 smaller(Op::kBlock, k - next_at) * kElement, ldw * kElement, tiles * (k_now / kRun)};
      }
      block_nt<InTiles<Op>, Simd::kFewTileRows>(x + at, ldx, w + n * ldw + at, ldw, y + n, ldy, rows,
                                                cols_now, k_now, at == 0, ahead);
    }
  }
}

template <typename Op>
void matmul_nt(const typename Op::X* x, int64_t ldx, const typename Op::W* w, int64_t ldw, float* y,
               int64_t ldy, int64_t rows, int64_t cols, int64_t k) {
  if (k == 0) {
    for (int64_t m = 0; m < rows; ++m) {
      for (int64_t n = 0; n < cols; ++n) y[m * ldy + n] = 0.f;
    }
  }
  if (rows <= Simd::kTileRows) return few_rows_nt<Op>(x, ldx, w, ldw, y, ldy, rows, cols, k);
  grouped_nt<Op>(x, ldx, w, ldw, y, ldy, rows, cols, k);
}

#ifdef FOVEA_BF16_DOT
// Rows of bf16 as they are, each in whole vectors, so that none lies across two cache lines.
inline int64_t padded_depth(int64_t k) {
  constexpr int64_t kStep = Bf16Bf16::kStep;
  return (k + kStep - 1) / kStep * kStep;
}
// Weights of a block of depth as vectors may read them: as they lie, or copied. Where a tensor begins in a
// checkpoint is a matter of chance, and a vector across two cache lines is read twice, by every strip of
// rows.
class AlignedBlock {
 public:
  static constexpr int64_t kRows = 128, kStride = Bf16Bf16::kBlock + Bf16Bf16::kStep,
                           kBytes = kRows * kStride * int64_t{sizeof(uint16_t)};

  // `copy`: kBytes
  AlignedBlock(const uint16_t* w, int64_t ldw, void* copy)
      : copies_((reinterpret_cast<uintptr_t>(w) | 2 * ldw) % 64 != 0), copy_(static_cast<uint16_t*>(copy)) {}
  int64_t stride(int64_t ldw) const { return copies_ ? kStride : ldw; }
  const uint16_t* rows(const uint16_t* w, int64_t ldw, int64_t rows, int64_t k) {
    if (!copies_) return w;
    for (int64_t r = 0; r < rows; ++r) {
      __builtin_memcpy(copy_ + r * kStride, w + r * ldw, static_cast<size_t>(2 * k));
    }
    return copy_;
  }

 private:
  bool copies_;
  uint16_t* copy_;
};

// `next`: rows of w, as long as these, that the thread reads next.
inline void matmul_nt_bf16_rows(const uint16_t* x, const uint16_t* w, int64_t ldw, float* y, int64_t ldy,
                                int64_t rows, int64_t cols, int64_t k, Upcoming next, void* scratch) {
  const int64_t ldx = padded_depth(k);
  if (rows <= Kernels::kFewRows || k == 0) {
    matmul_nt<Bf16Bf16>(x, ldx, w, ldw, y, ldy, rows, cols, k);
    return;
  }
  constexpr int64_t kBlock = Bf16Bf16::kBlock, kGroup = AlignedBlock::kRows;
  AlignedBlock block(w, ldw, scratch);
  for (int64_t n = 0; n < cols; n += kGroup) {
    const int64_t cols_now = cols - n < kGroup ? cols - n : kGroup;
    const int64_t tiles = rows / Simd::kTileRows * (cols_now / Simd::kTileCols);
    for (int64_t at = 0; at < k; at += kBlock) {
      const int64_t left = k - at, k_now = left < kBlock ? left : kBlock, beyond = left - k_now;
      const uint16_t* from = w + n * ldw + at;
      Fetch ahead =
          beyond > 0 ? Fetch(from + k_now, cols_now, 2 * (beyond < kBlock ? beyond : kBlock), 2 * ldw, tiles)
                     : Fetch(next.at, next.bytes / (2 * ldw), 2 * (k < kBlock ? k : kBlock), 2 * ldw, tiles);
      block_nt<Bf16Bf16, Simd::kTileRows>(x + at, ldx, block.rows(from, ldw, cols_now, k_now),
                                          block.stride(ldw), y + n, ldy, rows, cols_now, k_now, at == 0,
                                          ahead);
    }
  }
}
inline void bf16_from_f32_all(const float* in, uint16_t* out, int64_t count);
inline void pack_bf16_rows(const float* x, int64_t ldx, int64_t rows, int64_t k, uint16_t* out) {
  for (int64_t r = 0; r < rows; ++r) bf16_from_f32_all(x + r * ldx, out + r * padded_depth(k), k);
}
#endif

// 16-bit weights against many rows, where widening takes time from the sums: each block of w is widened once
// into scratch that fits the L2 cache.
template <typename Op>
void matmul_nt_widening(const float* x, int64_t ldx, const uint16_t* w, int64_t ldw, float* y, int64_t ldy,
                        int64_t rows, int64_t cols, int64_t k, void* scratch) {
  if (rows <= Simd::kMostWidening || k == 0) {
    matmul_nt<Op>(x, ldx, w, ldw, y, ldy, rows, cols, k);
    return;
  }
  constexpr int64_t kGroup = Kernels::kWidenedCols;
  static_assert(Op::kBlock == Kernels::kWidenedDepth);
  const int64_t stride = smaller(k, Op::kBlock);
  Fetch none;
  auto* wide = static_cast<float*>(scratch);
  for (int64_t n = 0; n < cols; n += kGroup) {
    const int64_t cols_now = cols - n < kGroup ? cols - n : kGroup;
    for (int64_t at = 0; at < k; at += Op::kBlock) {
      const int64_t k_now = k - at < Op::kBlock ? k - at : Op::kBlock;
      for (int64_t c = 0; c < cols_now; ++c) Op::widen(w + (n + c) * ldw + at, wide + c * stride, k_now);
      block_nt<F32F32, Simd::kTileRows>(x + at, ldx, wide, stride, y + n, ldy, rows, cols_now, k_now, at == 0,
                                        none);
    }
  }
}
