#include "base/block_format.h"

#include <cstring>

#include "base/dtype.h"

namespace fovea {

namespace {

constexpr int64_t kSmall = 32, kLarge = 256;  // weights of a block

// The values that IQ4_NL's and IQ4_XS's nibbles stand for.
constexpr int kNonlinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

float half_at(const uint8_t* bytes) {
  uint16_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return f32_from_f16(bits);
}

int bit(const uint8_t* bytes, int64_t i) { return bytes[i / 8] >> i % 8 & 1; }

// Nibble i of 32: low halves come first.
int nibble(const uint8_t* bytes, int64_t i) { return i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4; }

void widen_q4_0(const uint8_t* b, float* out) {
  const float scale = half_at(b);
  for (int64_t i = 0; i < kSmall; ++i) out[i] = scale * static_cast<float>(nibble(b + 2, i) - 8);
}
void widen_q4_1(const uint8_t* b, float* out) {
  const float scale = half_at(b), least = half_at(b + 2);
  for (int64_t i = 0; i < kSmall; ++i) out[i] = scale * static_cast<float>(nibble(b + 4, i)) + least;
}
void widen_q5_0(const uint8_t* b, float* out) {
  const float scale = half_at(b);
  for (int64_t i = 0; i < kSmall; ++i)
    out[i] = scale * static_cast<float>((nibble(b + 6, i) | bit(b + 2, i) << 4) - 16);
}
void widen_q5_1(const uint8_t* b, float* out) {
  const float scale = half_at(b), least = half_at(b + 2);
  for (int64_t i = 0; i < kSmall; ++i)
    out[i] = scale * static_cast<float>(nibble(b + 8, i) | bit(b + 4, i) << 4) + least;
}
void widen_q8_0(const uint8_t* b, float* out) {
  const float scale = half_at(b);
  for (int64_t i = 0; i < kSmall; ++i) out[i] = scale * static_cast<float>(static_cast<int8_t>(b[2 + i]));
}
void widen_iq4_nl(const uint8_t* b, float* out) {
  const float scale = half_at(b);
  for (int64_t i = 0; i < kSmall; ++i) out[i] = scale * static_cast<float>(kNonlinear[nibble(b + 2, i)]);
}

// Scale and minimum, 6 bits each, of eighth `j` of a block of Q4_K or Q5_K, whose 12 bytes these are: the
// last four eighths keep their two high bits above those of the first four.
struct SixBits {
  int scale, minimum;
};
SixBits six_bits(const uint8_t* packed, int64_t j) {
  if (j < 4) return {packed[j] & 63, packed[4 + j] & 63};
  return {(packed[4 + j] & 15) | (packed[j - 4] >> 6) << 4, packed[4 + j] >> 4 | (packed[j] >> 6) << 4};
}

// `high`: a fifth bit of each weight, of eighth j in bit j; null: none.
void widen_eighths(const uint8_t* b, const uint8_t* high, const uint8_t* nibbles, float* out) {
  for (int64_t j = 0; j < 8; ++j) {
    const SixBits six = six_bits(b + 4, j);
    const float scale = half_at(b) * static_cast<float>(six.scale),
                minimum = half_at(b + 2) * static_cast<float>(six.minimum);
    for (int64_t i = 0; i < 32; ++i) {
      const int both = nibbles[j / 2 * 32 + i];
      const int value = (j % 2 == 0 ? both & 15 : both >> 4) | (high != nullptr ? high[i] >> j & 1 : 0) << 4;
      out[32 * j + i] = scale * static_cast<float>(value) - minimum;
    }
  }
}
void widen_q4_k(const uint8_t* b, float* out) { widen_eighths(b, nullptr, b + 16, out); }
void widen_q5_k(const uint8_t* b, float* out) { widen_eighths(b, b + 16, b + 48, out); }

void widen_q6_k(const uint8_t* b, float* out) {
  const uint8_t *low = b, *high = b + 128, *scales = b + 192;
  const float scale = half_at(b + 208);
  for (int64_t i = 0; i < kLarge; ++i) {
    const int64_t half = i / 128, quarter = i % 128 / 32, at = i % 32;
    const int both = low[64 * half + quarter % 2 * 32 + at];
    const int value = (quarter < 2 ? both & 15 : both >> 4) | (high[32 * half + at] >> 2 * quarter & 3) << 4;
    out[i] = scale * static_cast<float>(static_cast<int8_t>(scales[i / 16])) * static_cast<float>(value - 32);
  }
}

void widen_iq4_xs(const uint8_t* b, float* out) {
  uint16_t high;
  std::memcpy(&high, b + 2, sizeof high);
  for (int64_t j = 0; j < 8; ++j) {
    const int six = (b[4 + j / 2] >> 4 * (j % 2) & 15) | (high >> 2 * j & 3) << 4;
    const float scale = half_at(b) * static_cast<float>(six - 32);
    for (int64_t i = 0; i < 32; ++i)
      out[32 * j + i] = scale * static_cast<float>(kNonlinear[nibble(b + 8 + 16 * j, i)]);
  }
}

struct Format {
  const char* name;
  int64_t elements, bytes;
  void (*widen)(const uint8_t* block, float* out);
};

const Format& of(BlockFormat format) {
  static constexpr Format kFormats[] = {
      {"Q4_0", kSmall, 18, widen_q4_0},     {"Q4_1", kSmall, 20, widen_q4_1},
      {"Q5_0", kSmall, 22, widen_q5_0},     {"Q5_1", kSmall, 24, widen_q5_1},
      {"Q8_0", kSmall, 34, widen_q8_0},     {"Q4_K", kLarge, 144, widen_q4_k},
      {"Q5_K", kLarge, 176, widen_q5_k},    {"Q6_K", kLarge, 210, widen_q6_k},
      {"IQ4_NL", kSmall, 18, widen_iq4_nl}, {"IQ4_XS", kLarge, 136, widen_iq4_xs},
  };
  return kFormats[static_cast<size_t>(format)];
}

}  // namespace

const char* name_of(BlockFormat format) { return of(format).name; }
int64_t elements_of(BlockFormat format) { return of(format).elements; }
int64_t bytes_of(BlockFormat format) { return of(format).bytes; }

void widen_blocks(BlockFormat format, const void* blocks, int64_t count, float* out) {
  const Format& f = of(format);
  const auto* block = static_cast<const uint8_t*>(blocks);
  for (int64_t at = 0; at < count; at += f.elements, block += f.bytes) f.widen(block, out + at);
}

}  // namespace fovea
