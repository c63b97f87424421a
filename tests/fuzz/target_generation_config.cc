#include "checkpoint/config.h"
#include "target.h"

FOVEA_FUZZ_TARGET(generation_config) { fovea::parse_generation_config(bytes, "generation_config.json"); }
