#include "runtime/over_ranks.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "runtime/answer_text.h"
#include "runtime/next_logits.h"
#include "runtime/picture_encoding.h"

namespace fovea {

Answer generate_over_ranks(const EngineState& s, const Prompt& prompt, const GenerationOptions& options,
                           const Observer& observer) {
  check_options(options, s.parts->checkpoint);
  const ModelConfig& config = s.parts->checkpoint.config();
  Sampler sampler(options.sampling);
  AnswerText text(s.parts->tokenizer, options.stop, observer.on_text);
  Answer answer;
  answer.finish_reason = "length";
  answer.timings.load_s = s.load_seconds;
  answer.timings.preprocess_s = prompt.preprocess_seconds;
  answer.guard = guard_report(s);
  GuardReport* guard = watching(answer.guard);
  const std::optional<int64_t> proposals = proposals_for(options, observer.layers != nullptr, s.options);
  Sequence sequence(prompt);
  const int64_t capacity = sequence.size() + std::min(options.max_new_tokens,
                                                      config.text.max_position_embeddings - sequence.size());
  sequence.reserve(capacity);
  answer.token_ids.reserve(static_cast<size_t>(std::max<int64_t>(capacity - sequence.size(), 0)));
  std::optional<KvCache> cache;
  try {
    check_cancelled(observer);
    Stopwatch watch;
    const Buffer<float> vision = encode_pictures(s, prompt, observer, guard);
    answer.timings.vision_s = watch.seconds();
    watch = Stopwatch();
    cache.emplace(make_cache(s, capacity));
    Runner runner(s, vision, options.prefill_chunk, observer, guard);
    NextLogits next(runner, *cache, config, proposals, options.propose, answer.speculation);
    while (sequence.size() < capacity) {
      if (!options.use_kv_cache) cache->truncate(0);
      const std::span<float> logits = next.behind(sequence);  // first: it may move the ids
      const int32_t id = sampler.next(logits, sequence.ids());
      if (answer.token_ids.empty()) {
        answer.timings.prefill_s = watch.seconds();
        watch = Stopwatch();
      } else {
        answer.timings.decode_s = watch.seconds();
      }
      answer.token_ids.push_back(id);
      sequence.append(id);
      const bool ended = ends_answer(options, id);
      if (!ended) text.push(id);
      if (ended || text.stopped()) {
        answer.finish_reason = "stop";
        break;
      }
      check_cancelled(observer);
    }
  } catch (const Cancelled&) {
    answer.finish_reason = "cancelled";
  }
  if (cache) answer.kv_cache = cache->state();
  answer.text = text.finish();
  answer.timings.prompt_tokens = static_cast<int64_t>(prompt.ids.size());
  answer.timings.generated_tokens = static_cast<int64_t>(answer.token_ids.size());
  return answer;
}

Evaluation evaluate_over_ranks(const EngineState& s, const Prompt& prompt, int64_t prefill_chunk,
                               const Observer& observer) {
  const ModelConfig& config = s.parts->checkpoint.config();
  const Sequence sequence(prompt);
  Evaluation result;
  result.guard = guard_report(s);
  GuardReport* guard = watching(result.guard);
  result.vision_embeddings = encode_pictures(s, prompt, observer, guard);
  result.logits.resize(sequence.size() * config.text.vocab_size);
  KvCache cache = make_cache(s, sequence.size());
  Runner runner(s, result.vision_embeddings, prefill_chunk, observer, guard);
  runner.run(sequence, cache, [&](int64_t first, int64_t count, const float* hidden) {
    runner.logits_of(hidden, count, result.logits.data() + first * config.text.vocab_size);
  });
  return result;
}

// One sequence whose cache is rewound.
class ContinuationOverRanks final : public Continuation {
 public:
  ContinuationOverRanks(const EngineState& engine, const Prompt& prompt, const Buffer<float>& vision,
                        const GenerationOptions& options, const Observer& observer, int64_t capacity)
      : observer_(observer),
        guard_(guard_report(engine)),
        sequence_(prompt),
        prompt_size_(sequence_.size()),
        vocab_(engine.parts->checkpoint.config().text.vocab_size),
        cache_(make_cache(engine, capacity)),
        runner_(engine, vision, options.prefill_chunk, observer_, watching(guard_)) {}

  void forced_logits(std::span<const int32_t> tokens, float* logits) override {
    feed_prompt();
    std::copy_n(prompt_logits_.data(), vocab_, logits);
    rewind_to(tokens.first(tokens.size() - 1), 0);
    cache_.truncate(prompt_size_);
    runner_.run(sequence_, cache_, [&](int64_t first, int64_t count, const float* hidden) {
      runner_.logits_of(hidden, count, logits + (first - prompt_size_ + 1) * vocab_);
    });
  }

  std::vector<int32_t> go_on(std::vector<int32_t> tokens, const Choose& choose, const Ended& ended) override {
    Buffer<float> logits(vocab_);
    while (!ended(tokens)) {
      feed_prompt();
      rewind_to(tokens, tokens.empty() ? 0 : 1);
      if (tokens.empty()) {
        std::copy_n(prompt_logits_.data(), vocab_, logits.data());
      } else {
        runner_.next_logits(sequence_, cache_, logits.data());
      }
      tokens.push_back(choose(logits.span(), tokens));
    }
    return tokens;
  }

 private:
  void feed_prompt() {
    if (prompt_logits_.size() > 0) return;
    rewind_to({}, 0);
    Buffer<float> logits(vocab_);
    runner_.next_logits(sequence_, cache_, logits.data());
    prompt_logits_ = std::move(logits);
  }

  // Makes the sequence prompt + tokens, the cache a part of it that leaves at least `fresh` tokens to feed.
  void rewind_to(std::span<const int32_t> tokens, int64_t fresh) {
    const int64_t old_size = sequence_.size() - prompt_size_, new_size = std::ssize(tokens);
    int64_t common = 0;
    while (common < std::min(old_size, new_size) &&
           sequence_.ids()[static_cast<size_t>(prompt_size_ + common)] ==
               tokens[static_cast<size_t>(common)]) {
      ++common;
    }
    sequence_.truncate(prompt_size_ + common);
    for (const int32_t id : tokens.subspan(static_cast<size_t>(common))) sequence_.append(id);
    cache_.truncate(std::min({cache_.tokens(), prompt_size_ + common, sequence_.size() - fresh}));
  }

  Observer observer_;
  GuardReport guard_;
  Sequence sequence_;  // the prompt and the tokens behind it that are in the cache or about to be
  int64_t prompt_size_, vocab_;
  KvCache cache_;
  Runner runner_;
  Buffer<float> prompt_logits_;  // empty until the prompt is fed
};

std::unique_ptr<Continuation> continuation_over_ranks(const EngineState& engine, const Prompt& prompt,
                                                      const Buffer<float>& vision,
                                                      const GenerationOptions& options,
                                                      const Observer& observer, int64_t capacity) {
  return std::make_unique<ContinuationOverRanks>(engine, prompt, vision, options, observer, capacity);
}

}  // namespace fovea
