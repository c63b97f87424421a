#include "model/decoder.h"

#include <algorithm>
#include <cmath>

#include "model/elementwise.h"
#include "model/linear.h"
#include "model/non_finite.h"

namespace fovea {

namespace {

struct Layer {
  TowerPrecision precision;
  size_t rope_variant = 0;
  std::vector<float> input_norm, post_norm;
  Linear q, k, v, o, gate, up, down;
};

Layer load_layer(const WeightStore& store, int64_t index, const TowerPrecision& precision) {
  const std::string name = fmt::format("model.language_model.layers.{}.", index);
  const auto linear = [&](const char* part, DType input, DType output) {
    return Linear(store, name + part, {precision.weights, input, output});
  };
  Layer layer;
  layer.precision = precision;
  layer.input_norm = store.vector(name + "input_layernorm.weight", precision.norm);
  layer.post_norm = store.vector(name + "post_attention_layernorm.weight", precision.norm);
  layer.q = linear("self_attn.q_proj", precision.norm, precision.qkv);
  layer.k = linear("self_attn.k_proj", precision.norm, precision.qkv);
  layer.v = linear("self_attn.v_proj", precision.norm, precision.qkv);
  layer.o = linear("self_attn.o_proj", precision.attention.output, precision.linear);
  layer.gate = linear("mlp.gate_proj", precision.norm, precision.linear);
  layer.up = linear("mlp.up_proj", precision.norm, precision.linear);
  layer.down = linear("mlp.down_proj", precision.mlp, precision.down_proj);
  return layer;
}

// The distinct rotary tables of a forward call: layers with the same nodes share one.
struct RopeVariant {
  DType angles, tables;
  std::vector<double> inverse_frequency;
};

// Activations of one forward call, sized once and reused by every layer.
struct Scratch {
  Scratch(const TextConfig& c, int64_t rows)
      : normed(rows * c.hidden_size),
        qkv(rows * (c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim),
        attended(rows * c.num_attention_heads * c.head_dim),
        gate(rows * c.intermediate_size),
        up(rows * c.intermediate_size) {}
  Buffer<float> normed, qkv, attended, gate, up;
};

}  // namespace

struct Decoder::State {
  TextConfig config;
  TowerPrecision precision;  // of what belongs to no layer
  Linear embedding, head;
  std::vector<float> final_norm;
  std::vector<Layer> layers;
  std::vector<RopeVariant> rope_variants;
  std::vector<size_t> axis_of_pair;  // which of t, h, w leads rotary pair i (mrope_section)

  size_t rope_variant_of(const TowerPrecision& layer);
  RopeTable rope_table(const RopeVariant& variant, const std::array<std::span<const int64_t>, 3>& positions,
                       int64_t count) const;
  void attend_layer(int64_t index, const RopeTable& rope, float* hidden, int64_t count, KvCache& cache,
                    Scratch& scratch, LayerObserver* observer) const;
  void mlp_layer(int64_t index, float* hidden, int64_t count, Scratch& scratch) const;
};

size_t Decoder::State::rope_variant_of(const TowerPrecision& layer) {
  for (size_t i = 0; i < rope_variants.size(); ++i) {
    if (rope_variants[i].angles == layer.rope_angles && rope_variants[i].tables == layer.rope_tables)
      return i;
  }
  rope_variants.push_back({layer.rope_angles, layer.rope_tables,
                           inverse_frequencies(config.rope_theta, config.head_dim, layer.rope_angles)});
  return rope_variants.size() - 1;
}

Decoder::Decoder(const WeightStore& store, const LayeredPrecision& text, DType logits)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.config = store.checkpoint().config().text;
  s.precision = text.tower;
  FOVEA_CHECK(static_cast<int64_t>(text.layers.size()) == s.config.num_hidden_layers);
  const std::string embedding = "model.language_model.embed_tokens.weight";
  const DType weights = text.tower.weights;
  s.embedding = Linear::of_weight(store, embedding, {weights, weights, weights});
  s.head = Linear::of_weight(store, s.config.tie_word_embeddings ? embedding : "lm_head.weight",
                             {weights, text.tower.norm, logits});
  s.final_norm = store.vector("model.language_model.norm.weight", text.tower.norm);
  for (int64_t i = 0; i < s.config.num_hidden_layers; ++i) {
    s.layers.push_back(load_layer(store, i, text.layers[static_cast<size_t>(i)]));
    s.layers.back().rope_variant = s.rope_variant_of(s.layers.back().precision);
  }
  for (size_t axis = 0; axis < s.config.mrope_section.size(); ++axis) {
    s.axis_of_pair.insert(s.axis_of_pair.end(), static_cast<size_t>(s.config.mrope_section[axis]), axis);
  }
}

Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;
Decoder::~Decoder() = default;

const TextConfig& Decoder::config() const { return state_->config; }

void Decoder::embed(std::span<const int32_t> ids, float* out) const {
  const int64_t width = state_->config.hidden_size;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= state_->config.vocab_size) {
      throw Error(
          ErrorKind::invalid_argument,
          fmt::format("token id {} is outside the model's vocabulary of {}", ids[i],
                      state_->config.vocab_size),
          "the tokenizer does not belong to this checkpoint: use the tokenizer.json it was published with");
    }
    state_->embedding.row(ids[i], out + static_cast<int64_t>(i) * width);
  }
  round_to(out, static_cast<int64_t>(ids.size()) * width, state_->precision.residual);
}

RopeTable Decoder::State::rope_table(const RopeVariant& variant,
                                     const std::array<std::span<const int64_t>, 3>& positions,
                                     int64_t count) const {
  const std::vector<double>& inverse = variant.inverse_frequency;
  const auto pairs = static_cast<int64_t>(inverse.size());
  const auto size = static_cast<size_t>(count * pairs);
  RopeTable table{std::vector<float>(size), std::vector<float>(size), pairs};
  std::vector<double> angles(inverse.size());
  for (int64_t r = 0; r < count; ++r) {
    for (size_t i = 0; i < angles.size(); ++i) {
      angles[i] = rope_angle(positions[axis_of_pair[i]][static_cast<size_t>(r)], inverse[i], variant.angles);
    }
    set_rope_row(table, r, angles, variant.tables);
  }
  return table;
}

void Decoder::State::attend_layer(int64_t index, const RopeTable& rope, float* hidden, int64_t count,
                                  KvCache& cache, Scratch& scratch, LayerObserver* observer) const {
  const Layer& layer = layers[static_cast<size_t>(index)];
  const TowerPrecision& nodes = layer.precision;
  const int64_t head_dim = config.head_dim, heads_q = config.num_attention_heads,
                heads_kv = config.num_key_value_heads;
  const int64_t q_width = heads_q * head_dim, kv_width = heads_kv * head_dim, stride = q_width + 2 * kv_width;
  float *q = scratch.qkv.data(), *k = q + q_width, *v = k + kv_width;
  rms_norm(hidden, layer.input_norm, static_cast<float>(config.rms_norm_eps), nodes.norm,
           scratch.normed.data(), count, nodes.norm_statistics);
  layer.q.apply(scratch.normed.data(), count, q, stride);
  layer.k.apply(scratch.normed.data(), count, k, stride);
  layer.v.apply(scratch.normed.data(), count, v, stride);
  apply_rope(q, count, heads_q, stride, rope, nodes.rope_steps, nodes.q);
  apply_rope(k, count, heads_kv, stride, rope, nodes.rope_steps, nodes.k);
  if (nodes.v != nodes.qkv) round_columns(v, count, kv_width, stride, nodes.v);
  cache.store(index, k, v, stride, count);

  AttentionProblem problem;
  problem.q = {q, DType::f32, count, heads_q, head_dim, stride};
  problem.k = cache.keys(index, cache.tokens() + count);
  problem.v = cache.values(index, cache.tokens() + count);
  problem.out = scratch.attended.data();
  problem.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  problem.causal = true;
  problem.precision = nodes.attention;
  attend(nodes.kind, problem);
  if (observer) observer->attended(ModelPart::text, index, problem);

  layer.o.apply(scratch.attended.data(), count, scratch.normed.data());
  const int64_t size = count * config.hidden_size;
  add_residual(hidden, scratch.normed.data(), size, nodes.residual);
  if (!all_finite(hidden, size)) {
    refuse_attention({"text", "decoder layer", index}, nodes, {problem, stride, scratch.normed.data(), size});
  }
}

void Decoder::State::mlp_layer(int64_t index, float* hidden, int64_t count, Scratch& scratch) const {
  const Layer& layer = layers[static_cast<size_t>(index)];
  const TowerPrecision& nodes = layer.precision;
  const int64_t size = count * config.hidden_size, inner = count * config.intermediate_size;
  float* normed = scratch.normed.data();
  rms_norm(hidden, layer.post_norm, static_cast<float>(config.rms_norm_eps), nodes.norm, normed, count,
           nodes.norm_statistics);
  layer.gate.apply(normed, count, scratch.gate.data());
  layer.up.apply(normed, count, scratch.up.data());
  silu_times(scratch.gate.data(), scratch.up.data(), inner, nodes.mlp);
  layer.down.apply(scratch.gate.data(), count, normed);
  add_residual(hidden, normed, size, nodes.residual);
  if (!all_finite(hidden, size)) {
    refuse_mlp({"text", "decoder layer", index}, nodes,
               {scratch.gate.data(), scratch.up.data(), normed, inner, size});
  }
}

void Decoder::forward(float* hidden, int64_t count, const std::array<std::span<const int64_t>, 3>& positions,
                      KvCache& cache, const ForwardHooks& hooks) const {
  const State& s = *state_;
  std::vector<RopeTable> ropes;
  for (const RopeVariant& variant : s.rope_variants) ropes.push_back(s.rope_table(variant, positions, count));
  Scratch scratch(s.config, count);
  require_finite(hidden, count * s.config.hidden_size, "the embeddings");
  for (int64_t i = 0; i < s.config.num_hidden_layers; ++i) {
    s.attend_layer(i, ropes[s.layers[static_cast<size_t>(i)].rope_variant], hidden, count, cache, scratch,
                   hooks.layers);
    s.mlp_layer(i, hidden, count, scratch);
    if (hooks.layers) hooks.layers->finished(ModelPart::text, i, hidden, count, s.config.hidden_size);
    if (hooks.after_layer) hooks.after_layer();
  }
  cache.commit(count);
}

void Decoder::logits(const float* hidden, int64_t rows, float* out) const {
  const State& s = *state_;
  Buffer<float> normed(rows * s.config.hidden_size);
  rms_norm(hidden, s.final_norm, static_cast<float>(s.config.rms_norm_eps), s.precision.norm, normed.data(),
           rows, s.precision.norm_statistics);
  s.head.apply(normed.data(), rows, out);
  require_finite(out, rows * s.config.vocab_size, "the output head, logits");
}

}  // namespace fovea
