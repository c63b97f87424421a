#include "small_pictures.h"
#include "target.h"

FOVEA_FUZZ_TARGET(gif) { fovea::decode_gif(fovea::fuzz::as_bytes(bytes), fovea::fuzz::small_pictures()); }
