// ZeRO stage 3 (Rajbhandari et al. 2020, as in DeepSpeed): every rank stores 1/R of every matrix and gathers
// a group of them just before it is used. A rank fetches the parts of the others when it wants them, and they
// are served by a thread of their own, so ranks may work on different requests, at their own pace, and a rank
// without work only serves. Vectors (norms, biases; under 0.1 % of the bytes) are on every rank.
#pragma once

#include "base/progress.h"
#include "checkpoint/weight_source.h"
#include "comm/communicator.h"

namespace fovea {

struct ZeroOptions {
  bool in_memory = true;  // false: this rank's part stays in its files, and is read when somebody wants it
  ProgressFn progress = {};
};

// Collective, and so is the destructor of the result: it waits for, and serves, the others. Reads this rank's
// part of the files. Throws Error(invalid_argument) naming the ranks when their checkpoints differ in tensors
// or places; Error(io) when a file cannot be read. `checkpoint` and `ranks` are borrowed.
std::unique_ptr<WeightSource> zero_weights(const Checkpoint& checkpoint, Communicator& ranks,
                                           const ZeroOptions& options);

}  // namespace fovea
