#include "model/decoder.h"

#include <algorithm>
#include <cmath>

#include "model/elementwise.h"
#include "model/linear.h"

namespace fovea {

namespace {

struct Layer {
  std::vector<float> input_norm, post_norm;
  Linear q, k, v, o, gate, up, down;
};

Layer load_layer(const Checkpoint& checkpoint, int64_t index, const TowerPrecision& precision) {
  const std::string name = fmt::format("model.language_model.layers.{}.", index);
  const auto linear = [&](const char* part) { return Linear(checkpoint, name + part, precision.linear); };
  Layer layer;
  layer.input_norm = rounded_vector(checkpoint, name + "input_layernorm.weight", precision.norm);
  layer.post_norm = rounded_vector(checkpoint, name + "post_attention_layernorm.weight", precision.norm);
  layer.q = linear("self_attn.q_proj");
  layer.k = linear("self_attn.k_proj");
  layer.v = linear("self_attn.v_proj");
  layer.o = linear("self_attn.o_proj");
  layer.gate = linear("mlp.gate_proj");
  layer.up = linear("mlp.up_proj");
  layer.down = linear("mlp.down_proj");
  return layer;
}

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
  TowerPrecision precision;
  AttentionKind attention;
  Linear embedding, head;
  std::vector<float> final_norm;
  std::vector<Layer> layers;
  std::vector<float> inverse_frequency;
  std::vector<size_t> axis_of_pair;  // which of t, h, w leads rotary pair i (mrope_section)

  RopeTable rope_table(const std::array<std::span<const int64_t>, 3>& positions, int64_t count) const;
  void attend_layer(int64_t index, const RopeTable& rope, float* hidden, int64_t count, KvCache& cache,
                    Scratch& scratch, LayerObserver* observer) const;
  void mlp_layer(const Layer& layer, float* hidden, int64_t count, Scratch& scratch) const;
};

Decoder::Decoder(const Checkpoint& checkpoint, const Precision& precision, AttentionKind attention)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.config = checkpoint.config().text;
  s.precision = precision.text;
  s.attention = attention;
  const std::string embedding = "model.language_model.embed_tokens.weight";
  s.embedding = Linear::of_weight(checkpoint, embedding, precision.text.linear);
  s.head = Linear::of_weight(checkpoint, s.config.tie_word_embeddings ? embedding : "lm_head.weight",
                             precision.logits);
  s.final_norm = rounded_vector(checkpoint, "model.language_model.norm.weight", precision.text.norm);
  for (int64_t i = 0; i < s.config.num_hidden_layers; ++i)
    s.layers.push_back(load_layer(checkpoint, i, s.precision));
  s.inverse_frequency = inverse_frequencies(s.config.rope_theta, s.config.head_dim);
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

RopeTable Decoder::State::rope_table(const std::array<std::span<const int64_t>, 3>& positions,
                                     int64_t count) const {
  const auto pairs = static_cast<int64_t>(inverse_frequency.size());
  const auto size = static_cast<size_t>(count * pairs);
  RopeTable table{std::vector<float>(size), std::vector<float>(size), pairs};
  std::vector<float> angles(inverse_frequency.size());
  for (int64_t r = 0; r < count; ++r) {
    for (size_t i = 0; i < angles.size(); ++i) {
      angles[i] =
          static_cast<float>(positions[axis_of_pair[i]][static_cast<size_t>(r)]) * inverse_frequency[i];
    }
    set_rope_row(table, r, angles, precision.rope_tables);
  }
  return table;
}

void Decoder::State::attend_layer(int64_t index, const RopeTable& rope, float* hidden, int64_t count,
                                  KvCache& cache, Scratch& scratch, LayerObserver* observer) const {
  const Layer& layer = layers[static_cast<size_t>(index)];
  const int64_t head_dim = config.head_dim, heads_q = config.num_attention_heads,
                heads_kv = config.num_key_value_heads;
  const int64_t q_width = heads_q * head_dim, kv_width = heads_kv * head_dim, stride = q_width + 2 * kv_width;
  float *q = scratch.qkv.data(), *k = q + q_width, *v = k + kv_width;
  rms_norm(hidden, layer.input_norm, static_cast<float>(config.rms_norm_eps), precision.norm,
           scratch.normed.data(), count);
  layer.q.apply(scratch.normed.data(), count, q, stride);
  layer.k.apply(scratch.normed.data(), count, k, stride);
  layer.v.apply(scratch.normed.data(), count, v, stride);
  apply_rope(q, count, heads_q, stride, rope, precision.rope_steps, precision.rotated);
  apply_rope(k, count, heads_kv, stride, rope, precision.rope_steps, precision.rotated);
  cache.store(index, k, v, stride, count);

  AttentionProblem problem;
  problem.q = {q, DType::f32, count, heads_q, head_dim, stride};
  problem.k = cache.keys(index, cache.tokens() + count);
  problem.v = cache.values(index, cache.tokens() + count);
  problem.out = scratch.attended.data();
  problem.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  problem.causal = true;
  problem.precision = precision.attention;
  attend(attention, problem);
  if (observer) observer->attended(ModelPart::text, index, problem);

  layer.o.apply(scratch.attended.data(), count, scratch.normed.data());
  add_residual(hidden, scratch.normed.data(), count * config.hidden_size, precision.residual);
}

void Decoder::State::mlp_layer(const Layer& layer, float* hidden, int64_t count, Scratch& scratch) const {
  float* normed = scratch.normed.data();
  rms_norm(hidden, layer.post_norm, static_cast<float>(config.rms_norm_eps), precision.norm, normed, count);
  layer.gate.apply(normed, count, scratch.gate.data());
  layer.up.apply(normed, count, scratch.up.data());
  silu_times(scratch.gate.data(), scratch.up.data(), count * config.intermediate_size, precision.mlp);
  layer.down.apply(scratch.gate.data(), count, normed);
  add_residual(hidden, normed, count * config.hidden_size, precision.residual);
}

void Decoder::forward(float* hidden, int64_t count, const std::array<std::span<const int64_t>, 3>& positions,
                      KvCache& cache, LayerObserver* observer) const {
  const State& s = *state_;
  const RopeTable rope = s.rope_table(positions, count);
  Scratch scratch(s.config, count);
  for (int64_t i = 0; i < s.config.num_hidden_layers; ++i) {
    s.attend_layer(i, rope, hidden, count, cache, scratch, observer);
    s.mlp_layer(s.layers[static_cast<size_t>(i)], hidden, count, scratch);
    require_finite(hidden, count * s.config.hidden_size, fmt::format("decoder layer {}", i));
    if (observer) observer->finished(ModelPart::text, i, hidden, count, s.config.hidden_size);
  }
  cache.commit(count);
}

void Decoder::logits(const float* hidden, int64_t rows, float* out) const {
  const State& s = *state_;
  Buffer<float> normed(rows * s.config.hidden_size);
  rms_norm(hidden, s.final_norm, static_cast<float>(s.config.rms_norm_eps), s.precision.norm, normed.data(),
           rows);
  s.head.apply(normed.data(), rows, out);
  require_finite(out, rows * s.config.vocab_size, "the output head");
}

}  // namespace fovea
