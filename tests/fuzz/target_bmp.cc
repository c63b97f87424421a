#include "small_pictures.h"
#include "target.h"

FOVEA_FUZZ_TARGET(bmp) { fovea::decode_bmp(fovea::fuzz::as_bytes(bytes), fovea::fuzz::small_pictures()); }
