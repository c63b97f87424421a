// What the scheduler is told of a request, and the words for what becomes of it. Numbers only: the scheduler
// knows neither pixels nor token ids.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

namespace fovea {

using RequestId = uint64_t;

// A picture, or a video, in a prompt. Equal numbers mean equal embeddings, whoever brings them.
struct PromptPicture {
  uint64_t number = 0;
  int64_t units = 0;        // of work to encode it (patches, say); the same wherever the number is
  int64_t first_token = 0;  // its place in the prompt
  int64_t tokens = 0;
  bool encoded = false;  // its embeddings are at hand already
};

struct Request {
  RequestId id = 0;
  // What else the keys and values of a token depend on: policy, checkpoint, rules of positions.
  uint64_t root = 0;
  // Of the prompt, at least one. Equal numbers behind equal ones have equal keys and values: a text token is
  // its id, a picture's token is made of the picture's number and the offset within it.
  std::vector<uint64_t> tokens;
  int64_t max_new_tokens = 0;           // at least 1
  std::vector<PromptPicture> pictures;  // in the order of their tokens; they do not overlap
  // At most so many tokens are taken from what others computed: the rows behind them are wanted themselves.
  int64_t sharable = std::numeric_limits<int64_t>::max();
};

enum class Refusal {
  queue_full,  // max_queue requests wait: later there may be room
  never_fits,  // prompt and answer need more blocks than there are
};

enum class RequestState {
  queued,     // waits for a place, blocks, or its turn
  vision,     // waits for a picture to be encoded
  twin,       // waits for a block that another request computes
  preempted,  // gave its blocks to an older request, and waits
  prefill,    // tokens are computed before the next one can be sampled
  decode,     // one token is computed, then one sampled
  done,       // these three are over: the scheduler has forgotten the request
  failed,
  cancelled,
};
inline constexpr int kRequestStates = 9;

}  // namespace fovea
