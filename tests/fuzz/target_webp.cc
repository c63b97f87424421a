#include "small_pictures.h"
#include "target.h"

FOVEA_FUZZ_TARGET(webp) { fovea::decode_webp(fovea::fuzz::as_bytes(bytes), fovea::fuzz::small_pictures()); }
