// Every form of the kernels that this machine can execute, the AVX-512 ones at least through emulation.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/guarded_memory_testing.h"
#include "kernels/kernels.h"

namespace fovea {

#ifdef __x86_64__
extern const Kernels kAvx512EmulatedKernels, kAvx512Bf16EmulatedKernels, kAmxEmulatedKernels;
// One VDPBF16PS of the emulation.
void emulated_dot_pairs(const float acc[16], const uint16_t a[32], const uint16_t b[32], float out[16]);
#endif

// A variant and what its rounding bounds depend on.
struct Variant {
  const Kernels* kernels;
  int width;   // f32 lanes: the partial sums of an inner product
  bool fused;  // a * b + c rounds once
  // Products of bf16 on AMX tiles.
  bool tiles() const { return std::string_view(kernels->name).starts_with("amx"); }
};

inline Variant variant_of(const Kernels& kernels) {
  const std::string_view name = kernels.name;
  return {&kernels, name.starts_with("avx512") || name.starts_with("amx") ? 16 : 8, name != "scalar"};
}

inline std::vector<Variant> all_variants() {
  std::vector<Variant> variants;
  for (const Kernels* kernels : available_kernels()) variants.push_back(variant_of(*kernels));
#ifdef __x86_64__
  if (variants.size() > 1) {  // AVX2, which the emulation stands on
    variants.push_back(variant_of(kAvx512EmulatedKernels));
    variants.push_back(variant_of(kAvx512Bf16EmulatedKernels));
    variants.push_back(variant_of(kAmxEmulatedKernels));
  }
#endif
  return variants;
}

// So many bytes for a kernel to work in, where one byte more is a crash; the same for all calls.
inline void* testing_scratch(int64_t bytes) {
  static std::map<int64_t, GuardedArray<char>> all;
  return all.try_emplace(bytes, bytes).first->second.data();
}

// Names the instances of a parameterised test.
inline constexpr auto kVariantName = [](const auto& instance) {
  return std::string(instance.param.kernels->name);
};

}  // namespace fovea
