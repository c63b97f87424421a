// The next token from logits, as transformers' generate() processes them; what transformers does not have
// (biases, penalties of presence and frequency), as vLLM does.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/splitmix64.h"
#include "runtime/logit_blocks.h"
#include "runtime/token_draw.h"

namespace fovea {

class Grammar;
class GrammarMatcher;

struct LogitBias {
  int32_t id = 0;
  float added = 0;
};

struct SamplingOptions {
  bool greedy = true;
  double temperature = 1.0;
  int64_t top_k = 50;  // 0: off
  double top_p = 1.0;
  double repetition_penalty = 1.0;  // over prompt and answer; greedy too
  uint64_t seed = 0;
  int64_t no_repeat_ngram_size = 0;  // over prompt and answer; greedy too; 0: off
  double min_p = 0;                  // behind top_p: only ids at least so likely, relative to the likeliest
  // Taken from the logits of ids that the answer has, once and for each time; not of the prompt's. Greedy
  // too.
  double presence_penalty = 0, frequency_penalty = 0;
  std::vector<LogitBias> logit_bias = {};  // before all else; greedy too; each id once, all below vocab
  // What the answer must follow, and the ids that may end it once it is whole; set by constrain()
  // (runtime/constraint.h). Tokens that do not fit are out before anything else is done to the logits, as in
  // vLLM: nothing brings them back.
  std::shared_ptr<const Grammar> grammar = nullptr;
  std::vector<int32_t> end_ids = {};
};

// One request's: it remembers which ids were seen and where its random numbers stand, so that a request's
// tokens depend on nothing but its own logits, ids and seed. For one thread at a time.
class Sampler {
 public:
  // Throws Error(invalid_argument) naming the option that is out of range.
  explicit Sampler(const SamplingOptions& options);
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;
  ~Sampler();

  // logits: [vocab], finite or -inf, as the model gave them; they stay so. `history`: every id so far, prompt
  // included, all below vocab; that of the first call is the prompt. The caller owes that it begins with the
  // history of the call before; tokens that were proposed and rejected must never have been in it. Only what
  // is new is read, unless no_repeat_ngram_size wants all of it. Ties go to the smallest id. Each call that
  // is not greedy takes one random number. Allocates in its first calls, then no more (see TokenDraw for one
  // exception; penalties of presence and frequency, for each new id, are the other). Throws
  // Error(invalid_argument) when no_repeat_ngram_size leaves no token. With a grammar what follows the prompt
  // is the answer.
  int32_t next(std::span<const float> logits, std::span<const int32_t> history);

 private:
  double uniform();
  void learn(std::span<const int32_t> history, size_t vocab);
  void forbid_repeats(std::span<const int32_t> history);
  bool counts_answer() const { return options_.presence_penalty != 0 || options_.frequency_penalty != 0; }
  std::span<const float> with_changes(std::span<const float> logits);
  void follow(std::span<const int32_t> answer);
  void forbid_misfits();
  [[noreturn]] void refuse_to_go_on() const;

  SamplingOptions options_;
  SplitMix64 random_;
  LogitBlocks blocks_;
  TokenDraw draw_;
  std::vector<uint64_t> seen_, forbidden_;          // sets of ids, empty while no option wants them
  std::unordered_map<int32_t, int64_t> in_answer_;  // how often, if somebody wants to know
  std::vector<float> changed_;                      // a row with what is changed id by id
  std::optional<size_t> prompt_;                    // its length, from the first call on
  size_t known_ = 0;                                // ids of the history that were learnt
  int32_t last_known_ = 0;
  std::unique_ptr<GrammarMatcher> matcher_;  // null without a grammar
  bool answering_ = false, ended_ = false;
};

}  // namespace fovea
