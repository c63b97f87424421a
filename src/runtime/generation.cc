// Vision, prefill and the decode loop.
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "runtime/answer_text.h"
#include "runtime/next_logits.h"

namespace fovea {

namespace {

void refuse_unsupported(const std::vector<std::string>& stated) {
  if (stated.empty()) return;
  throw Error(ErrorKind::unsupported,
              fmt::format("{}, which fovea does not support", fmt::join(stated, ", ")),
              "give --greedy to take the most likely token each time, or remove it from the file");
}

}  // namespace

void check_options(const GenerationOptions& options, const Checkpoint& checkpoint) {
  refuse_unsupported(options.other_methods);
  if (!options.sampling.greedy) refuse_unsupported(options.other_sampling);
  if (options.max_new_tokens < 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("max_new_tokens {} is negative", options.max_new_tokens),
                "give --max-new-tokens 0 or more");
  }
  // A file that asks for sampling at temperature 0 contradicts itself, in transformers too; flags can settle
  // it.
  if (!options.sampling.greedy && options.sampling.temperature == 0 &&
      checkpoint.generation().temperature == 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{}: temperature is 0 while do_sample is true",
                            (checkpoint.dir() / "generation_config.json").string()),
                "give --greedy, or a --temperature above 0");
  }
  const int64_t vocabulary = checkpoint.config().text.vocab_size;
  for (const LogitBias& bias : options.sampling.logit_bias) {
    if (bias.id >= 0 && bias.id < vocabulary) continue;
    throw Error(ErrorKind::invalid_argument,
                fmt::format("logit_bias names token {}, but the model has {}", bias.id, vocabulary),
                "name tokens of this model's vocabulary");
  }
  if (options.prefill_chunk < 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("prefill chunk {} is negative", options.prefill_chunk),
                "give --prefill-chunk 0 (whole prompt) or more");
  }
}

namespace {

// What keeps a request from speculation: tokens that are then rejected would be recomputed or counted, or end
// other ranks by a value that is not finite.
const char* obstacle(const GenerationOptions& options, const Observer& observer,
                     const EngineOptions& engine) {
  if (engine.split) return "a model split over ranks";
  if (!options.use_kv_cache) return "a request without KV cache";
  if (!engine.tensor_parallel.whole()) return "tensor parallelism";
  if (engine.guard.mode != GuardMode::off) return "an engine with a guard";
  if (observer.layers != nullptr) return "a layer observer";
  return nullptr;
}

// The most tokens to propose at once, nothing for as many as pay.
std::optional<int64_t> speculation(const GenerationOptions& options, const Observer& observer,
                                   const EngineOptions& engine) {
  const std::optional<int64_t> asked = options.prompt_lookup_num_tokens;
  FOVEA_CHECK(!options.propose || asked);
  if (asked && *asked < 0) {
    throw Error(ErrorKind::invalid_argument, fmt::format("prompt_lookup_num_tokens {} is negative", *asked),
                "give --prompt-lookup-num-tokens 0 (off) or more");
  }
  const char* what = obstacle(options, observer, engine);
  if (what == nullptr) return asked;
  if (asked.value_or(0) == 0) return 0;
  throw Error(ErrorKind::invalid_argument,
              fmt::format("prompt_lookup_num_tokens {} and {} exclude each other", *asked, what),
              "leave --prompt-lookup-num-tokens out, or the other");
}

}  // namespace

void GenerationOptions::choose_greedy() {
  sampling.greedy = true;
  const std::vector<std::string> methods = std::exchange(other_methods, {});
  other_sampling.insert(other_sampling.end(), methods.begin(), methods.end());
}

std::vector<std::string> GenerationOptions::unused() const {
  std::vector<std::string> sentences;
  if (!sampling.greedy) return sentences;
  for (const std::string& setting : other_sampling)
    sentences.push_back(setting + ", which is not used: answers are greedy");
  return sentences;
}

Answer Engine::generate(const Prompt& prompt, const GenerationOptions& options,
                        const Observer& observer) const {
  const EngineState& s = *state_;
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
  const std::optional<int64_t> proposals = speculation(options, observer, s.options);
  Sequence sequence(prompt);
  const int64_t capacity = sequence.size() + std::min(options.max_new_tokens,
                                                      config.text.max_position_embeddings - sequence.size());
  sequence.reserve(capacity);
  answer.token_ids.reserve(static_cast<size_t>(std::max<int64_t>(capacity - sequence.size(), 0)));
  std::optional<KvCache> cache;
  try {
    check_cancelled(observer);
    Stopwatch watch;
    int64_t fetched_before = stream_state().fetched_bytes;
    const auto fetched = [&] {
      const int64_t now = stream_state().fetched_bytes;
      return now - std::exchange(fetched_before, now);
    };
    const Buffer<float> vision = encode_pictures(s, prompt, observer, guard);
    answer.timings.vision_s = watch.seconds();
    answer.timings.vision_fetched_bytes = fetched();
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
        answer.timings.prefill_fetched_bytes = fetched();
        watch = Stopwatch();
      } else {
        answer.timings.decode_s = watch.seconds();
        answer.timings.decode_fetched_bytes += fetched();
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
  KvCache cache = make_cache(s, sequence.size());
  Runner runner(s, result.vision_embeddings, prefill_chunk, observer, guard);
  runner.run(sequence, cache, [&](int64_t first, int64_t count, const float* hidden) {
    runner.logits_of(hidden, count, result.logits.data() + first * config.text.vocab_size);
  });
  return result;
}

}  // namespace fovea
