// Steps that several ranks carry out together. Rank 0 has the requests and decides; the others hold blocks
// and tables of their own parts of the model, and obey: every order has a number, and says whose rows are
// computed, in which blocks, which blocks are copied, and who is over. Private to runtime.
//
// - Over a pipeline of ranks (EngineOptions::split) hidden states go from rank to rank, and as many steps are
//   under way as keep all of them busy (staged_step.h).
// - With tensor parallelism all ranks compute each step together; rank 0 alone encodes pictures and computes
//   logits. Sums give all ranks the same bits, so they find the same segments failed.
//
// A numeric error ends its own segment. Any other error at rank 0 is thrown by begin() or finish(), at
// another rank by serve_steps(), and whoever catches it ends all ranks (comm/world.h), for the others wait.
#pragma once

#include "runtime/executor.h"

namespace fovea {

// Of a block, by the rank that needs most for it.
int64_t block_bytes_of_ranks(const EngineState& engine);

// Rank 0. The engine is borrowed; it has a split model, or a part of a layer and `ranks`. Every rank has
// `kv_cache_bytes` for blocks of its layers. Throws Error(exhausted) when that is less than one.
std::unique_ptr<Executor> ranks_executor(const EngineState& engine, int64_t kv_cache_bytes);

// Other ranks: carries out what rank 0 orders, of one batch engine after the other, until it releases them;
// with a split model until that batch engine is gone.
void serve_steps(const EngineState& engine, Communicator& ranks);
void release_ranks(Communicator& ranks);

}  // namespace fovea
