#include "runtime/session.h"

#include "base/error.h"
#include "runtime/runner.h"
#include "runtime/stop_strings.h"

namespace fovea {

struct Session::State {
  const EngineState& engine;
  GenerationOptions options;
  Observer observer;
  GuardReport guard;
  Sequence sequence;  // the prompt and the tokens behind it that are in the cache or about to be
  int64_t prompt_size, vocab;
  KvCache cache;
  Runner runner;
  Buffer<float> prompt_logits;  // empty until the prompt is fed

  State(const EngineState& state, const Prompt& prompt, const Buffer<float>& vision,
        const GenerationOptions& generation, const Observer& follower)
      : engine(state),
        options(generation),
        observer(follower),
        guard(guard_report(state)),
        sequence(prompt),
        prompt_size(sequence.size()),
        vocab(state.parts->checkpoint.config().text.vocab_size),
        cache(make_cache(
            state, prompt_size + std::min(generation.max_new_tokens,
                                          state.parts->checkpoint.config().text.max_position_embeddings -
                                              prompt_size))),
        runner(state, vision, generation.prefill_chunk, observer, watching(guard)) {}

  void feed_prompt() {
    if (prompt_logits.size() > 0) return;
    rewind_to({}, 0);
    Buffer<float> logits(vocab);
    runner.next_logits(sequence, cache, logits.data());
    prompt_logits = std::move(logits);
  }

  // Makes the sequence prompt + tokens, the cache a part of it that leaves at least `fresh` tokens to feed.
  void rewind_to(std::span<const int32_t> tokens, int64_t fresh) {
    const int64_t old_size = sequence.size() - prompt_size, new_size = static_cast<int64_t>(tokens.size());
    int64_t common = 0;
    while (common < std::min(old_size, new_size) &&
           sequence.ids()[static_cast<size_t>(prompt_size + common)] == tokens[static_cast<size_t>(common)]) {
      ++common;
    }
    sequence.truncate(prompt_size + common);
    for (const int32_t id : tokens.subspan(static_cast<size_t>(common))) sequence.append(id);
    cache.truncate(std::min({cache.tokens(), prompt_size + common, sequence.size() - fresh}));
  }
};

Session::Session(const Engine& engine, const Prompt& prompt, const Buffer<float>& vision,
                 const GenerationOptions& options, const Observer& observer)
    : state_(std::make_unique<State>(*engine.state_, prompt, vision, options, observer)) {}

Session::~Session() = default;

Buffer<float> Session::forced_logits(std::span<const int32_t> tokens) {
  State& s = *state_;
  Buffer<float> logits(static_cast<int64_t>(tokens.size()) * s.vocab);
  if (tokens.empty()) return logits;
  s.feed_prompt();
  std::copy_n(s.prompt_logits.data(), s.vocab, logits.data());
  s.rewind_to(tokens.first(tokens.size() - 1), 0);
  s.cache.truncate(s.prompt_size);
  s.runner.run(s.sequence, s.cache, [&](int64_t first, int64_t count, const float* hidden) {
    s.runner.logits_of(hidden, count, logits.data() + (first - s.prompt_size + 1) * s.vocab);
  });
  return logits;
}

int32_t Session::choose(std::span<const float> logits, std::span<const int32_t> tokens) const {
  SamplingOptions greedy = state_->options.sampling;
  greedy.greedy = true;
  std::vector<int32_t> history(state_->sequence.ids().begin(),
                               state_->sequence.ids().begin() + state_->prompt_size);
  history.insert(history.end(), tokens.begin(), tokens.end());
  return Sampler(greedy).next(logits, history);
}

bool Session::ended(std::span<const int32_t> tokens) const {
  const State& s = *state_;
  const auto count = static_cast<int64_t>(tokens.size());
  if (s.prompt_size + count >= s.cache.capacity()) return true;
  if (tokens.empty()) return false;
  const auto& ends = s.options.eos_token_ids;
  if (!s.options.ignore_eos && std::find(ends.begin(), ends.end(), tokens.back()) != ends.end()) return true;
  if (s.options.stop.empty()) return false;
  StopStrings stops(s.options.stop);
  StreamDecoder decoder(s.engine.parts->tokenizer);
  for (const int32_t id : tokens) stops.push(decoder.push(id));
  return stops.stopped();
}

std::vector<int32_t> Session::continue_greedily(
    std::vector<int32_t> tokens, const std::function<void(std::span<const float>)>& on_logits) {
  State& s = *state_;
  Buffer<float> logits(s.vocab);
  while (!ended(tokens)) {
    s.feed_prompt();
    s.rewind_to(tokens, tokens.empty() ? 0 : 1);
    if (tokens.empty()) {
      std::copy_n(s.prompt_logits.data(), s.vocab, logits.data());
    } else {
      s.runner.next_logits(s.sequence, s.cache, logits.data());
    }
    if (on_logits) on_logits(logits.span());
    tokens.push_back(choose(logits.span(), tokens));
  }
  return tokens;
}

std::string Session::text(std::span<const int32_t> tokens) const {
  const State& s = *state_;
  const auto& ends = s.options.eos_token_ids;
  StopStrings stops(s.options.stop);
  StreamDecoder decoder(s.engine.parts->tokenizer);
  std::string text;
  for (const int32_t id : tokens) {
    if (!s.options.ignore_eos && std::find(ends.begin(), ends.end(), id) != ends.end()) break;
    text += stops.push(decoder.push(id));
    if (stops.stopped()) return text;
  }
  text += stops.push(decoder.finish());
  return text + stops.finish();
}

int64_t Session::cache_bytes() const { return state_->cache.state().bytes; }

}  // namespace fovea
