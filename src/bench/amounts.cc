#include "bench/amounts.h"

#include "kernels/quantized.h"
#include "model/kv_cache.h"

namespace fovea::bench {

namespace {

// Weights of one decoder layer: of its attention's projections and of its MLP.
double attention_weights(const TextConfig& c) {
  return static_cast<double>(c.hidden_size * c.head_dim *
                             (2 * c.num_attention_heads + 2 * c.num_key_value_heads));
}
double mlp_weights(const TextConfig& c) {
  return 3.0 * static_cast<double>(c.hidden_size * c.intermediate_size);
}

}  // namespace

double bytes_per_weight(Quantization quantization, DType type) {
  switch (quantization) {
    case Quantization::w8a8:
      return 1;
    case Quantization::int4:
      return 0.5 + 2.0 / kQuantGroup;
    case Quantization::none:
      break;
  }
  return static_cast<double>(bytes_of(type));
}

double projection_operations(const TextConfig& c) {
  return 2 * (attention_weights(c) + mlp_weights(c)) * static_cast<double>(c.num_hidden_layers);
}

double prefill_operations(const TextConfig& c, int64_t tokens) {
  const auto n = static_cast<double>(tokens);
  const double scores =
      n * (n + 1) / 2 * static_cast<double>(c.num_attention_heads * c.head_dim * c.num_hidden_layers);
  return n * projection_operations(c) + 4 * scores + 2.0 * static_cast<double>(c.vocab_size * c.hidden_size);
}

double decode_bytes(const TextConfig& c, const LayeredPrecision& text, int64_t depth) {
  double bytes = static_cast<double>(c.vocab_size * c.hidden_size) *
                 bytes_per_weight(text.tower.head, text.tower.weights);
  for (const TowerPrecision& layer : text.layers) {
    bytes += attention_weights(c) * bytes_per_weight(layer.quantization, layer.weights) +
             mlp_weights(c) * bytes_per_weight(layer.mlp_quantization, layer.weights) +
             static_cast<double>(depth * (KvCache::bytes_per_token(c, layer.k_cache) +
                                          KvCache::bytes_per_token(c, layer.v_cache)));
  }
  return bytes;
}

double vision_operations(const VisionConfig& c, const Grid& grid) {
  const auto n = static_cast<double>(grid.patches()), width = static_cast<double>(c.hidden_size);
  const double block = 4 * width * width + 3 * width * static_cast<double>(c.intermediate_size);
  const auto merged = static_cast<double>(c.spatial_merge_size * c.spatial_merge_size);
  const double merger =
      (merged * width) * (merged * width) + merged * width * static_cast<double>(c.out_hidden_size);
  const auto full = static_cast<double>(c.fullatt_block_indexes.size()),
             blocks = static_cast<double>(c.depth);
  const double side = static_cast<double>(c.window_size / c.patch_size);
  const double scores = n * (full * n + (blocks - full) * side * side) * width;
  return 2 * n * (static_cast<double>(c.patch_dim()) * width + blocks * block) + 2 * n / merged * merger +
         4 * scores;
}

}  // namespace fovea::bench
