// How the tokens of an answer are chosen, and where it ends.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/engine.h"

namespace fovea {

struct SamplingFlags {
  std::optional<int64_t> max_new_tokens, top_k, no_repeat_ngram_size;
  std::optional<double> temperature, top_p, repetition_penalty;
  std::vector<std::string> stop;
  uint64_t seed = 0;
  bool greedy = false, ignore_eos = false;

  // --max-new-tokens, among the common options; and all others.
  void add_length_to(CLI::App& command);
  void add_to(CLI::App& command);
  // What was given takes the place of the checkpoint's own settings.
  void apply(GenerationOptions& options) const;
};

}  // namespace fovea
