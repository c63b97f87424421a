// libFuzzer's entry: the program has one target.
#include <cstddef>
#include <cstdint>

#include "target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fovea::fuzz::run(fovea::fuzz::targets().front(), {reinterpret_cast<const char*>(data), size});
  return 0;
}
