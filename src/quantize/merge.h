// Writes a checkpoint again with a LoRA adapter added to its weights.
#pragma once

#include <atomic>
#include <filesystem>

#include "base/progress.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/lora_adapter.h"

namespace fovea {

struct MergeOptions {
  std::filesystem::path out;
  bool replace = false;  // a checkpoint that is already there
  double scale = 1;      // of the whole adapter, times its own
  const std::atomic<bool>* cancel = nullptr;
};

struct MergeSummary {
  bool complete = false;  // false: cancelled, nothing was written
  int64_t changed = 0, replaced = 0, unchanged = 0, widened = 0, bytes = 0;  // tensors; of the new folder
  bool untied = false;  // the head is a matrix of its own from now on
};

// Each changed weight W + scale * B A is computed in fp64 and rounded to the type that W has; with DoRA each
// row is brought to its magnitude before. What the adapter does not name is copied. Weights in 8 or 4 bits or
// in blocks are widened to the model's dtype. A tied head that the adapter changes apart from the embedding
// becomes a matrix of its own. Throws Error(numeric) naming a tensor that is no longer finite,
// Error(invalid_argument) for a scale that the adapter cannot have, Error(exhausted) when the disk is full,
// and those of OutputFolder.
MergeSummary merge_adapter(const Checkpoint& checkpoint, const LoraAdapter& adapter,
                           const MergeOptions& options, const ProgressFn& progress);

}  // namespace fovea
