// Checkpoints with random weights of a real shape: same config, same tensors, loadable by transformers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/progress.h"

namespace fovea {

// shape: "3b", "7b", "32b", "72b" or the path of a config.json. Writes sharded safetensors (5 GB a shard),
// model.safetensors.index.json, config.json, generation_config.json, preprocessor_config.json,
// tokenizer.json, tokenizer_config.json and chat_template.json. The same seed gives the same bytes on every
// machine. Throws Error(exhausted | io) when the disk cannot hold it, and those of OutputFolder; then nothing
// is left of it.
void write_synthetic_checkpoint(const std::string& shape, const std::filesystem::path& out, uint64_t seed,
                                bool replace, const ProgressFn& progress);

}  // namespace fovea
