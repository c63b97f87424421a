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
  // mpirun passes Ctrl-C on as SIGTERM; a terminal or connection that is closed sends SIGHUP.
  for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
  // Who was started by nohup, goes on.
  struct sigaction given {};
  if (sigaction(SIGHUP, nullptr, &given) == 0 && given.sa_handler != SIG_IGN)
    sigaction(SIGHUP, &action, nullptr);
}

void watch_interrupts() {
  noted = false;
  struct sigaction action {};
  action.sa_handler = [](int) { noted = true; };  // without SA_RESTART: a read that waits for a line returns
  sigaction(SIGINT, &action, nullptr);
}

}  // namespace fovea
