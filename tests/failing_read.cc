// A disk that fails, for tests: preloaded, pread() of a file of weights returns EIO once
// FOVEA_TEST_GOOD_READS of them have succeeded in this process; with FOVEA_TEST_RANK only in the process that
// has this rank.
#include <dlfcn.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

bool of_weights(int file) {
  char path[4096];
  const ssize_t size = readlink(("/proc/self/fd/" + std::to_string(file)).c_str(), path, sizeof path);
  return size > 0 && std::string(path, static_cast<size_t>(size)).ends_with(".safetensors");
}

bool in_this_process() {
  const char* wanted = std::getenv("FOVEA_TEST_RANK");
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (rank == nullptr) rank = std::getenv("PMI_RANK");
  return wanted == nullptr || (rank != nullptr && std::string(rank) == wanted);
}

bool fails(int file) {
  static std::atomic<int> reads = 0;
  const char* good = std::getenv("FOVEA_TEST_GOOD_READS");
  return good != nullptr && in_this_process() && of_weights(file) && ++reads > std::atoi(good);
}

}  // namespace

extern "C" ssize_t pread(int file, void* to, size_t bytes, off_t offset) {
  if (fails(file)) {
    errno = EIO;
    return -1;
  }
  using Read = ssize_t (*)(int, void*, size_t, off_t);
  static const auto read = reinterpret_cast<Read>(dlsym(RTLD_NEXT, "pread"));
  return read(file, to, bytes, offset);
}
