// A file system that cannot exchange two names, for tests: preloaded.
#include <cerrno>

extern "C" int renameat2(int, const char*, int, const char*, unsigned int) {
  errno = EINVAL;
  return -1;
}
