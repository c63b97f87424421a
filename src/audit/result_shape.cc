#include "audit/result_shape.h"

#include <cmath>

#include "base/error.h"

namespace fovea {

namespace {

// Far beyond any audit, and so small that sums over questions and squares of it stay in 64 bits.
constexpr int64_t kMostRows = int64_t{1} << 40, kMostPatches = int64_t{1} << 24;

void require(bool holds, const std::string& what) {
  if (!holds) throw Error(ErrorKind::corrupt, what, "");
}

void require_count(int64_t count, int64_t most, const char* name) {
  require(count >= 0 && count <= most, fmt::format("{} is {}, not between 0 and {}", name, count, most));
}

// A sum of squares or of times; NaN only where that is an answer.
void require_sum(double sum, const char* name) {
  require(sum >= 0 && std::isfinite(sum), fmt::format("{} is {}", name, sum));
}

void check_head(const HeadSums& head) {
  require_count(head.rows, kMostRows, "rows of a head");
  require_count(head.at_risk, head.rows, "rows at risk");
  require_count(head.overflows, head.rows, "overflows");
  require_count(head.measured, head.rows, "rows measured");
}

void check_layer(const LayerSums& layer, const ResultShape& shape) {
  const bool vision = layer.part == ModelPart::vision;
  const int64_t layers = vision ? shape.vision_blocks : shape.text_layers;
  const int64_t heads = vision ? shape.vision_heads : shape.text_heads;
  require(
      layer.layer >= 0 && layer.layer < layers,
      fmt::format("{} {} is there, of {}", vision ? "vision block" : "decoder layer", layer.layer, layers));
  const auto found = std::ssize(layer.heads);
  require(found == 0 || found == heads,
          fmt::format("{} {} has {} heads, not {}", vision ? "vision block" : "decoder layer", layer.layer,
                      found, heads));
  for (const HeadSums& head : layer.heads) check_head(head);
  for (const ErrorSum& sum :
       {layer.attention_all, layer.attention_answer, layer.hidden_all, layer.hidden_answer}) {
    require_sum(sum.difference, "the sum of squared differences");
    require_sum(sum.reference, "the sum of squares");
  }
}

}  // namespace

void check_question(const std::string& id, const ResultShape& shape) {
  require(shape.questions.count(id) > 0,
          fmt::format("there is no question \"{}\" in the suite", id.substr(0, 100)));
}

void check_facts(const ItemFacts& facts, const ResultShape& shape) {
  require_count(facts.context, shape.max_context, "context");
  require_count(facts.images, facts.context, "images");
  require_count(facts.largest_patches, kMostPatches, "patches of a picture");
}

void check_result(const ItemResult& result, const ResultShape& shape) {
  require_count(result.tokens, shape.max_new_tokens, "tokens of an answer");
  const auto compared = std::ssize(result.kl);
  require_count(compared, shape.max_new_tokens, "the number of KL values");
  for (const double kl : result.kl) require_sum(kl, "a KL");
  require_count(result.agreed, compared, "tokens agreed");
  if (result.first_divergence) {
    require(*result.first_divergence >= 0 && *result.first_divergence < compared,
            fmt::format("first_divergence is {}, of {} tokens", *result.first_divergence, compared));
  }
  require_sum(result.seconds, "seconds");
  require(std::ssize(result.layers) <= shape.vision_blocks + shape.text_layers, "there are too many layers");
  for (const LayerSums& layer : result.layers) check_layer(layer, shape);
}

}  // namespace fovea
