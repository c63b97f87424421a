// Which libraries read pictures and videos.
#pragma once

#include <string>
#include <vector>

namespace fovea {

// "FFmpeg 5.1.6", "libpng 1.6.39", ...: as they run, but libjpeg, which tells only what
// it was compiled against.
std::vector<std::string> media_libraries();

}  // namespace fovea
