// preprocessor_config.json, and after lines of "%%" processor_config.json and video_preprocessor_config.json:
// an empty piece is a file that is not there.
#include "checkpoint/preprocessor_config.h"
#include "scratch.h"
#include "target.h"

FOVEA_FUZZ_TARGET(preprocessor_config) {
  static const fovea::fuzz::Scratch scratch;
  const auto files = fovea::fuzz::pieces(bytes);
  const char* names[] = {"preprocessor_config.json", "processor_config.json",
                         "video_preprocessor_config.json"};
  for (size_t i = 0; i < std::size(names); ++i) {
    if (i < files.size() && !files[i].empty()) {
      scratch.write(names[i], files[i]);
    } else {
      scratch.remove(names[i]);
    }
  }
  const auto config = fovea::read_preprocessor(scratch.path(), {});
  fovea::fuzz::require(config.min_pixels <= config.max_pixels, "limits of pixels are in order");
}
