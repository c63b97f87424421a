#include "base/buffer.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace fovea {

void* aligned_memory(size_t bytes) {
  constexpr size_t kLine = 64;
  void* memory = std::aligned_alloc(kLine, (bytes + kLine - 1) / kLine * kLine);
#ifdef MADV_HUGEPAGE
  constexpr size_t kPage = 4096, kLarge = size_t{8} << 20;
  if (memory != nullptr && bytes >= kLarge) {  // a hint for the whole pages within: may be refused
    const auto begin = (reinterpret_cast<uintptr_t>(memory) + kPage - 1) / kPage * kPage;
    madvise(reinterpret_cast<void*>(begin), bytes / kPage * kPage - kPage, MADV_HUGEPAGE);
  }
#endif
  return memory;
}

}  // namespace fovea
