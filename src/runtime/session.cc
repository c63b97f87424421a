#include "runtime/session.h"

#include <algorithm>
#include <utility>

#include "runtime/over_ranks.h"
#include "runtime/sampler.h"
#include "runtime/solo_run.h"
#include "runtime/stop_strings.h"

namespace fovea {

namespace {

// Requests of one batch engine, which finds the beginning that they have in common.
class SoloContinuation final : public Continuation {
 public:
  SoloContinuation(const EngineState& engine, const Prompt& prompt, const Buffer<float>& vision,
                   const GenerationOptions& options, const Observer& observer, int64_t capacity)
      : words_(words_of(prompt)),
        vision_(vision),
        options_(options),
        observer_(observer),
        capacity_(capacity),
        // With a block for the copy of the one in which continuations part.
        run_(engine, capacity + kPageTokens, options.prefill_chunk, observer) {
    options_.sampling.greedy = true;
  }

  void forced_logits(std::span<const int32_t> tokens, float* logits) override {
    BatchJob job = job_behind(tokens.first(tokens.size() - 1));
    job.measured_from = job.sharable = std::ssize(words_.ids) - 1;
    job.measured_to = logits;
    run_.run(std::move(job));
  }

  std::vector<int32_t> go_on(std::vector<int32_t> tokens, const Choose& choose, const Ended& ended) override {
    if (ended(tokens)) return tokens;
    BatchJob job = job_behind(tokens);
    job.answered = std::ssize(tokens);
    job.options.max_new_tokens = capacity_ - std::ssize(job.prompt.ids);
    job.choose = [&, size = words_.ids.size()](std::span<const float> logits,
                                               const std::vector<int32_t>& ids) {
      return choose(logits, std::span(ids).subspan(size));
    };
    const Answer answer = run_.run(std::move(job));
    tokens.insert(tokens.end(), answer.token_ids.begin(), answer.token_ids.end());
    return tokens;
  }

 private:
  BatchJob job_behind(std::span<const int32_t> tokens) const {
    BatchJob job{words_of(words_), options_};
    append(job.prompt, tokens);
    job.vision = &vision_;
    job.layers = observer_.layers;
    return job;
  }

  Prompt words_;
  const Buffer<float>& vision_;
  GenerationOptions options_;
  Observer observer_;
  int64_t capacity_;
  SoloRun run_;
};

}  // namespace

struct Session::State {
  const EngineState& engine;
  GenerationOptions options;
  std::vector<int32_t> prompt;
  int64_t capacity, vocab;
  std::unique_ptr<Continuation> continuation;

  State(const EngineState& state, const Prompt& asked, const GenerationOptions& generation)
      : engine(state),
        options(generation),
        prompt(asked.ids),
        capacity(std::ssize(prompt) + std::min(generation.max_new_tokens,
                                               state.parts->checkpoint.config().text.max_position_embeddings -
                                                   std::ssize(prompt))),
        vocab(state.parts->checkpoint.config().text.vocab_size) {
    options.sampling.greedy = true;
  }
};

Session::Session(const Engine& engine, const Prompt& prompt, const Buffer<float>& vision,
                 const GenerationOptions& options, const Observer& observer)
    : state_(std::make_unique<State>(*engine.state_, prompt, options)) {
  State& s = *state_;
  if (s.engine.pipeline) {
    s.continuation = continuation_over_ranks(s.engine, prompt, vision, options, observer, s.capacity);
  } else {
    s.continuation =
        std::make_unique<SoloContinuation>(s.engine, prompt, vision, options, observer, s.capacity);
  }
}

Session::~Session() = default;

Buffer<float> Session::forced_logits(std::span<const int32_t> tokens) {
  Buffer<float> logits(std::ssize(tokens) * state_->vocab);
  if (!tokens.empty()) state_->continuation->forced_logits(tokens, logits.data());
  return logits;
}

int32_t Session::choose(std::span<const float> logits, std::span<const int32_t> tokens) const {
  std::vector<int32_t> history = state_->prompt;
  history.insert(history.end(), tokens.begin(), tokens.end());
  return Sampler(state_->options.sampling).next(logits, history);
}

bool Session::ended(std::span<const int32_t> tokens) const {
  const State& s = *state_;
  const auto count = static_cast<int64_t>(tokens.size());
  if (std::ssize(s.prompt) + count >= s.capacity) return true;
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
  const auto choose_one = [&](std::span<const float> logits, std::span<const int32_t> behind) {
    if (on_logits) on_logits(logits);
    return choose(logits, behind);
  };
  return state_->continuation->go_on(std::move(tokens), choose_one,
                                     [this](std::span<const int32_t> all) { return ended(all); });
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

}  // namespace fovea
