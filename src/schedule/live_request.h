// A request that is not over, as the scheduler keeps it: its tokens, and how far they are computed. Private
// to schedule.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "schedule/block_ledger.h"
#include "schedule/request.h"

namespace fovea {

class LiveRequest {
 public:
  LiveRequest(Request request, uint64_t arrival)
      : request_(std::move(request)), arrival_(arrival), prompt_(size()) {}

  RequestId id() const { return request_.id; }
  uint64_t arrival() const { return arrival_; }
  const std::vector<PromptPicture>& pictures() const { return request_.pictures; }

  // The prompt, then what was generated.
  std::span<const uint64_t> tokens() const { return request_.tokens; }
  int64_t size() const { return static_cast<int64_t>(request_.tokens.size()); }
  // So many tokens may be taken from the index: the last one is computed for its logits.
  int64_t sharable() const { return std::min(size() - 1, request_.sharable); }
  int64_t generated() const { return size() - prompt_; }
  int64_t may_generate() const { return request_.max_new_tokens - generated(); }
  void append(std::span<const uint64_t> tokens) {
    request_.tokens.insert(request_.tokens.end(), tokens.begin(), tokens.end());
  }

  int64_t uncomputed() const { return size() - computed; }
  // Only what was sampled last is not computed yet.
  bool decodes() const { return generated() > 0 && uncomputed() == 1; }

  // What block `i` of the table holds or will hold, so far as it is known: tokens before `end`.
  std::span<const uint64_t> tokens_in_block(int64_t i, int64_t block_tokens, int64_t end) const {
    const int64_t first = i * block_tokens;
    return tokens().subspan(static_cast<size_t>(first),
                            static_cast<size_t>(std::min(block_tokens, end - first)));
  }
  // What comes before block `i` of the table.
  ChainEnd before_block(int64_t i) const {
    return {request_.root, i == 0 ? kNoBlock : table[static_cast<size_t>(i - 1)]};
  }

  RequestState state = RequestState::queued;
  std::vector<BlockId> table;  // one reference to each
  int64_t computed = 0;        // tokens that lie in the blocks
  int64_t published = 0;       // so many blocks, from the first, are in the index as full ones
  int64_t told = 0;            // so many entries of the table the executor knows
  std::vector<uint64_t> drafts;
  int64_t last_served = 0;     // the step that computed its last row
  bool has_turn = false;       // among the decodes of the next step
  int64_t in_step = 0;         // the step under way that works for it; 0: none
  bool cancel_wanted = false;  // when that step is finished

 private:
  Request request_;
  uint64_t arrival_;
  int64_t prompt_;
};

}  // namespace fovea
