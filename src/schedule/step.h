// One step of the engine: what the scheduler orders, and what it is told came of it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "schedule/block_ledger.h"
#include "schedule/request.h"

namespace fovea {

// The first `tokens` tokens of block `from` are copied into block `to`.
struct BlockCopy {
  BlockId from = kNoBlock, to = kNoBlock;
  int64_t tokens = 0;
};

// The rows of one sequence: its tokens first ... first + count - 1 are computed and stored in its blocks;
// those before them lie there already. Behind the sequence's end follow the drafts that were proposed, so
// many of them as `count` says.
struct StepSegment {
  RequestId request = 0;
  int64_t first = 0, count = 0;
  int64_t logits = 0;  // so many of the last rows want logits
  // The sequence's table from entry `table_from` on; the entries before are as they were in its last segment.
  int64_t table_from = 0;
  std::vector<BlockId> table;
};

// Units first ... first + units - 1 of a picture's encoding. They are done in order, though not always in the
// name of the same request.
struct VisionSlice {
  RequestId request = 0;
  uint64_t picture = 0;
  int64_t first = 0, units = 0;
};

// Copies are made first, in their order; then rows and slice are computed, in any order.
struct Step {
  int64_t number = 0;
  std::vector<BlockCopy> copies;
  std::vector<StepSegment> segments;  // decode rows, then chunks of prompts
  std::optional<VisionSlice> vision;
  std::vector<RequestId> preempted;  // their blocks belong to others from now on

  bool empty() const { return segments.empty() && !vision; }
};

struct SegmentResult {
  bool ok = true;  // otherwise the request has failed
  // What was sampled, if the segment wanted logits: at least one token, or none if `ended`; at most one for
  // each row that wanted logits, and no more than the request may still get. A draft that was accepted is
  // among them; the scheduler sees by comparison which rows hold what was not taken, and rolls them back.
  std::vector<uint64_t> appended;
  bool ended = false;  // an end token, a stop string; the limit of tokens is the scheduler's affair
};

struct StepResults {
  int64_t number = 0;                   // the step's
  std::vector<SegmentResult> segments;  // in the step's order
  bool vision_ok = true;                // otherwise the slice's request has failed
};

// A request that is over.
struct Ending {
  RequestId request = 0;
  RequestState state = RequestState::done;  // done, failed or cancelled
};

}  // namespace fovea
