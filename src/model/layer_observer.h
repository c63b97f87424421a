// Looking at the inside of a forward pass; a null pointer in production, which costs nothing.
#pragma once

#include <functional>

#include "attention/problem.h"

namespace fovea {

enum class ModelPart { vision, text };

// Called on the thread that runs the forward pass, between the parallel pieces of work. Nothing may be kept
// by reference beyond the call.
class LayerObserver {
 public:
  virtual ~LayerObserver() = default;
  // After attention: problem.out is written, before the output projection.
  virtual void attended(ModelPart part, int64_t layer, const AttentionProblem& problem) = 0;
  // After the whole layer; hidden: [rows, width]. Vision rows are in window order.
  virtual void finished(ModelPart part, int64_t layer, const float* hidden, int64_t rows, int64_t width) = 0;
};

// What a caller of a forward pass may ask for; all of it may be missing.
struct PassHooks {
  std::function<void()> after_layer = {};    // may throw, which ends the pass
  std::function<void()> while_waiting = {};  // likewise, ten times a second while weights are awaited
};

// Of the vision tower, whose passes are one picture's.
struct ForwardHooks : PassHooks {
  LayerObserver* layers = nullptr;
  GuardReport* guard = nullptr;  // has an entry for every layer and head of the part that runs
};

}  // namespace fovea
