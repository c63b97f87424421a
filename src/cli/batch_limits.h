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
  // The same within `ram`, of the whole process: what weights, one step, pictures that wait and the cache of
  // their embeddings leave. `program_files`: resident files before weights were read. Throws Error(exhausted)
  // when that is less than --kv-cache-memory, or than one block.
  BatchLimits limits_within(const Engine& engine, int64_t ram, int64_t program_files) const;
};

// Opens the engine of a command that serves several requests, and says what was odd about its folder. Throws
// Error(exhausted) when the weights would have to be streamed: `what` ("a chat") cannot, `instead` is the
// command that can. `ram`: what --ram says, if the command has it.
Engine open_for_batches(const EngineFlags& flags, Observer& observer, const char* what, const char* instead,
                        const std::optional<std::string>& ram = std::nullopt);

}  // namespace fovea
