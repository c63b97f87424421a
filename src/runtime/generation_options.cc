// What may be asked of an answer, and what of it excludes what.
#include <fmt/ranges.h>

#include <utility>

#include "base/error.h"
#include "runtime/state.h"

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
const char* obstacle(const GenerationOptions& options, bool watched, const EngineOptions& engine) {
  if (engine.split) return "a model split over ranks";
  if (!options.use_kv_cache) return "a request without KV cache";
  if (!engine.tensor_parallel.whole()) return "tensor parallelism";
  if (engine.guard.mode != GuardMode::off) return "an engine with a guard";
  if (watched) return "a layer observer";
  return nullptr;
}

}  // namespace

std::optional<int64_t> proposals_for(const GenerationOptions& options, bool watched,
                                     const EngineOptions& engine) {
  const std::optional<int64_t> asked = options.prompt_lookup_num_tokens;
  FOVEA_CHECK(!options.propose || asked);
  if (asked && *asked < 0) {
    throw Error(ErrorKind::invalid_argument, fmt::format("prompt_lookup_num_tokens {} is negative", *asked),
                "give --prompt-lookup-num-tokens 0 (off) or more");
  }
  const char* what = obstacle(options, watched, engine);
  if (what == nullptr) return asked;
  if (asked.value_or(0) == 0) return 0;
  throw Error(ErrorKind::invalid_argument,
              fmt::format("prompt_lookup_num_tokens {} and {} exclude each other", *asked, what),
              "leave --prompt-lookup-num-tokens out, or the other");
}

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

}  // namespace fovea
