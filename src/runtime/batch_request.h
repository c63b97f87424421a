// A request of a batch with all that belongs to it; private to batch_engine.cc.
#pragma once

#include <optional>

#include "runtime/answer_text.h"
#include "runtime/batch_engine.h"
#include "runtime/runner.h"
#include "runtime/sampler.h"
#include "runtime/vision_cache.h"

namespace fovea {

// A picture's place in a prompt.
struct PlacedPicture {
  uint64_t number = 0;
  int64_t first_token = 0, tokens = 0;
  Embeddings embeddings;  // once they are computed
};

// The pictures of a prompt, whose patches go when they are encoded; of all its choices.
struct ShownPictures {
  std::vector<Picture> pictures;
  std::exception_ptr failure;  // of one whose patches are gone
};

struct BatchRequest {
  BatchRequest(RequestId id_, const EngineState& state, const Prompt& prompt, AnswerChoice choice)
      : id(id_),
        options(std::move(choice.options)),
        callbacks(std::move(choice.callbacks)),
        sequence(prompt),
        sampler(options.sampling),
        text(state.parts->tokenizer, options.stop, callbacks.on_text) {
    answer.guard = guard_report(state);
    answer.finish_reason = "length";
    answer.timings.load_s = state.load_seconds;
    answer.timings.preprocess_s = prompt.preprocess_seconds;
    answer.timings.prompt_tokens = sequence.size();
  }

  RequestId id;
  GenerationOptions options;
  RequestCallbacks callbacks;
  Sequence sequence;
  Sampler sampler;
  AnswerText text;
  std::shared_ptr<ShownPictures> shown;
  std::vector<PlacedPicture> pictures;  // in their order
  Answer answer;
  std::exception_ptr failure;
  bool started = false;  // some of its rows were computed
  Stopwatch since_arrival, since_first_token;
};

// The places of a prompt's pictures, numbered by `cache`; and the tokens as the scheduler sees them.
std::vector<PlacedPicture> place_pictures(const Prompt& prompt, const ModelConfig& config, VisionCache& cache,
                                          uint64_t cache_space, Digest (*digest)(const Picture&));
std::vector<uint64_t> identities_of(const Prompt& prompt, std::span<const PlacedPicture> pictures);

}  // namespace fovea
