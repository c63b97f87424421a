// Weights in the blocks of GGUF files unpacked for the products, over the including file's Simd. Part of
// kernels-inl.h. Bytes are pulled apart first, by loops that a compiler turns into vectors; then each run of
// weights with a common scale is scaled, which is exact but for the last step (base/block_format.h), and
// rounded to the type that the product reads.

// Scale and minimum of eighth j of a block of Q4_K or Q5_K, as in base/block_format.cc: these files call no
// inline function of other headers (CMakeLists.txt).
struct SixBits {
  int scale, minimum;
};
inline SixBits six_bits(const uint8_t* packed, int64_t j) {
  if (j < 4) return {packed[j] & 63, packed[4 + j] & 63};
  return {(packed[4 + j] & 15) | (packed[j - 4] >> 6) << 4, packed[4 + j] >> 4 | (packed[j] >> 6) << 4};
}

template <DType kType>
struct Unpacked {
  using T = std::conditional_t<kType == DType::f32, float, uint16_t>;

  static void store(T* out, Simd::F a) {
    if constexpr (kType == DType::f32) Simd::store(out, a);
    if constexpr (kType == DType::bf16) Simd::store_bf16(out, a);
    if constexpr (kType == DType::f16) Simd::store_f16(out, a);
  }
  // `kCount` weights: scale * values.
  template <int64_t kCount>
  static void scaled(const int8_t* values, float scale, T* out) {
    const Simd::F factor = Simd::splat(scale);
    for (int64_t i = 0; i < kCount; i += Simd::kWidth)
      store(out + i, Simd::mul(Simd::load_int8(values + i), factor));
  }
  // scale * values - least; the product is exact, so that one rounding is left with fma and without.
  template <int64_t kCount>
  static void scaled_above(const int8_t* values, float scale, float least, T* out) {
    const Simd::F factor = Simd::splat(scale), offset = Simd::splat(-least);
    for (int64_t i = 0; i < kCount; i += Simd::kWidth)
      store(out + i, Simd::fma(Simd::load_int8(values + i), factor, offset));
  }

  static void q8_0(const uint8_t* b, T* out) {
    scaled<32>(reinterpret_cast<const int8_t*>(b + 2), half_at(b), out);
  }
  // `high`: a fifth bit of each weight, or none.
  static void eighths(const uint8_t* b, const uint8_t* high, const uint8_t* nibbles, T* out) {
    const float scale = half_at(b), least = half_at(b + 2);
    for (int j = 0; j < 8; ++j) {
      int8_t values[32];
      const uint8_t* both = nibbles + j / 2 * 32;
      const int shift = j % 2 * 4;
      for (int i = 0; i < 32; ++i) values[i] = static_cast<int8_t>(both[i] >> shift & 15);
      if (high != nullptr) {
        for (int i = 0; i < 32; ++i) values[i] = static_cast<int8_t>(values[i] | (high[i] >> j & 1) << 4);
      }
      const SixBits six = six_bits(b + 4, j);
      scaled_above<32>(values, scale * static_cast<float>(six.scale), least * static_cast<float>(six.minimum),
                       out + 32 * j);
    }
  }
  static void q4_k(const uint8_t* b, T* out) { eighths(b, nullptr, b + 16, out); }
  static void q5_k(const uint8_t* b, T* out) { eighths(b, b + 16, b + 48, out); }
  static void q6_k(const uint8_t* b, T* out) {
    const float scale = half_at(b + 208);
    const auto* scales = reinterpret_cast<const int8_t*>(b + 192);
    for (int part = 0; part < 8; ++part) {  // of 32
      int8_t values[32];
      const uint8_t *low = b + part / 4 * 64 + part % 2 * 32, *high = b + 128 + part / 4 * 32;
      const int shift = part % 4 / 2 * 4, high_shift = part % 4 * 2;
      for (int i = 0; i < 32; ++i) {
        values[i] = static_cast<int8_t>(((low[i] >> shift & 15) | (high[i] >> high_shift & 3) << 4) - 32);
      }
      for (int half = 0; half < 2; ++half) {
        scaled<16>(values + 16 * half, scale * static_cast<float>(scales[2 * part + half]),
                   out + 32 * part + 16 * half);
      }
    }
  }

  template <auto kBlock>
  static void all(int64_t elements, int64_t bytes, const void* blocks, int64_t count, void* out) {
    const auto* block = static_cast<const uint8_t*>(blocks);
    for (int64_t at = 0; at < count; at += elements, block += bytes) kBlock(block, static_cast<T*>(out) + at);
  }
  static void blocks(BlockFormat format, const void* from, int64_t count, void* out) {
    if (format == BlockFormat::q8_0) all<q8_0>(32, 34, from, count, out);
    if (format == BlockFormat::q4_k) all<q4_k>(256, 144, from, count, out);
    if (format == BlockFormat::q5_k) all<q5_k>(256, 176, from, count, out);
    if (format == BlockFormat::q6_k) all<q6_k>(256, 210, from, count, out);
  }

 private:
  static float half_at(const uint8_t* bytes) {
    uint16_t bits;
    __builtin_memcpy(&bits, bytes, sizeof bits);
    return f32_from_f16(bits);
  }
};

inline void unpack_blocks(BlockFormat format, const void* blocks, int64_t count, DType type, void* out) {
  if (type == DType::bf16) return Unpacked<DType::bf16>::blocks(format, blocks, count, out);
  if (type == DType::f16) return Unpacked<DType::f16>::blocks(format, blocks, count, out);
  Unpacked<DType::f32>::blocks(format, blocks, count, out);
}
