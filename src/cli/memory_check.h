// From the flags of a command to a plan of its memory, and the refusal of what does not fit.
#pragma once

#include "audit/configuration_engines.h"
#include "cli/engine_flags.h"
#include "plan/plan_text.h"

namespace fovea {

// What is asked for, as the planner wants it; without text and pictures.
PlanSetup plan_setup(const EngineOptions& options, int64_t prefill_chunk, const Checkpoint& checkpoint);

// Refuses in three steps, each before what it refuses is done: weights before they are read, pictures and
// text before patches are made. With --ram, weights that do not fit are streamed instead.
class MemoryCheck {
 public:
  // `ram`: as given by --ram. Throws Error(exhausted) when even the weights and one token do not fit.
  // `all_logits`: a request keeps those of every prompt token. `configurations`: of an audit, in place of
  // what the flags say of the computation; each has to fit alone.
  MemoryCheck(const EngineFlags& flags, const std::optional<std::string>& ram, bool all_logits = false,
              std::span<const Configuration> configurations = {});

  // For the engine's options: what weights may occupy, if even without a request not all of them fit.
  const std::optional<WeightLimit>& weight_limit() const { return weight_limit_; }

  // With --zero-stage 3: this rank's part of the weights has no room in memory.
  bool share_on_disk() const { return share_on_disk_; }

  // Throws Error(exhausted) when `engine` has no room for a request as Engine::prepare measured it. Limits
  // the engine's weights to what the request leaves.
  void require(const Engine& engine, int64_t max_new_tokens, int64_t tokens,
               std::span<const Picture> measured, std::span<const MediaOptions> options) const;

  // The same of an engine that is, or will be, opened from `base` with the options `asked`.
  EngineRoom room(const Engine& base, const EngineOptions& asked, const ConvertedBytes& converted,
                  bool may_stream, int64_t max_new_tokens, int64_t tokens, std::span<const Picture> measured,
                  std::span<const MediaOptions> options) const;

 private:
  void plan_weights(const Checkpoint& checkpoint, PlanSetup& setup);

  int64_t prefill_chunk_;
  bool all_logits_, share_on_disk_ = false;
  int64_t ranks_;  // of ZeRO stage 3, or 0
  std::optional<WeightLimit> weight_limit_;
  std::optional<int64_t> ram_;
  int64_t files_ = 0;  // resident program files before weights are read
};

}  // namespace fovea
