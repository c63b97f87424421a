// By the first bytes, and turned upright.
#include "small_pictures.h"
#include "target.h"

FOVEA_FUZZ_TARGET(picture) {
  const fovea::Image image = fovea::decode_image(fovea::fuzz::as_bytes(bytes), fovea::fuzz::small_pictures());
  fovea::fuzz::require(image.rgb.size() == image.size.height * image.size.width * 3,
                       "a picture has all its pixels");
}
