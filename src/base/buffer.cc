#include "base/buffer.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace fovea {

void* aligned_memory(size_t bytes) {
  constexpr size_t kLine = 64, kHugePage = size_t{2} << 20, kLarge = 4 * kHugePage;
  const size_t unit = bytes >= kLarge ? kHugePage : kLine, whole = (bytes + unit - 1) / unit * unit;
  void* memory = std::aligned_alloc(unit, whole);
#ifdef MADV_HUGEPAGE
  if (memory != nullptr && unit == kHugePage)
    madvise(memory, whole, MADV_HUGEPAGE);  // a hint: may be refused
#endif
  return memory;
}

}  // namespace fovea
