// The header alone: the first two bytes say how many bytes of data follow it.
#include "checkpoint/safetensors_header.h"
#include "target.h"

FOVEA_FUZZ_TARGET(safetensors_header) {
  if (bytes.size() < 2) return;
  const int64_t data = static_cast<uint8_t>(bytes[0]) | static_cast<uint8_t>(bytes[1]) << 8;
  int64_t end = 0;
  for (const fovea::StoredTensor& tensor :
       fovea::parse_safetensors_header(bytes.substr(2), data, "fuzz.safetensors").tensors) {
    fovea::fuzz::require(tensor.offset == end, "tensors follow each other without hole");
    end += tensor.bytes;
  }
  fovea::fuzz::require(end == data, "tensors fill the file");
}
