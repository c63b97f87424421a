// Single answers and evaluations, as requests of a batch engine of their own.
#include <utility>

#include "runtime/answer_text.h"
#include "runtime/over_ranks.h"
#include "runtime/picture_encoding.h"
#include "runtime/runner.h"
#include "runtime/sampler.h"
#include "runtime/solo_run.h"

namespace fovea {

namespace {

void add_text_guard(const GuardReport& from, GuardReport& to) {
  for (size_t layer = 0; layer < from.text.size(); ++layer) {
    for (size_t head = 0; head < from.text[layer].size(); ++head) {
      to.text[layer][head].add(from.text[layer][head]);
    }
  }
}

// An answer without a KV cache: each token is that of a request whose prompt is everything before it, and
// which takes nothing from the one before.
class UncachedAnswer {
 public:
  UncachedAnswer(const EngineState& engine, const GenerationOptions& options, const Observer& observer)
      : engine_(engine),
        options_(options),
        observer_(observer),
        sampler_(options.sampling),
        text_(engine.parts->tokenizer, options.stop, observer.on_text) {}

  Answer run(Prompt words, const Buffer<float>& vision, int64_t capacity) {
    answer_.finish_reason = "length";
    answer_.guard = guard_report(engine_);
    SoloRun run(engine_, capacity, options_.prefill_chunk, observer_);
    Stopwatch watch;
    while (std::ssize(words.ids) < capacity && !over_) {
      const Answer one = run.run(next(words, vision));
      add_text_guard(one.guard, answer_.guard);
      answer_.kv_cache = one.kv_cache;
      if (one.token_ids.empty()) {
        answer_.finish_reason = "cancelled";
        break;
      }
      count(one, watch);
      append(words, one.token_ids);
      take(one.token_ids[0]);
    }
    answer_.text = text_.finish();
    return std::move(answer_);
  }

 private:
  BatchJob next(const Prompt& words, const Buffer<float>& vision) {
    BatchJob job{words_of(words), options_};
    job.options.max_new_tokens = 1;
    job.options.ignore_eos = true;
    job.options.stop.clear();
    job.vision = &vision;
    job.sharable = 0;
    job.layers = observer_.layers;
    job.choose = [this](std::span<const float> logits, const std::vector<int32_t>& ids) {
      return sampler_.next(logits, ids);
    };
    return job;
  }

  void count(const Answer& one, Stopwatch& watch) {
    Timings& timings = answer_.timings;
    if (answer_.token_ids.empty()) {
      timings.prefill_s = watch.seconds();
      timings.prefill_fetched_bytes = one.timings.prefill_fetched_bytes;
      watch = Stopwatch();
    } else {
      timings.decode_s = watch.seconds();
      timings.decode_fetched_bytes += one.timings.prefill_fetched_bytes;
    }
  }

  void take(int32_t token) {
    answer_.token_ids.push_back(token);
    const bool ended = ends_answer(options_, token);
    if (!ended) text_.push(token);
    over_ = ended || text_.stopped();
    if (over_) answer_.finish_reason = "stop";
    if (over_ || observer_.cancel == nullptr || !observer_.cancel->load()) return;
    over_ = true;
    answer_.finish_reason = "cancelled";
  }

  const EngineState& engine_;
  const GenerationOptions& options_;
  const Observer& observer_;
  Sampler sampler_;
  AnswerText text_;
  Answer answer_;
  bool over_ = false;
};

Answer answer_to(const EngineState& engine, const Prompt& prompt, const Buffer<float>& vision,
                 const GenerationOptions& options, const Observer& observer,
                 const std::optional<int64_t>& proposals) {
  const int64_t context = engine.parts->checkpoint.config().text.max_position_embeddings,
                size = std::ssize(prompt.ids),
                capacity = size + std::min(options.max_new_tokens, context - size);
  if (!options.use_kv_cache)
    return UncachedAnswer(engine, options, observer).run(words_of(prompt), vision, capacity);
  SoloRun run(engine, capacity, options.prefill_chunk, observer);
  BatchJob job{words_of(prompt), options};
  job.callbacks.on_text = observer.on_text;
  job.proposals = proposals;
  job.vision = &vision;
  job.layers = observer.layers;
  return run.run(std::move(job));
}

}  // namespace

Answer Engine::generate(const Prompt& prompt, const GenerationOptions& options,
                        const Observer& observer) const {
  const EngineState& s = *state_;
  if (s.pipeline) return generate_over_ranks(s, prompt, options, observer);
  check_options(options, s.parts->checkpoint);
  const std::optional<int64_t> proposals = proposals_for(options, observer.layers != nullptr, s.options);
  GuardReport guard = guard_report(s);
  Answer answer;
  answer.finish_reason = "cancelled";
  double vision_s = 0;
  const int64_t fetched_before = stream_state().fetched_bytes;
  int64_t fetched = 0;
  try {
    check_cancelled(observer);
    const Stopwatch watch;
    const Buffer<float> vision = encode_pictures(s, prompt, observer, watching(guard));
    vision_s = watch.seconds();
    fetched = stream_state().fetched_bytes - fetched_before;
    answer = answer_to(s, prompt, vision, options, observer, proposals);
  } catch (const Cancelled&) {
  }
  add_text_guard(answer.guard, guard);
  answer.guard = std::move(guard);
  answer.timings.load_s = s.load_seconds;
  answer.timings.preprocess_s = prompt.preprocess_seconds;
  answer.timings.vision_s = vision_s;
  answer.timings.vision_fetched_bytes = fetched;
  answer.timings.prompt_tokens = std::ssize(prompt.ids);
  answer.timings.generated_tokens = std::ssize(answer.token_ids);
  return answer;
}

Buffer<float> Engine::encode(const Prompt& prompt, const Observer& observer) const {
  Observer uncancelled = observer;
  uncancelled.cancel = nullptr;
  GuardReport guard = guard_report(*state_);
  return encode_pictures(*state_, prompt, uncancelled, watching(guard));
}

Evaluation Engine::evaluate(const Prompt& prompt, int64_t prefill_chunk, const Observer& observer) const {
  const EngineState& s = *state_;
  if (s.pipeline) return evaluate_over_ranks(s, prompt, prefill_chunk, observer);
  Evaluation result;
  result.guard = guard_report(s);
  result.vision_embeddings = encode_pictures(s, prompt, observer, watching(result.guard));
  const int64_t size = std::ssize(prompt.ids);
  result.logits.resize(size * s.parts->checkpoint.config().text.vocab_size);
  SoloRun run(s, size, prefill_chunk, observer);
  BatchJob job{words_of(prompt), GenerationOptions()};
  job.vision = &result.vision_embeddings;
  job.layers = observer.layers;
  job.sharable = 0;
  job.measured_to = result.logits.data();
  const Answer answer = run.run(std::move(job));
  if (answer.finish_reason == "cancelled") throw Cancelled{};
  add_text_guard(answer.guard, result.guard);
  return result;
}

}  // namespace fovea
