// Where a model lies: a folder in Hugging Face form, or GGUF files of llama.cpp.
#pragma once

#include <concepts>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace fovea {

struct ModelFiles {
  std::filesystem::path model;   // a folder, or a GGUF file with the language model, the first of a split one
  std::filesystem::path mmproj;  // the GGUF file with the vision tower; empty for a folder

  ModelFiles() = default;
  template <typename Path>
    requires std::convertible_to<Path, std::filesystem::path>
  ModelFiles(Path&& path) : model(std::forward<Path>(path)) {}  // NOLINT: a path is a model, too
  ModelFiles(std::filesystem::path of_model, std::filesystem::path of_mmproj)
      : model(std::move(of_model)), mmproj(std::move(of_mmproj)) {}

  // As the user wrote it: "model.gguf", or "model.gguf --mmproj mmproj.gguf".
  std::vector<std::string> arguments() const;
};

// The two GGUF files that `files` mean: themselves, or the only two models of a folder that has no
// config.json; one without an mmproj for a folder in Hugging Face form, which comes back as it is. Looks into
// the headers of the files. Throws Error(not_found | invalid_argument | corrupt | unsupported) when one of
// the two is missing, there are several, or one is given as the other.
ModelFiles resolved(const ModelFiles& files);

// Whether resolved() files are GGUF.
bool is_gguf(const ModelFiles& resolved);

// "NAME-00001-of-00003.gguf" and the two others; the file alone when its name says no such thing. Throws
// Error(invalid_argument) for another part than the first, Error(not_found) naming one that is missing.
std::vector<std::filesystem::path> split_files(const std::filesystem::path& first);

}  // namespace fovea
