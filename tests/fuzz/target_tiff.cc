// The first picture, and as many as the file says there are.
#include "small_pictures.h"
#include "target.h"

FOVEA_FUZZ_TARGET(tiff) {
  const fovea::Bytes file = fovea::fuzz::as_bytes(bytes);
  fovea::decode_tiff(file, fovea::fuzz::small_pictures());
  fovea::fuzz::require(fovea::tiff_pages(file) >= 1, "a file with a picture has a page");
}
