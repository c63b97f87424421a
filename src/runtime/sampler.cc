#include "runtime/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "grammar/grammar.h"

namespace fovea {

namespace {

void require(bool condition, const std::string& what, const std::string& remedy) {
  if (!condition) throw Error(ErrorKind::invalid_argument, what, remedy);
}

size_t words_for(size_t ids) { return (ids + 63) / 64; }

void insert(std::vector<uint64_t>& set, int32_t id) {
  set[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
}

}  // namespace

Sampler::Sampler(const SamplingOptions& options)
    : options_(options),
      random_(options.seed),
      draw_(options.temperature, options.top_k, options.top_p, options.min_p) {
  require(options.greedy || (options.temperature > 0 && std::isfinite(options.temperature)),
          fmt::format("temperature {} is not positive", options.temperature),
          "use --greedy for temperature 0");
  require(options.top_k >= 0, fmt::format("top-k {} is negative", options.top_k), "use 0 to turn top-k off");
  require(options.top_p >= 0 && options.top_p <= 1, fmt::format("top-p {} is outside [0, 1]", options.top_p),
          "use 1 to turn top-p off");
  require(options.min_p >= 0 && options.min_p <= 1, fmt::format("min-p {} is outside [0, 1]", options.min_p),
          "use 0 to turn min-p off");
  require(std::isfinite(options.presence_penalty) && std::isfinite(options.frequency_penalty),
          "a penalty of presence or frequency is not finite", "use 0 to turn it off");
  require(options.repetition_penalty > 0 && std::isfinite(options.repetition_penalty),
          fmt::format("repetition penalty {} is not positive", options.repetition_penalty),
          "use 1 to turn it off");
  require(options.no_repeat_ngram_size >= 0,
          fmt::format("no-repeat n-gram size {} is negative", options.no_repeat_ngram_size),
          "use 0 to turn it off");
  if (options.grammar) matcher_ = std::make_unique<GrammarMatcher>(options.grammar);
}

Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;
Sampler::~Sampler() = default;

double Sampler::uniform() { return static_cast<double>(random_.bits() >> 11) * 0x1p-53; }

// Another history is shorter or, almost surely, has another id where the last one ended.
void Sampler::learn(std::span<const int32_t> history, size_t vocab) {
  FOVEA_CHECK(history.size() >= known_ && (known_ == 0 || history[known_ - 1] == last_known_));
  if (!prompt_) prompt_ = history.size();
  if (counts_answer()) {
    for (const int32_t id : history.subspan(std::max(known_, *prompt_))) ++in_answer_[id];
  }
  const auto fresh = history.subspan(known_);
  for (const int32_t id : fresh) FOVEA_CHECK(id >= 0 && static_cast<size_t>(id) < vocab);
  if (options_.repetition_penalty != 1.0) {
    seen_.resize(words_for(vocab));
    for (const int32_t id : fresh) insert(seen_, id);
  }
  if (matcher_ && std::exchange(answering_, true)) follow(fresh);
  if (fresh.empty()) return;
  known_ = history.size();
  last_known_ = history.back();
}

// NoRepeatNGramLogitsProcessor: what followed the last size - 1 ids before must not follow them again.
void Sampler::forbid_repeats(std::span<const int32_t> history) {
  const auto size = static_cast<size_t>(options_.no_repeat_ngram_size);
  if (history.size() + 1 < size) return;
  const auto last = history.last(size - 1);
  for (size_t at = size - 1; at < history.size(); ++at) {
    const auto before = history.subspan(at - last.size(), last.size());
    if (!last.empty() && before.back() != last.back()) continue;  // most end here
    if (std::equal(last.begin(), last.end(), before.begin())) insert(forbidden_, history[at]);
  }
}

// In vLLM's order: biases, the penalty of repetition, those of frequency and presence.
std::span<const float> Sampler::with_changes(std::span<const float> logits) {
  changed_.assign(logits.begin(), logits.end());
  for (const LogitBias& bias : options_.logit_bias) {
    FOVEA_CHECK(bias.id >= 0 && static_cast<size_t>(bias.id) < logits.size());
    changed_[static_cast<size_t>(bias.id)] += bias.added;
  }
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  for (size_t word = 0; word < seen_.size(); ++word) {
    for (uint64_t ids = seen_[word]; ids != 0; ids &= ids - 1) {
      float& logit = changed_[word * 64 + static_cast<size_t>(std::countr_zero(ids))];
      logit = logit > 0 ? logit / penalty : logit * penalty;
    }
  }
  for (const auto& [id, times] : in_answer_) {
    changed_[static_cast<size_t>(id)] -= static_cast<float>(
        options_.frequency_penalty * static_cast<double>(times) + options_.presence_penalty);
  }
  return changed_;
}

void Sampler::follow(std::span<const int32_t> answer) {
  for (const int32_t id : answer) {
    const bool ends =
        std::find(options_.end_ids.begin(), options_.end_ids.end(), id) != options_.end_ids.end();
    ended_ = ended_ || (ends && matcher_->is_complete());
    FOVEA_CHECK(ended_ || matcher_->accept(id));
  }
}

// All but what the grammar allows and, where the answer is whole, what ends it.
void Sampler::forbid_misfits() {
  if (ended_) {
    std::fill(forbidden_.begin(), forbidden_.end(), ~uint64_t{0});
  } else {
    matcher_->allowed()->forbid_others(forbidden_);
    if (!matcher_->is_complete()) return;
  }
  for (const int32_t id : options_.end_ids) {
    const auto word = static_cast<size_t>(id) / 64;
    if (word < forbidden_.size()) forbidden_[word] &= ~(uint64_t{1} << (id % 64));
  }
}

void Sampler::refuse_to_go_on() const {
  const std::string size = fmt::format("no_repeat_ngram_size {}", options_.no_repeat_ngram_size);
  if (options_.no_repeat_ngram_size > 0) {
    throw Error(ErrorKind::invalid_argument,
                matcher_ ? size + " and the grammar of the answer leave no token to go on with"
                         : size + " leaves no token to go on with",
                "use a larger size, or 0 to turn it off");
  }
  throw Error(ErrorKind::numeric, "every token that the grammar allows has a logit of -inf",
              "check the checkpoint: its vocabulary may be smaller than its tokenizer's");
}

int32_t Sampler::next(std::span<const float> logits, std::span<const int32_t> history) {
  FOVEA_CHECK(!logits.empty());
  learn(history, logits.size());
  if (options_.no_repeat_ngram_size > 0 || matcher_) forbidden_.assign(words_for(logits.size()), 0);
  if (options_.no_repeat_ngram_size > 0) forbid_repeats(history);
  if (matcher_) forbid_misfits();
  if (counts_answer() || !options_.logit_bias.empty()) {
    blocks_.read(with_changes(logits), {{}, 1, forbidden_});
  } else {
    blocks_.read(logits, {seen_, static_cast<float>(options_.repetition_penalty), forbidden_});
  }
  const RankedLogit best = blocks_.largest();
  if (!std::isfinite(best.logit)) refuse_to_go_on();
  return options_.greedy ? best.id : draw_.draw(blocks_, uniform());
}

}  // namespace fovea
