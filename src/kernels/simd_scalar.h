// Eight lanes in portable C++: the meaning of every other Simd, and what runs on a machine without AVX2.
#pragma once

#include <cmath>
#include <cstring>

#include "base/dtype.h"

// Keeps a vector that several sums multiply in a register: gcc 12 would load it for each of them.
#define FOVEA_IN_REGISTER(a) static_cast<void>(a)

namespace fovea {
namespace {

struct Simd {
  static constexpr int kWidth = 8;
  static constexpr int kTileRows = 4, kTileCols = 3;  // matmul_nt register tile
  static constexpr int kFewTileRows = 4;              // the same for few rows
  static constexpr int64_t kMostWidening = 16;        // rows up to which 16-bit weights are widened in tiles
  static constexpr int kOuterRows = 4, kOuterVectors = 2;  // matmul_nn register tile
  static constexpr int kInt8Rows = 2, kInt8Vectors = 2, kInt4Rows = 2,
                       kInt4Vectors = 2;  // quantized products
  struct F {
    float lane[kWidth];
  };
  struct I {
    int32_t lane[kWidth];
  };

  template <typename Fn>
  static F each(Fn fn) {
    F result;
    for (int i = 0; i < kWidth; ++i) result.lane[i] = fn(i);
    return result;
  }
  static F splat(float x) {
    return each([&](int) { return x; });
  }
  static F load(const float* p) {
    return each([&](int i) { return p[i]; });
  }
  static F load(const float* p, int count) {
    return each([&](int i) { return i < count ? p[i] : 0.f; });
  }
  static F load_bf16(const uint16_t* p) {
    return each([&](int i) { return f32_from_bf16(p[i]); });
  }
  static F load_bf16(const uint16_t* p, int count) {
    return each([&](int i) { return i < count ? f32_from_bf16(p[i]) : 0.f; });
  }
  // The same where every register holds a sum.
  template <typename... Count>
  static F load_bf16_beside_sums(const uint16_t* p, Count... count) {
    return load_bf16(p, count...);
  }
  static F load_f16(const uint16_t* p) {
    return each([&](int i) { return f32_from_f16(p[i]); });
  }
  static F load_f16(const uint16_t* p, int count) {
    return each([&](int i) { return i < count ? f32_from_f16(p[i]) : 0.f; });
  }
  static void store(float* p, F a) {
    for (int i = 0; i < kWidth; ++i) p[i] = a.lane[i];
  }
  static void store(float* p, F a, int count) {
    for (int i = 0; i < count; ++i) p[i] = a.lane[i];
  }
  static void store_bf16(uint16_t* p, F a) {
    for (int i = 0; i < kWidth; ++i) p[i] = bf16_from_f32(a.lane[i]);
  }
  static void store_f16(uint16_t* p, F a) {
    for (int i = 0; i < kWidth; ++i) p[i] = f16_from_f32(a.lane[i]);
  }
  static F round_bf16(F a) {
    return each([&](int i) { return rounded(a.lane[i], DType::bf16); });
  }
  static F add(F a, F b) {
    return each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static F mul(F a, F b) {
    return each([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static F div(F a, F b) {
    return each([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  static F fma(F a, F b, F c) {
    return each([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
  }
  static F max(F a, F b) {
    return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  // Like max, gives b where a or b is NaN.
  static F min(F a, F b) {
    return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static F round_to_integer(F a) {
    return each([&](int i) { return std::nearbyint(a.lane[i]); });
  }
  // 2^a for integral a in [-126, 127], infinity for 128; any value elsewhere.
  static F power_of_two(F a) {
    return each([&](int i) {
      const float n = a.lane[i] >= -126.f && a.lane[i] <= 128.f ? a.lane[i] : 0.f;
      return std::bit_cast<float>(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
    });
  }
  // a < b ? 0 : c, keeping c where a is NaN.
  static F zero_where_less(F a, F b, F c) {
    return each([&](int i) { return a.lane[i] < b.lane[i] ? 0.f : c.lane[i]; });
  }
  // out[i] = the sum of the lanes of the i-th argument, always in the same tree.
  static void sum4(F a, F b, F c, F d, float out[4]) {
    const F* all[4] = {&a, &b, &c, &d};
    for (int i = 0; i < 4; ++i) {
      const float* l = all[i]->lane;
      out[i] = ((l[0] + l[1]) + (l[2] + l[3])) + ((l[4] + l[5]) + (l[6] + l[7]));
    }
  }
  // sum4 of a[0..3] to y[0..3] and of b[0..3] to z[0..3], added to what is there unless `first`.
  static void sum_pair(const F a[4], const F b[4], float* y, float* z, bool first) {
    float sums[8];
    sum4(a[0], a[1], a[2], a[3], sums);
    sum4(b[0], b[1], b[2], b[3], sums + 4);
    for (int i = 0; i < 4; ++i) {
      y[i] = first ? sums[i] : y[i] + sums[i];
      z[i] = first ? sums[4 + i] : z[i] + sums[4 + i];
    }
  }
  static float max_lane(F a) {
    float best = a.lane[0];
    for (int i = 1; i < kWidth; ++i) best = a.lane[i] > best ? a.lane[i] : best;
    return best;
  }

  static I splat_int(int32_t x) {
    I result;
    for (int32_t& lane : result.lane) lane = x;
    return result;
  }
  static I load_int(const void* p) {
    I result;
    std::memcpy(result.lane, p, sizeof result.lane);
    return result;
  }
  static I add_int(I a, I b) {
    for (int i = 0; i < kWidth; ++i) a.lane[i] += b.lane[i];
    return a;
  }
  static F from_int(I a) {
    return each([&](int i) { return static_cast<float>(a.lane[i]); });
  }
  static F load_int8(const int8_t* p) {
    return each([&](int i) { return static_cast<float>(p[i]); });
  }
  // Integral values of at most 127 as bytes.
  static void store_int8(int8_t* p, F a) {
    for (int i = 0; i < kWidth; ++i) p[i] = static_cast<int8_t>(a.lane[i]);
  }
  // acc[i] + sum over the four bytes of w[i] and x[i] of (w + kByteOffset) * x, where w went through
  // bytes_for_dot(); all bytes signed, x and w from -127 on.
  static constexpr int kByteOffset = 0;
  static I bytes_for_dot(I w) { return w; }
  static I dot_bytes(I acc, I w, I x) {
    int8_t a[4 * kWidth], b[4 * kWidth];
    std::memcpy(a, w.lane, sizeof a);
    std::memcpy(b, x.lane, sizeof b);
    for (int i = 0; i < 4 * kWidth; ++i) acc.lane[i / 4] += a[i] * b[i];
    return acc;
  }
  // The same for w of 0 to 15, without offset.
  static I dot_nibbles(I acc, I w, I x) { return dot_bytes(acc, w, x); }
  // end_nibbles() of what add_nibbles() added to begin_nibbles(acc) is acc with all these products, at most
  // eight times dot_nibbles().
  static I begin_nibbles(I acc) { return acc; }
  static I add_nibbles(I sums, I w, I x) { return dot_nibbles(sums, w, x); }
  static I end_nibbles(I /*acc*/, I sums) { return sums; }
  static I low_nibbles(I a) {
    for (int32_t& lane : a.lane) lane &= 0x0f0f0f0f;
    return a;
  }
  static I high_nibbles(I a) {
    for (int32_t& lane : a.lane) lane = lane >> 4 & 0x0f0f0f0f;
    return a;
  }
};

}  // namespace
}  // namespace fovea
