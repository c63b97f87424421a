#include "audit/memory_plan.h"

#include <algorithm>

#include "attention/problem.h"
#include "model/kv_cache.h"
#include "model/quantized_matrix.h"
#include "model/weight_nodes.h"

namespace fovea {

namespace {

bool keeps_scores(AttentionKind kind) {
  return kind == AttentionKind::eager || kind == AttentionKind::reference;
}

int64_t bytes_per_score(const TowerPrecision& layer) {
  if (!keeps_scores(layer.kind)) return 0;
  const AttentionPrecision& a = layer.attention;
  const size_t product = a.scale == ScalePlacement::fused ? 0 : bytes_of(a.scores);  // never stored
  return static_cast<int64_t>(product + bytes_of(a.scaled) + bytes_of(a.probabilities));
}

int64_t scratch(const TowerPrecision& layer, int64_t queries, int64_t keys, int64_t heads_q, int64_t heads_kv,
                int64_t head_dim, bool causal) {
  AttentionProblem problem;
  problem.q = {nullptr, DType::f32, queries, heads_q, head_dim, heads_q * head_dim};
  problem.k = problem.v = {nullptr, DType::f32, keys, heads_kv, head_dim, heads_kv * head_dim};
  problem.causal = causal;
  problem.precision = layer.attention;
  return attention_scratch_bytes(layer.kind, problem);
}

int64_t weight_bytes(const Checkpoint& checkpoint, const Precision& precision) {
  int64_t bytes = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (is_unread(tensor, checkpoint, precision.text.tower.head)) continue;
    const auto [type, quantization] = tensor.shape.size() < 2
                                          ? WantedWeight{DType::f32, Quantization::none}
                                          : wanted_weight(tensor.name, precision, checkpoint);
    if (quantization != Quantization::none) {
      bytes += QuantizedMatrix::bytes_for(tensor.shape[0], tensor.elements() / tensor.shape[0], quantization);
    } else {
      // f32 is multiplied as it is stored.
      bytes += type == DType::f32 ? tensor.bytes() : tensor.elements() * static_cast<int64_t>(bytes_of(type));
    }
  }
  return bytes;
}

void add_text(const Checkpoint& checkpoint, const Precision& precision, const PromptShape& shape,
              MemoryPlan& plan) {
  const TextConfig& c = checkpoint.config().text;
  const int64_t rows = shape.prefill_chunk > 0 ? std::min(shape.prefill_chunk, shape.tokens) : shape.tokens;
  const int64_t kv_width = c.num_key_value_heads * c.head_dim;
  for (const TowerPrecision& layer : precision.text.layers) {
    plan.attention = std::max(plan.attention, scratch(layer, rows, shape.tokens, c.num_attention_heads,
                                                      c.num_key_value_heads, c.head_dim, true));
    plan.scores += bytes_per_score(layer) * c.num_attention_heads * shape.tokens * shape.tokens;
  }
  plan.kv_cache = KvCache::state_for(c, shape.tokens + shape.answer_tokens, precision.text.layers).bytes;
  const int64_t q_width = c.num_attention_heads * c.head_dim;
  plan.activations = rows * int64_t{sizeof(float)} *
                     (2 * c.hidden_size + 2 * q_width + 2 * kv_width + 2 * c.intermediate_size);
}

void add_vision(const Checkpoint& checkpoint, const Precision& precision, const PromptShape& shape,
                MemoryPlan& plan) {
  if (shape.largest_patches == 0) return;
  const VisionConfig& c = checkpoint.config().vision;
  const auto& full = c.fullatt_block_indexes;
  const int64_t window =
      std::min(shape.largest_patches, (c.window_size / c.patch_size) * (c.window_size / c.patch_size));
  int64_t block = 0;
  for (const TowerPrecision& layer : precision.vision.layers) {
    const bool is_full = std::find(full.begin(), full.end(), block++) != full.end();
    const int64_t keys = is_full ? shape.largest_patches : window;
    plan.scores += bytes_per_score(layer) * c.num_heads * shape.largest_patches * keys;
    plan.attention =
        std::max(plan.attention, scratch(layer, keys, keys, c.num_heads, c.num_heads, c.head_dim(), false));
  }
}

}  // namespace

MemoryPlan memory_plan(const Checkpoint& checkpoint, const Precision& precision, const PromptShape& shape) {
  MemoryPlan plan;
  plan.weights = weight_bytes(checkpoint, precision);
  add_text(checkpoint, precision, shape, plan);
  add_vision(checkpoint, precision, shape, plan);
  return plan;
}

}  // namespace fovea
