// --attention-map: where the decoder looked, as a picture or as numbers.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>

#include "runtime/attention_map.h"

namespace fovea {

struct AttentionMapFlags {
  std::string file;  // empty: none is wanted
  std::string tokens = "all";
  std::optional<int64_t> layer, head;

  void add_to(CLI::App& app);
  bool wanted() const { return !file.empty(); }
  // Throws Error(invalid_argument) for what the model does not have, and for a file that is no .png or .json;
  // before anything is computed. `most`: tokens that the answer may have.
  AttentionMapper mapper(const Engine& engine, const Prompt& prompt, int64_t most) const;
  // Writes the file. Throws Error(invalid_argument) when the answer was over before the tokens that were
  // asked for.
  void write(const Engine& engine, const Prompt& prompt, const Answer& answer, const AttentionMap& map) const;
};

}  // namespace fovea
