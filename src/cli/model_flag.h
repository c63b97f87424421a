// -m, --model: a folder, or a model of the local Hugging Face cache.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

namespace fovea {

// Adds the option; FOVEA_MODEL is its default.
CLI::Option* add_model_to(CLI::App& command, std::string& model);

// The folder that `model` means (checkpoint/model_folder.h); the cache lies where Hugging Face's tools look
// for it: HF_HUB_CACHE, else hub in HF_HOME, else huggingface/hub in XDG_CACHE_HOME or ~/.cache.
std::filesystem::path model_folder(const std::string& model);

}  // namespace fovea
