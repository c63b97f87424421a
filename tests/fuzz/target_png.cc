#include "small_pictures.h"
#include "target.h"

FOVEA_FUZZ_TARGET(png) { fovea::decode_png(fovea::fuzz::as_bytes(bytes), fovea::fuzz::small_pictures()); }
