// Which of a folder's files say how pictures and frames are prepared.
#pragma once

#include <filesystem>

#include "checkpoint/config.h"

namespace fovea {

// Images: "image_processor" of processor_config.json, which transformers 5 saves, else
// preprocessor_config.json; without either the defaults of transformers, with a warning. Frames of videos:
// "video_processor" of processor_config.json, else video_preprocessor_config.json, else
// preprocessor_config.json, as transformers 5.24 looks for them (4.57.6 takes the older file where both are
// there). Throws Error naming the file when they contradict each other or config.json.
PreprocessorConfig read_preprocessor(const std::filesystem::path& dir, const VisionConfig& vision);

}  // namespace fovea
