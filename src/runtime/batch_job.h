// What the clients inside runtime ask of the batch engine: a request, and more of it than others may. Private
// to runtime.
#pragma once

#include <limits>
#include <optional>

#include "runtime/batch_engine.h"

namespace fovea {

struct BatchJob {
  Prompt prompt;
  GenerationOptions options;
  RequestCallbacks callbacks = {};
  // So many tokens are drafted at once; nothing: as many as pay.
  std::optional<int64_t> proposals = 0;
  // The embeddings of the prompt's pictures, which has none itself; borrowed.
  const Buffer<float>* vision = nullptr;
  // The last tokens of the prompt are the beginning of the answer's text.
  int64_t answered = 0;
  // As in Request: 0 for one whose rows are all wanted.
  int64_t sharable = std::numeric_limits<int64_t>::max();
  // In place of an answer: the logits of the prompt's rows from `measured_from` on, [rows, vocab], borrowed.
  int64_t measured_from = 0;
  float* measured_to = nullptr;
  LayerObserver* layers = nullptr;
  // In place of the sampler, given logits and all ids so far.
  std::function<int32_t(std::span<const float>, const std::vector<int32_t>&)> choose = {};
};

// The prompt without its pictures: a job's.
Prompt words_of(const Prompt& prompt);

}  // namespace fovea
