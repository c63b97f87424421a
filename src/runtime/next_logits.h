// The logits behind a growing sequence, computed one row at a time or several ahead of it: speculation.
// Tokens that may come next are fed together with the last one; their rows serve as long as the tokens taken
// are those that were fed. A row is the same, bit for bit, in either case, and a row that was computed for
// nothing leaves no trace. Private to runtime.
#pragma once

#include "runtime/draft_length.h"
#include "runtime/prompt_lookup.h"
#include "runtime/runner.h"

namespace fovea {

class NextLogits {
 public:
  // `most` tokens are proposed at once; nothing: as many as pay. They come from `propose`, or from prompt
  // lookup where it is empty. The cache has room for the finished answer. Adds to `report`; everything is
  // borrowed.
  NextLogits(Runner& runner, KvCache& cache, const ModelConfig& config, std::optional<int64_t> most,
             const ProposeFn& propose, Speculation& report);

  // [vocab], for the caller to change, until the next call. First called with the prompt alone, then after
  // each token taken.
  std::span<float> behind(Sequence& sequence);

 private:
  bool proposes() const { return most_ != 0; }
  std::span<float> row(int64_t i) {
    return logits_.span().subspan(static_cast<size_t>(i * vocab_), static_cast<size_t>(vocab_));
  }
  void learn(const Sequence& sequence);
  void draft(const Sequence& sequence);
  bool verify(Sequence& sequence);
  void step(const Sequence& sequence);

  Runner& runner_;
  KvCache& cache_;
  std::optional<int64_t> most_;
  const ProposeFn& propose_;
  Speculation& report_;
  PromptLookup lookup_;
  DraftLength length_;
  int64_t vocab_, row_ = 0;     // the row handed out last
  std::vector<int32_t> draft_;  // fed behind the token of row 0
  Buffer<float> logits_;        // [1 + draft, vocab]
};

}  // namespace fovea
