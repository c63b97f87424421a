#include "cli/bus_error.h"

#include <unistd.h>

#include <csignal>
#include <cstring>

#include "checkpoint/mapped_file.h"

namespace fovea {

namespace {

void say(const char* text) {
  if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) return;  // there is nobody left to tell
}

// Only what a signal handler may do.
void last_words(int, siginfo_t* info, void*) {
  const char* path = path_mapped_at(info->si_addr);
  if (path == nullptr) {  // no file of ours: the default action, which reports the signal
    std::signal(SIGBUS, SIG_DFL);
    return;
  }
  say("fovea: ");
  say(path);
  say(" can no longer be read where it is mapped: it became shorter while it was in use, or the disk failed\n"
      "  remedy: write or download the file again, and leave it alone while the model runs\n");
  _exit(1);
}

}  // namespace

void explain_bus_errors() {
  struct sigaction action {};
  action.sa_sigaction = last_words;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace fovea
