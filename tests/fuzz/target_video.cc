// A container, counted as for a plan and then decoded. FFmpeg itself is not instrumented: what a fuzzer
// learns here are the ways through fovea's own reader.
#include "media/video.h"
#include "scratch.h"
#include "small_pictures.h"
#include "target.h"

FOVEA_FUZZ_TARGET(video) {
  static const fovea::fuzz::Scratch scratch;
  const std::string file = scratch.write("video", bytes).string();
  fovea::VideoReader(file, fovea::fuzz::small_pictures()).count_frames();
  fovea::VideoReader reader(file, fovea::fuzz::small_pictures());
  reader.read({0, 1, 5}, [](int64_t, const fovea::Image& frame) {
    fovea::fuzz::require(frame.rgb.size() == frame.size.height * frame.size.width * 3,
                         "a frame has all its pixels");
  });
}
