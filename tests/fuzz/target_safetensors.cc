// A whole file: every byte that a tensor claims is there.
#include "checkpoint/safetensors.h"
#include "scratch.h"
#include "target.h"

FOVEA_FUZZ_TARGET(safetensors) {
  static const fovea::fuzz::Scratch scratch;
  const auto file = fovea::SafetensorsFile::open(scratch.write("model.safetensors", bytes));
  unsigned sum = 0;
  for (const fovea::StoredTensor& tensor : file.tensors()) {
    const auto* data = static_cast<const unsigned char*>(tensor.data);
    for (int64_t i = 0; i < tensor.bytes; ++i) sum += data[i];
  }
  volatile unsigned kept = sum;  // or the loads would be left out
  (void)kept;
}
