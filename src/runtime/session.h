// One prompt fed to the model once and then continued in several ways: along given tokens (teacher forcing)
// and freely. Continuations share the cache of the prompt; every number equals what a fresh run would give,
// bit for bit.
#pragma once

#include <span>

#include "runtime/engine.h"

namespace fovea {

class Session {
 public:
  // `vision` is what engine.encode(prompt) gave, possibly of another engine with the same vision tower.
  // Sampling is greedy with the repetition penalty of `options`. Engine and vision are borrowed. Holds the KV
  // blocks of prompt and answer, as they are used. An engine with a guard counts, and escalates, here too.
  Session(const Engine& engine, const Prompt& prompt, const Buffer<float>& vision,
          const GenerationOptions& options, const Observer& observer);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  // Row i, of `vocab` logits: the distribution of the token behind prompt + tokens[0, i), for i <
  // tokens.size() (the last token is only a target). Feeds the prompt first when it was not fed.
  Buffer<float> forced_logits(std::span<const int32_t> tokens);

  // Which token greedy decoding takes behind prompt + tokens, from these logits.
  int32_t choose(std::span<const float> logits, std::span<const int32_t> tokens) const;

  // Whether an answer that ends with these tokens is over: an end token, a stop string or the length limit.
  bool ended(std::span<const int32_t> tokens) const;

  // Continues prompt + tokens greedily to the end; calls `on_logits`, if any, with the logits of every new
  // token.
  std::vector<int32_t> continue_greedily(std::vector<int32_t> tokens,
                                         const std::function<void(std::span<const float>)>& on_logits);

  // The text of an answer, without its end token and stop string; and how it ended, "stop" or "length".
  std::string text(std::span<const int32_t> tokens) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fovea
