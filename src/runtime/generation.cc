// Vision, prefill and the decode loop.
#include <algorithm>

#include "base/error.h"
#include "runtime/runner.h"
#include "runtime/stop_strings.h"

namespace fovea {

namespace {

// The text side of an answer: bytes to characters, stop strings, streaming.
class AnswerText {
 public:
  AnswerText(const Tokenizer& tokenizer, const std::vector<std::string>& stops, const Observer& observer)
      : decoder_(tokenizer), stops_(stops), observer_(observer) {}

  void push(int32_t id) { show(stops_.push(decoder_.push(id))); }
  std::string finish() {
    if (!stops_.stopped()) {
      show(stops_.push(decoder_.finish()));
      show(stops_.finish());
    }
    return std::move(text_);
  }
  bool stopped() const { return stops_.stopped(); }

 private:
  void show(const std::string& piece) {
    if (piece.empty()) return;
    text_ += piece;
    if (observer_.on_text) observer_.on_text(piece);
  }

  StreamDecoder decoder_;
  StopStrings stops_;
  const Observer& observer_;
  std::string text_;
};

bool contains(const std::vector<int64_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

void check_options(const GenerationOptions& options) {
  if (options.max_new_tokens < 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("max_new_tokens {} is negative", options.max_new_tokens),
                "give --max-new-tokens 0 or more");
  }
  if (options.prefill_chunk < 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("prefill chunk {} is negative", options.prefill_chunk),
                "give --prefill-chunk 0 (whole prompt) or more");
  }
}

}  // namespace

Answer Engine::generate(const Prompt& prompt, const GenerationOptions& options,
                        const Observer& observer) const {
  check_options(options);
  const EngineState& s = *state_;
  const ModelConfig& config = s.parts->checkpoint.config();
  Sampler sampler(options.sampling);
  AnswerText text(s.parts->tokenizer, options.stop, observer);
  Answer answer;
  answer.finish_reason = "length";
  answer.timings.load_s = s.load_seconds;
  answer.timings.preprocess_s = prompt.preprocess_seconds;
  answer.guard = guard_report(s);
  GuardReport* guard = watching(answer.guard);
  Sequence sequence(prompt);
  const int64_t capacity = sequence.size() + std::min(options.max_new_tokens,
                                                      config.text.max_position_embeddings - sequence.size());
  try {
    check_cancelled(observer);
    Stopwatch watch;
    const Buffer<float> vision = encode_pictures(s, prompt, observer, guard);
    answer.timings.vision_s = watch.seconds();
    watch = Stopwatch();
    KvCache cache(config.text, capacity, s.precision.text.layers);
    Runner runner(s, vision, options.prefill_chunk, observer, guard);
    Buffer<float> logits(config.text.vocab_size);
    while (sequence.size() < capacity) {
      if (!options.use_kv_cache) cache.truncate(0);
      runner.next_logits(sequence, cache, logits.data());
      const int32_t id = sampler.next(logits.span(), sequence.ids());
      if (answer.token_ids.empty()) {
        answer.timings.prefill_s = watch.seconds();
        watch = Stopwatch();
      }
      answer.token_ids.push_back(id);
      sequence.append(id);
      const bool ended = !options.ignore_eos && contains(options.eos_token_ids, id);
      if (!ended) text.push(id);
      if (ended || text.stopped()) {
        answer.finish_reason = "stop";
        break;
      }
      answer.timings.decode_s = watch.seconds();
      check_cancelled(observer);
    }
  } catch (const Cancelled&) {
    answer.finish_reason = "cancelled";
  }
  answer.text = text.finish();
  answer.timings.prompt_tokens = static_cast<int64_t>(prompt.ids.size());
  answer.timings.generated_tokens = static_cast<int64_t>(answer.token_ids.size());
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
  const ModelConfig& config = s.parts->checkpoint.config();
  const Sequence sequence(prompt);
  Evaluation result;
  result.guard = guard_report(s);
  GuardReport* guard = watching(result.guard);
  result.vision_embeddings = encode_pictures(s, prompt, observer, guard);
  result.logits.resize(sequence.size() * config.text.vocab_size);
  KvCache cache(config.text, sequence.size(), s.precision.text.layers);
  Runner runner(s, result.vision_embeddings, prefill_chunk, observer, guard);
  runner.run(sequence, cache, [&](int64_t first, int64_t count, const float* hidden) {
    s.decoder.logits(hidden, count, result.logits.data() + first * config.text.vocab_size);
  });
  return result;
}

}  // namespace fovea
