#include "base/freed_memory.h"

#include <cstdlib>  // defines __GLIBC__

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace fovea {

void return_freed_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

void free_large_blocks_at_once() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}

}  // namespace fovea
