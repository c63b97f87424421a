// All ranks of this run. MPI is initialised on first use and only in a process that mpirun started: a plain
// `fovea run` never pays for it.
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"

namespace fovea {

// What the launcher says in the environment, before MPI is initialised; {0, 1} without one.
struct Launch {
  int rank = 0, size = 1;
};
// Understands Open MPI, MPICH and others that speak PMIx or PMI. Throws Error(invalid_argument) naming a
// variable that is not a number.
Launch launch();

// Throws Error(unsupported) in a process of several when fovea was built without MPI.
Communicator& world();

// "rank 1 of 3 on host node7", or "" without a launcher.
std::string name_of_rank();

// Before a successful end: waits for all ranks and ends MPI, if it was used.
void finish_world();
// Prints "fovea: <message>", with the rank's name if there are several, and ends every rank at once; without
// a launcher returns. The one place outside cli that prints: a thread that serves other ranks has nobody to
// throw to. A rank other than 0 waits a moment first, so that what all ranks find wrong is said once.
void fail_world(const std::string& message, int exit_code);

// The implementations behind world().
std::unique_ptr<Communicator> single_process();
std::unique_ptr<Communicator> mpi_communicator();
bool built_with_mpi();
std::string mpi_version();  // "Open MPI v4.1.4", "" without MPI
void abort_mpi(int exit_code);

}  // namespace fovea
