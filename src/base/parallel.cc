#include "base/parallel.h"

#include <omp.h>

#include "base/error.h"

namespace fovea {

int threads() { return omp_get_max_threads(); }

void set_threads(int count) {
  if (count < 1 || count > 1024) {
    throw Error(ErrorKind::invalid_argument, fmt::format("cannot run on {} threads", count),
                "give --threads a number from 1 to 1024");
  }
  omp_set_num_threads(count);
}

int thread_index() { return omp_get_thread_num(); }

}  // namespace fovea
