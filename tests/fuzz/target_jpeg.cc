#include "small_pictures.h"
#include "target.h"

FOVEA_FUZZ_TARGET(jpeg) { fovea::decode_jpeg(fovea::fuzz::as_bytes(bytes), fovea::fuzz::small_pictures()); }
