// Memory that a thread reads next: a hint, which a kernel may fetch beside its own work. Nothing there is
// used.
#pragma once

#include <cstdint>

namespace fovea {

struct Upcoming {
  const void* at = nullptr;
  int64_t bytes = 0;
};

}  // namespace fovea
