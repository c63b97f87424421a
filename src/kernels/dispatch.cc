// Chooses the kernels once per process.
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "kernels/kernels.h"

namespace fovea {

extern const Kernels kScalarKernels;
#ifdef __x86_64__
extern const Kernels kAvx2Kernels, kAvx512Kernels, kAvx512VnniKernels, kAvx512Bf16Kernels;
#endif

namespace {

std::vector<const Kernels*> find_available() {
  std::vector<const Kernels*> found{&kScalarKernels};
#ifdef __x86_64__
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c"))
    return found;
  found.push_back(&kAvx2Kernels);
  for (const bool feature :
       {__builtin_cpu_supports("avx512f") > 0, __builtin_cpu_supports("avx512bw") > 0,
        __builtin_cpu_supports("avx512dq") > 0, __builtin_cpu_supports("avx512vl") > 0}) {
    if (!feature) return found;
  }
  found.push_back(&kAvx512Kernels);
  if (!__builtin_cpu_supports("avx512vnni")) return found;
  found.push_back(&kAvx512VnniKernels);
  if (__builtin_cpu_supports("avx512bf16")) found.push_back(&kAvx512Bf16Kernels);
#endif
  return found;
}

const Kernels& choose() {
  const char* wanted = std::getenv("FOVEA_ISA");
  if (wanted == nullptr || *wanted == '\0') return *available_kernels().back();
  return kernels_named(wanted);
}

}  // namespace

const std::vector<const Kernels*>& available_kernels() {
  static const std::vector<const Kernels*> found = find_available();
  return found;
}

const Kernels& kernels_named(std::string_view name) {
  std::string names;
  for (const Kernels* candidate : available_kernels()) {
    if (candidate->name == name) return *candidate;
    names += std::string(names.empty() ? "" : ", ") + candidate->name;
  }
  throw Error(ErrorKind::unsupported, fmt::format("FOVEA_ISA={} cannot run on this machine", name),
              "unset it or use one of: " + names);
}

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace fovea
