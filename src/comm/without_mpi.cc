// What stands in the place of mpi.cc in a build without MPI.
#include "base/error.h"
#include "comm/world.h"

namespace fovea {

bool built_with_mpi() { return false; }
std::string mpi_version() { return ""; }

std::unique_ptr<Communicator> mpi_communicator() {
  FOVEA_CHECK(!"world() refuses before");
  return nullptr;
}

// The launcher ends the others when one of its processes fails.
void abort_mpi(int) {}

}  // namespace fovea
