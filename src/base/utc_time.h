// The time of day, for what people read.
#pragma once

#include <string>

namespace fovea {

// "2026-12-01 17:04 UTC"
std::string utc_now();

}  // namespace fovea
