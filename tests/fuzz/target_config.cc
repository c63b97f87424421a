// config.json of every layout, and the list of tensors it implies.
#include <algorithm>

#include "checkpoint/checkpoint.h"
#include "target.h"

FOVEA_FUZZ_TARGET(config) {
  fovea::ModelConfig config = fovea::parse_config(bytes, "config.json");
  int64_t total = 0;
  config.text.num_hidden_layers =
      std::min<int64_t>(config.text.num_hidden_layers, 8);  // one is like the other
  config.vision.depth = std::min<int64_t>(config.vision.depth, 8);
  for (const fovea::ExpectedTensor& tensor : fovea::expected_tensors(config)) {
    int64_t elements = 4;
    for (const int64_t size : tensor.shape) {
      fovea::fuzz::require(!__builtin_mul_overflow(elements, size, &elements),
                           "no tensor is too large to count");
    }
    fovea::fuzz::require(!__builtin_add_overflow(total, elements, &total),
                         "the bytes of a layer can be counted");
  }
}
