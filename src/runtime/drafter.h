// Where a request's drafts come from, and how long they are: tokens that may come next, verified in the step
// that computes the last one. Right ones save steps, wrong ones cost rows; none changes a token. Private to
// runtime.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "runtime/draft_length.h"
#include "runtime/engine.h"
#include "runtime/prompt_lookup.h"

namespace fovea {

class Drafter {
 public:
  // `most` tokens are drafted at once; nothing: as many as pay. They come from `propose`, or from prompt
  // lookup where it is empty: then nothing is allocated behind `capacity` tokens, and ids in `barred` are
  // never drafted.
  Drafter(std::optional<int64_t> most, ProposeFn propose, int64_t capacity, std::vector<int64_t> barred);

  // The prompt, and then after each token that was taken: every token tells whether the lookup would have
  // known it, verified or not.
  void learn(std::span<const int32_t> ids);
  // At most `most` tokens that may follow `ids`; until the next call.
  std::span<const int32_t> draft(std::span<const int32_t> ids, int64_t most);
  // Likewise of the lookup, without a choice of the length: for whoever weighs several requests, with how
  // likely the first 1, 2, ... of them all come.
  std::span<const int32_t> announce(int64_t most, std::vector<double>& chances);
  // A step of so many rows of this request, and nobody else's, took so long.
  void timed(int64_t rows, double seconds);

 private:
  std::optional<int64_t> most_;
  ProposeFn propose_;
  PromptLookup lookup_;
  DraftLength length_;
  std::vector<int32_t> draft_;
};

}  // namespace fovea
