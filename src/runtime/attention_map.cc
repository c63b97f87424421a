#include "runtime/attention_map.h"

#include <algorithm>

#include "attention/attention_weights.h"
#include "base/error.h"

namespace fovea {

std::vector<float> AttentionMap::mean(std::optional<int64_t> layer, std::optional<int64_t> head) const {
  std::vector<double> sums(static_cast<size_t>(picture_tokens));
  int64_t rows = 0;
  for (int64_t l = layer.value_or(0); l < (layer ? *layer + 1 : layers); ++l) {
    for (int64_t h = head.value_or(0); h < (head ? *head + 1 : heads); ++h, ++rows) {
      const float* row = weights.data() + (l * heads + h) * picture_tokens;
      std::transform(sums.begin(), sums.end(), row, sums.begin(),
                     [](double sum, float w) { return sum + double{w}; });
    }
  }
  std::vector<float> means(sums.size());
  std::transform(sums.begin(), sums.end(), means.begin(),
                 [rows](double sum) { return static_cast<float>(sum / static_cast<double>(rows)); });
  return means;
}

AttentionMapper::AttentionMapper(const Engine& engine, const Prompt& prompt, int64_t first, int64_t count)
    : prompt_tokens_(std::ssize(prompt.ids)), end_(first + count) {
  const ModelConfig& config = engine.checkpoint().config();
  if (prompt.pictures.empty()) {
    throw Error(ErrorKind::invalid_argument,
                "an attention map shows where pictures were looked at, and there is none",
                "give a picture with --image, or leave out --attention-map");
  }
  map_.pictures = picture_tokens(prompt, config);
  map_.layers = config.text.num_hidden_layers;
  map_.heads = config.text.num_attention_heads;
  map_.first_token = first;
  for (const PictureTokens& picture : map_.pictures) map_.picture_tokens += picture.grid.patches();
  map_.weights.resize(map_.layers * map_.heads * map_.picture_tokens);
  std::fill_n(map_.weights.data(), map_.weights.size(), 0.f);
  next_.assign(static_cast<size_t>(map_.layers), first);
}

// A row that is computed again, without a KV cache, is the one that was seen.
void AttentionMapper::attended(ModelPart part, int64_t layer, const AttentionProblem& problem) {
  if (part != ModelPart::text) return;
  int64_t& next = next_[static_cast<size_t>(layer)];
  const int64_t first_row = problem.k.tokens - problem.q.tokens;  // their places in the sequence
  for (int64_t row = std::max(first_row, next + prompt_tokens_ - 1); row < problem.k.tokens && next < end_;
       ++row) {
    if (row - (prompt_tokens_ - 1) != next) return;
    add(problem, row - first_row, layer);
    ++next;
  }
}

void AttentionMapper::add(const AttentionProblem& problem, int64_t query, int64_t layer) {
  const int64_t keys = problem.k.tokens;
  row_.resize(static_cast<size_t>(map_.heads * keys));
  attention_weights(problem, query, row_);
  float* to = map_.weights.data() + layer * map_.heads * map_.picture_tokens;
  for (int64_t head = 0; head < map_.heads; ++head) {
    for (const PictureTokens& picture : map_.pictures) {
      const float* from = row_.data() + head * keys + picture.first_token;
      for (int64_t i = 0; i < picture.grid.patches(); ++i) *to++ += from[i];
    }
  }
}

AttentionMap AttentionMapper::map() const {
  AttentionMap map = {map_.pictures, map_.layers, map_.heads, map_.picture_tokens, map_.first_token, 0, {}};
  map.tokens = *std::min_element(next_.begin(), next_.end()) - map.first_token;
  map.weights.resize(map_.weights.size());
  const float share = map.tokens > 0 ? 1 / static_cast<float>(map.tokens) : 0;
  std::transform(map_.weights.data(), map_.weights.data() + map_.weights.size(), map.weights.data(),
                 [share](float sum) { return sum * share; });
  return map;
}

}  // namespace fovea
