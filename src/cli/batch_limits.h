// How many requests run at once, and in how much memory: flags of the commands that serve several.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "cli/engine_flags.h"
#include "runtime/batch_engine.h"

namespace fovea {

struct BatchLimitFlags {
  BatchLimits limits_given;
  std::optional<std::string> kv_cache, vision_cache;

  // Groups them under "Many requests"; for commands that serve one conversation only how much memory.
  void add_to(CLI::App& command);
  void add_memory_to(CLI::App& command);
  // Without --kv-cache-memory: room for max_num_seqs requests of 4096 tokens, but at most half of the memory
  // that is free now that weights are loaded.
  BatchLimits limits(const Engine& engine) const;
};

// Opens the engine of a command that serves several requests, and says what was odd about its folder. Throws
// Error(exhausted) when the weights would have to be streamed: `what` ("a chat") cannot, `instead` is the
// command that can.
Engine open_for_batches(const EngineFlags& flags, Observer& observer, const char* what, const char* instead);

}  // namespace fovea
