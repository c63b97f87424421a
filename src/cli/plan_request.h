// A use in numbers, as `fovea plan` and `fovea advise` take it, and the request that it is.
#pragma once

#include "checkpoint/checkpoint.h"
#include "cli/memory_check.h"
#include "cli/model_or_config.h"
#include "runtime/model_text.h"

namespace fovea {

// The model that is planned for. What an engine holds beside the weights is there while the plan is made, and
// measured.
struct PlannedModel {
  ModelOrConfig source;
  Checkpoint checkpoint;
  ModelText text;

  // Also prints what is odd about it.
  PlannedModel(const EngineFlags& flags, const std::string& config);
};

struct PlannedUse {
  std::optional<int64_t> context;  // tokens in all; default: images, answer and 512 of text
  int64_t max_new_tokens = 0;
  std::vector<std::string> pictures;  // "20@1280x960"

  void add_to(CLI::App& command);  // --context, --images, --max-new-tokens
};

// Tokens of all pictures under the flags' limits.
int64_t picture_tokens(const EngineFlags& flags, const PlannedUse& use, const Checkpoint& checkpoint);

// With what is resident in this process as what the program itself needs. Throws Error(invalid_argument)
// for a use that contradicts itself, Error(exhausted) for one that is longer than the model's context.
PlanSetup planned_request(const EngineFlags& flags, const PlannedUse& use, const Checkpoint& checkpoint);

}  // namespace fovea
