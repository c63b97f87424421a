// Ctrl-C, SIGTERM, or the SIGHUP of a closed terminal, as a wish: the first one is noted, the second one ends
// the process.
#pragma once

#include <atomic>

namespace fovea {

inline constexpr int kInterrupted = 130;  // 128 + SIGINT, as shells report it

// Set by the first of these signals after stop_on_interrupt().
const std::atomic<bool>& interrupted();
void stop_on_interrupt();
// For who goes on after Ctrl-C: forgets it, and notes the next one. SIGTERM and SIGHUP end the process.
void watch_interrupts();

}  // namespace fovea
