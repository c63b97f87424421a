#include "cli/interrupt.h"

#include <csignal>
#include <initializer_list>

namespace fovea {

namespace {

std::atomic<bool> noted{false};

}  // namespace

const std::atomic<bool>& interrupted() { return noted; }

void stop_on_interrupt() {
  struct sigaction action {};
  action.sa_handler = [](int) { noted = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  // mpirun passes Ctrl-C on as SIGTERM.
  for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
}

}  // namespace fovea
