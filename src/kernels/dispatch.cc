// Chooses the kernels once per process.
#ifdef __x86_64__
#include <cpuid.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <string>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/context.h"
#include "kernels/kernels.h"

namespace fovea {

extern const Kernels kScalarKernels;
#ifdef __x86_64__
extern const Kernels kAvx2Kernels, kAvx512Kernels, kAvx512VnniKernels, kAvx512Bf16Kernels, kAmxKernels;
#endif

namespace {

#ifdef __x86_64__
// Whether the CPU has AMX for bf16 and int8 and the kernel lets this process, and threads it starts from now
// on, use the tiles: they enlarge a thread's saved state, so Linux wants to be asked
// (Documentation/arch/x86/xstate.rst).
bool tiles_granted() {
#ifdef __linux__
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25, kAll = kBf16 | kTile | kInt8;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & kAll) != kAll) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

#ifdef __x86_64__
// Not __builtin_cpu_supports("f16c"): clang knows the name only from 17 on. That the system saves the
// registers is asked with "avx2".
bool converts_f16() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

std::vector<const Kernels*> find_available() {
  std::vector<const Kernels*> found{&kScalarKernels};
#ifdef __x86_64__
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !converts_f16()) return found;
  found.push_back(&kAvx2Kernels);
  for (const bool feature :
       {__builtin_cpu_supports("avx512f") > 0, __builtin_cpu_supports("avx512bw") > 0,
        __builtin_cpu_supports("avx512dq") > 0, __builtin_cpu_supports("avx512vl") > 0}) {
    if (!feature) return found;
  }
  found.push_back(&kAvx512Kernels);
  if (!__builtin_cpu_supports("avx512vnni")) return found;
  found.push_back(&kAvx512VnniKernels);
  if (!__builtin_cpu_supports("avx512bf16")) return found;
  found.push_back(&kAvx512Bf16Kernels);
  if (tiles_granted()) found.push_back(&kAmxKernels);
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

Context process_context() { return {&process_threads(), &kernels()}; }

}  // namespace fovea
