// Plain C++ with the documented meaning (Intel SDM volume 2) of exactly the AMX intrinsics that amx-inl.h
// uses. Include it after avx512_emulation_testing.h and before amx-inl.h.
#pragma once

#include "kernels/avx512_emulation_testing.h"

namespace fovea::emulated {

struct TileRegister {
  uint16_t row_bytes = 0;
  uint8_t rows = 0;
  alignas(64) uint8_t bytes[16][64] = {};
};
inline thread_local TileRegister tiles[8];

inline void tile_loadconfig(const void* config) {
  const auto* bytes = static_cast<const uint8_t*>(config);
  if (bytes[0] != 1) std::abort();
  for (int t = 0; t < 8; ++t) {
    tiles[t] = {};
    std::memcpy(&tiles[t].row_bytes, bytes + 16 + 2 * t, 2);
    tiles[t].rows = bytes[48 + t];
    if (tiles[t].row_bytes > 64 || tiles[t].rows > 16) std::abort();
  }
}
inline void tile_release() {
  for (TileRegister& tile : tiles) tile = {};
}
// Using a tile without a shape faults on the machine.
inline TileRegister& tile_in_use(int t) {
  if (tiles[t].rows == 0) std::abort();
  return tiles[t];
}
inline void tile_zero(int t) { std::memset(tile_in_use(t).bytes, 0, sizeof tiles[t].bytes); }
inline void tile_loadd(int t, const void* from, int64_t stride) {
  TileRegister& tile = tile_in_use(t);
  std::memset(tile.bytes, 0, sizeof tile.bytes);
  for (int r = 0; r < tile.rows; ++r) {
    std::memcpy(tile.bytes[r], static_cast<const char*>(from) + r * stride, tile.row_bytes);
  }
}
inline void tile_stored(int t, void* to, int64_t stride) {
  const TileRegister& tile = tile_in_use(t);
  for (int r = 0; r < tile.rows; ++r)
    std::memcpy(static_cast<char*>(to) + r * stride, tile.bytes[r], tile.row_bytes);
}

template <typename T>
T tile_element(const TileRegister& tile, int row, int column) {
  T value;
  std::memcpy(&value, tile.bytes[row] + sizeof(T) * column, sizeof value);
  return value;
}

// Shapes must agree, or the machine faults.
inline void check_shapes(const TileRegister& sums, const TileRegister& left, const TileRegister& right) {
  if (sums.rows != left.rows || left.row_bytes != 4 * right.rows || sums.row_bytes != right.row_bytes)
    std::abort();
}

inline void tile_dpbssd(int s, int l, int r) {
  TileRegister& sums = tile_in_use(s);
  const TileRegister &left = tile_in_use(l), &right = tile_in_use(r);
  check_shapes(sums, left, right);
  for (int m = 0; m < sums.rows; ++m) {
    for (int n = 0; n < sums.row_bytes / 4; ++n) {
      auto sum = tile_element<int32_t>(sums, m, n);
      for (int k = 0; k < left.row_bytes; ++k) {
        sum += tile_element<int8_t>(left, m, k) * tile_element<int8_t>(right, k / 4, 4 * n + k % 4);
      }
      std::memcpy(sums.bytes[m] + 4 * n, &sum, 4);
    }
  }
}

// Even and odd elements are summed apart, by fused multiply-adds in ascending order; then their sum is added.
inline void tile_dpbf16ps(int s, int l, int r) {
  TileRegister& sums = tile_in_use(s);
  const TileRegister &left = tile_in_use(l), &right = tile_in_use(r);
  check_shapes(sums, left, right);
  for (int m = 0; m < sums.rows; ++m) {
    for (int n = 0; n < sums.row_bytes / 4; ++n) {
      float parts[2] = {};
      for (int k = 0; k < left.row_bytes / 2; ++k) {
        parts[k % 2] = flushing_fma(tile_element<uint16_t>(left, m, k),
                                    tile_element<uint16_t>(right, k / 2, 2 * n + k % 2), parts[k % 2]);
      }
      const float sum = flushed(flushed(tile_element<float>(sums, m, n)) + flushed(parts[0] + parts[1]));
      std::memcpy(sums.bytes[m] + 4 * n, &sum, 4);
    }
  }
}

}  // namespace fovea::emulated

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#undef _tile_dpbf16ps
#define _tile_loadconfig ::fovea::emulated::tile_loadconfig
#define _tile_release ::fovea::emulated::tile_release
#define _tile_zero ::fovea::emulated::tile_zero
#define _tile_loadd ::fovea::emulated::tile_loadd
#define _tile_stored ::fovea::emulated::tile_stored
#define _tile_dpbssd ::fovea::emulated::tile_dpbssd
#define _tile_dpbf16ps ::fovea::emulated::tile_dpbf16ps
