// Ctrl-C, SIGTERM, or the SIGHUP of a closed terminal, as a wish: the first one is noted, the second one ends
// the process.
#pragma once

#include <atomic>

namespace fovea {

inline constexpr int kInterrupted = 130;  // 128 + SIGINT, as shells report it

// Set by the first of these signals after stop_on_interrupt().
const std::atomic<bool>& interrupted();
void stop_on_interrupt();

}  // namespace fovea
