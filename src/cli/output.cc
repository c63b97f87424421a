#include "cli/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>

namespace fovea {

namespace {

bool ends_with_its_reader = false;
Notes wanted_notes = Notes::usual;

[[noreturn]] void fail_output(int reason) {
  if (reason == EPIPE && ends_with_its_reader) {
    std::signal(SIGPIPE, SIG_DFL);
    std::raise(SIGPIPE);
  }
  const bool closed = reason == EBADF;
  throw OutputError(
      ErrorKind::io,
      closed ? "standard output is closed"
             : fmt::format("cannot write to standard output: {}", std::strerror(reason)),
      closed ? "let it go to a terminal, a file or a pipe" : "check the disk or the pipe it goes to");
}

}  // namespace

void take_standard_streams() {
  // Opened the wrong way round: as before, reading the one or writing to the others fails.
  for (const auto& [stream, way] : {std::pair(STDIN_FILENO, O_WRONLY), std::pair(STDOUT_FILENO, O_RDONLY),
                                    std::pair(STDERR_FILENO, O_RDONLY)}) {
    if (::fcntl(stream, F_GETFD) != -1 || errno != EBADF) continue;
    if (::open("/dev/null", way) < 0) return;  // takes the lowest free number, which is this one
  }
  ends_with_its_reader = std::signal(SIGPIPE, SIG_IGN) != SIG_IGN;
}

void write_output(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size()) fail_output(errno);
}

void flush_output() {
  if (std::fflush(stdout) != 0) fail_output(errno);
}

Notes notes() { return wanted_notes; }
void set_notes(Notes notes) { wanted_notes = notes; }

void print_json(const nlohmann::ordered_json& json) {
  write_output(json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

}  // namespace fovea
