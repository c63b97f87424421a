// How long work reports itself and is asked to stop; the library never prints.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>

namespace fovea {

// stage: "load", "vision", "prefill"; done counts up to total.
using ProgressFn = std::function<void(std::string_view stage, int64_t done, int64_t total)>;

}  // namespace fovea
