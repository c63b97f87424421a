#include "comm/world.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "base/error.h"
#include "base/printable.h"
#include "base/standard_error.h"

namespace fovea {

namespace {

std::unique_ptr<Communicator>& instance() {
  static std::unique_ptr<Communicator> communicator;
  return communicator;
}

int number_of(const char* variable, const char* text) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end != text && *end == '\0' && value >= 0 && value < 1'000'000) return static_cast<int>(value);
  throw Error(ErrorKind::invalid_argument,
              fmt::format("{}={} in the environment is not a number of ranks", variable, text),
              "unset it, or start fovea with mpirun, which sets it");
}

}  // namespace

Launch launch() {
  // Open MPI; MPICH and what speaks PMI as it does.
  constexpr const char* kVariables[][2] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                           {"PMI_RANK", "PMI_SIZE"}};
  for (const auto& [rank, size] : kVariables) {
    const char *r = std::getenv(rank), *s = std::getenv(size);
    if (r != nullptr && s != nullptr) return {number_of(rank, r), number_of(size, s)};
  }
  return {};
}

Communicator& world() {
  std::unique_ptr<Communicator>& communicator = instance();
  if (communicator) return *communicator;
  const Launch start = launch();
  if (start.size == 1) {
    communicator = single_process();
  } else if (built_with_mpi()) {
    communicator = mpi_communicator();
    if (communicator->size() != start.size) {
      throw Error(ErrorKind::invalid_argument,
                  fmt::format("the launcher started {} ranks, but MPI sees {}: they are of different MPIs",
                              start.size, communicator->size()),
                  "use the mpirun of the MPI that fovea was built with (ldd shows its libmpi)");
    }
  } else {
    throw Error(ErrorKind::unsupported,
                fmt::format("started as one of {} ranks, but this fovea was built without MPI", start.size),
                "install libopenmpi-dev and openmpi-bin, configure with -DFOVEA_MPI=ON and build again");
  }
  return *communicator;
}

std::string name_of_rank() {
  const Launch start = launch();
  if (start.size == 1) return "";
  char host[256] = "unknown";
  gethostname(host, sizeof host - 1);
  return fmt::format("rank {} of {} on host {}", start.rank, start.size, host);
}

void finish_world() {
  if (instance()) instance()->barrier();
  instance().reset();
}

void fail_world(const std::string& message, int exit_code) {
  const std::string name = name_of_rank();
  if (name.empty()) {
    write_standard_error(printable(fmt::format("fovea: {}\n", message)));
    return;
  }
  try {
    world();  // who fails before MPI is initialised needs it to end the others
  } catch (const std::exception&) {
    // This rank's own error is the one to tell.
  }
  if (launch().rank > 0) std::this_thread::sleep_for(std::chrono::seconds(1));
  write_standard_error(printable(fmt::format("fovea: {}: {}\n", name, message)));
  abort_mpi(exit_code);
}

}  // namespace fovea
