#include "checkpoint/config.h"
#include "target.h"

FOVEA_FUZZ_TARGET(preprocessor_config) {
  fovea::parse_preprocessor_config(bytes, "preprocessor_config.json");
}
