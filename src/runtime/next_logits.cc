#include "runtime/next_logits.h"

#include "base/error.h"

namespace fovea {

NextLogits::NextLogits(Runner& runner, KvCache& cache, const ModelConfig& config, std::optional<int64_t> most,
                       const ProposeFn& propose, Speculation& report)
    : runner_(runner),
      cache_(cache),
      most_(most),
      propose_(propose),
      report_(report),
      lookup_(most == 0 || propose ? 0 : cache.capacity(), {config.image_token_id, config.video_token_id}),
      vocab_(config.text.vocab_size),
      logits_(vocab_) {}

std::span<float> NextLogits::behind(Sequence& sequence) {
  if (proposes() && !propose_) learn(sequence);
  if (row_ < std::ssize(draft_) && sequence.ids().back() == draft_[static_cast<size_t>(row_)]) {
    ++report_.accepted;
    return row(++row_);
  }
  row_ = 0;
  draft_.clear();
  cache_.truncate(std::min(cache_.tokens(), sequence.size() - 1));
  draft(sequence);
  if (draft_.empty() || !verify(sequence)) step(sequence);
  return row(0);
}

// Every token tells whether the lookup would have known it, verified or not.
void NextLogits::learn(const Sequence& sequence) {
  if (lookup_.match() > 0) length_.announced(lookup_.match(), lookup_.next() == sequence.ids().back());
  lookup_.extend(sequence.ids());
}

void NextLogits::draft(const Sequence& sequence) {
  // The step's own token is one of those that are still wanted.
  const int64_t wanted = cache_.capacity() - sequence.size(),
                most = std::min(wanted - 1, most_.value_or(DraftLength::kMost));
  if (!proposes() || sequence.size() == sequence.prompt_size() || most < 1) return;
  if (propose_) {
    draft_ = propose_(sequence.ids(), most);
    FOVEA_CHECK(std::ssize(draft_) <= most);
    return;
  }
  lookup_.announce(most, draft_);
  if (!most_) draft_.resize(static_cast<size_t>(length_.choose(lookup_.match(), std::ssize(draft_))));
}

// False where a row is not finite: it may be one that plain decoding never sees, so a plain step has to tell.
bool NextLogits::verify(Sequence& sequence) {
  const int64_t size = sequence.size(), rows = 1 + std::ssize(draft_);
  logits_.reserve(rows * vocab_);
  for (const int32_t id : draft_) sequence.append(id);
  const Stopwatch watch;
  bool finite = true;
  try {
    runner_.all_logits(sequence, cache_, logits_.data());
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::numeric) throw;
    finite = false;
  }
  sequence.truncate(size);
  if (!finite) {
    draft_.clear();
    cache_.truncate(size - 1);
    return false;
  }
  if (!most_) length_.timed(rows, watch.seconds());
  ++report_.steps;
  report_.proposed += std::ssize(draft_);
  return true;
}

void NextLogits::step(const Sequence& sequence) {
  const bool single = cache_.tokens() == sequence.size() - 1;
  const Stopwatch watch;
  runner_.next_logits(sequence, cache_, logits_.data());
  if (single) length_.timed(1, watch.seconds());
}

}  // namespace fovea
