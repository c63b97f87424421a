// -m, --model: a folder, a model of the local Hugging Face cache, or with --mmproj GGUF files.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "checkpoint/model_files.h"

namespace fovea {

// The two options as given.
struct ModelFlag {
  std::string model, mmproj;

  bool empty() const { return model.empty(); }
};

// Adds the options and returns that of the model, whose default is FOVEA_MODEL.
CLI::Option* add_model_to(CLI::App& command, ModelFlag& flag);

// The files that the flags mean (checkpoint/model_folder.h, model_files.h); the cache lies where Hugging
// Face's tools look for it: HF_HUB_CACHE, else hub in HF_HOME, else huggingface/hub in XDG_CACHE_HOME or
// ~/.cache.
ModelFiles model_files(const ModelFlag& flag);

}  // namespace fovea
