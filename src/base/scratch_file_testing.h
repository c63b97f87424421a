// For tests that put something on disk: whether the working folder lies on one.
#pragma once

#include "base/error.h"
#include "base/scratch_file.h"

namespace fovea {

inline bool disk_here() {
  try {
    const ScratchFile file(".", 4096);
    return true;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::unsupported) throw;
    return false;
  }
}

}  // namespace fovea
