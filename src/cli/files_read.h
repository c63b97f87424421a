// The files that a command reads, for its refusal to write onto one of them (base/input_files.h).
#pragma once

#include <vector>

#include "base/input_files.h"
#include "cli/engine_flags.h"
#include "text/message.h"

namespace fovea {

void add_files_of(const ModelFiles& files, InputFiles& inputs);
// The checkpoint, and the files of --precision, --messages and --device-map.
void add_files_of(const EngineFlags& flags, InputFiles& inputs);
// Pictures and videos.
void add_files_of(const std::vector<Message>& conversation, InputFiles& inputs);

}  // namespace fovea
