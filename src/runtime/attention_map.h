// Where the decoder looked in the pictures while it chose the tokens of an answer.
#pragma once

#include <optional>
#include <vector>

#include "base/buffer.h"
#include "model/layer_observer.h"
#include "runtime/engine.h"
#include "runtime/picture_tokens.h"

namespace fovea {

// Softmax weights, the mean of some of an answer's tokens. What is missing to 1 went to the text.
struct AttentionMap {
  std::vector<PictureTokens> pictures;
  int64_t layers = 0, heads = 0, picture_tokens = 0;  // of all pictures
  int64_t first_token = 0, tokens = 0;                // of the answer; tokens: those that were seen
  Buffer<float> weights;                              // [layers, heads, picture_tokens]

  // The mean over heads, and over layers, of all or of one: [picture_tokens].
  std::vector<float> mean(std::optional<int64_t> layer, std::optional<int64_t> head) const;
};

// Sees the answer's tokens [first, first + count) as they are computed: an answer's token 0 is chosen by the
// prompt's last row, each other by the row of the token before it. In f64 from the queries and keys that
// attention was given (attention/attention_weights.h), whatever its implementation rounds on its way. It
// takes [layers, heads, picture_tokens] floats and, for each token, about as long as a decode step of
// attention in scalar code. For one request; not with a model split over ranks or tensor parallelism, where a
// rank sees its own part alone.
class AttentionMapper : public LayerObserver {
 public:
  // Throws Error(invalid_argument) for a prompt without pictures.
  AttentionMapper(const Engine& engine, const Prompt& prompt, int64_t first, int64_t count);

  void attended(ModelPart part, int64_t layer, const AttentionProblem& problem) override;
  void finished(ModelPart, int64_t, const float*, int64_t, int64_t) override {}

  // Of the tokens seen so far.
  AttentionMap map() const;

 private:
  void add(const AttentionProblem& problem, int64_t query, int64_t layer);

  int64_t prompt_tokens_, end_;
  AttentionMap map_;
  std::vector<int64_t> next_;  // of each layer: the answer's token that it has not seen yet
  std::vector<float> row_;     // of the query under way, [heads, keys]
};

}  // namespace fovea
