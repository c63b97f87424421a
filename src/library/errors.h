// The engine's errors as callers of the library know them.
#pragma once

#include <fovea/error.h>

#include <exception>
#include <new>

#include "base/error.h"

namespace fovea {

// `failure` as a caller sees it; what is no error of the engine becomes ErrorCode::internal with its words.
v0::Error public_error(const std::exception_ptr& failure);

// What work() returns. The engine's errors become public ones; exceptions of the caller's own pass as they
// are.
template <typename Work>
auto with_public_errors(const Work& work) {
  try {
    return work();
  } catch (const Error&) {
    throw public_error(std::current_exception());
  } catch (const std::bad_alloc&) {
    throw public_error(std::current_exception());
  }
}

}  // namespace fovea
