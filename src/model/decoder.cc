#include "model/decoder.h"

#include <algorithm>
#include <cmath>

#include "model/elementwise.h"
#include "model/linear.h"
#include "model/non_finite.h"
#include "model/text_frequencies.h"
#include "model/weight_nodes.h"

namespace fovea {

namespace {

struct Layer {
  TowerPrecision precision;
  size_t rope_variant = 0;
  std::vector<float> input_norm, post_norm;
  std::vector<float> k_bias;  // with bias_split, else empty and added by k
  Linear q, k, v, o, gate, up, down;
};

// The projections of a whole layer, or of one rank's part of it, whose summands are not rounded.
class LayerLoader {
 public:
  LayerLoader(const WeightStore& store, std::string name, bool whole)
      : store_(store), name_(std::move(name)), whole_(whole) {}

  Linear rows(const char* projection, int64_t first, int64_t count, const LinearTypes& types) const {
    if (whole_) return Linear(store_, name_ + projection, types);
    return Linear::of_rows_with_bias(store_, name_ + projection, first, count, types);
  }
  Linear columns(const char* projection, int64_t first, int64_t count, LinearTypes types) const {
    if (whole_) return Linear(store_, name_ + projection, types);
    if (store_.checkpoint().has(name_ + projection + ".bias")) {
      throw Error(ErrorKind::unsupported,
                  fmt::format("tensor parallelism over {}{}, which has a bias: every rank would add it",
                              name_, projection),
                  "leave out --tensor-parallel");
    }
    types.output = DType::f32;
    return Linear::of_columns(store_, name_ + projection, first, count, types);
  }

 private:
  const WeightStore& store_;
  std::string name_;
  bool whole_;
};

Layer load_layer(const WeightStore& store, int64_t index, const TowerPrecision& precision,
                 const TensorPart& part, bool whole, bool held) {
  Layer layer;
  layer.precision = precision;
  if (!held) return layer;
  const std::string name = fmt::format("model.language_model.layers.{}.", index);
  const LayerLoader load(store, name, whole);
  const auto types = [&](DType input, DType output, Quantization quantization) {
    return LinearTypes{precision.weights, input, output, quantization};
  };
  const LinearTypes qkv = types(precision.norm, precision.qkv, precision.quantization),
                    mlp = types(precision.norm, precision.linear, precision.mlp_quantization);
  const int64_t d = store.checkpoint().config().text.head_dim;
  layer.input_norm = store.vector(name + "input_layernorm.weight", precision.norm);
  layer.post_norm = store.vector(name + "post_attention_layernorm.weight", precision.norm);
  layer.q = load.rows("self_attn.q_proj", part.first_q * d, part.heads_q * d, qkv);
  layer.k = load.rows("self_attn.k_proj", part.first_kv * d, part.heads_kv * d, qkv);
  layer.v = load.rows("self_attn.v_proj", part.first_kv * d, part.heads_kv * d, qkv);
  if (precision.bias_split) layer.k_bias = layer.k.take_bias();
  FOVEA_CHECK(precision.bias_split != layer.k_bias.empty());  // the config requires a bias
  layer.o = load.columns("self_attn.o_proj", part.first_q * d, part.heads_q * d,
                         types(precision.attention.output, precision.linear, precision.quantization));
  layer.gate = load.rows("mlp.gate_proj", part.first_inner, part.inner, mlp);
  layer.up = load.rows("mlp.up_proj", part.first_inner, part.inner, mlp);
  layer.down = load.columns("mlp.down_proj", part.first_inner, part.inner,
                            types(precision.mlp, precision.down_proj, precision.mlp_quantization));
  return layer;
}

// The distinct rotary tables of a forward call: layers with the same nodes share one.
struct RopeVariant {
  DType angles, tables;
  std::vector<double> inverse_frequency;
};

// What a forward call shares among its layers.
struct Call {
  int64_t first, count;  // tokens of the sequence
  KvCache& cache;
  GuardReport* guard;
  LayerObserver* observer;
  DecoderScratch& scratch;
};

}  // namespace

struct Decoder::State {
  explicit State(const WeightStore& weights) : store(weights) {}

  const WeightStore& store;
  TextConfig config;  // of this rank's part
  TensorShard shard;
  TensorPart own;
  std::string embedding_name;
  TowerPrecision precision;  // of what belongs to no layer
  Linear embedding;
  std::vector<Linear> head;  // rows of it, a piece that is quantized whole or one for each group
  std::vector<float> final_norm;
  std::vector<Layer> layers;
  std::vector<RopeVariant> rope_variants;
  std::vector<RopeVariant> split_variants;  // of the layers with bias_split, each type of angles once
  std::vector<size_t> axis_of_pair;         // which of t, h, w leads rotary pair i (mrope_section)

  void take_part(const TensorShard& ranks, const LayeredPrecision& text);
  size_t rope_variant_of(DType angles, DType tables);
  void add_split_variant(DType angles);
  void size(DecoderScratch& scratch, int64_t rows, int64_t pieces) const;
  void set_rope_table(const RopeVariant& variant, const std::array<std::span<const int64_t>, 3>& positions,
                      int64_t first, int64_t count, std::vector<double>& angles, RopeTable& table) const;
  void load_head(const std::string& tensor, const LinearTypes& types);
  void prepare_ropes(const std::array<std::span<const int64_t>, 3>& positions, int64_t at, size_t piece,
                     const Call& call) const;
  void project(const Layer& layer, const RopeTable& rope, const float* hidden, Call& call) const;
  void attend_layer(int64_t index, const RopeTable& rope, float* hidden, Call& call) const;
  AttentionGuard guard_of(int64_t index, const HeadsView& k, Call& call) const;
  void attend_pieces(AttentionKind kind, const AttentionProblem& problem, DecoderScratch& scratch) const;
  void sum_over_ranks(float* summand, int64_t count, DType type) const;
  void mlp_layer(int64_t index, float* hidden, int64_t count, DecoderScratch& scratch) const;
};

void Decoder::State::take_part(const TensorShard& ranks, const LayeredPrecision& text) {
  shard = ranks;
  own = tensor_part(config, shard);
  if (shard.whole()) return;
  const bool quantized = std::any_of(text.layers.begin(), text.layers.end(), [](const TowerPrecision& layer) {
    return layer.quantization != Quantization::none || layer.mlp_quantization != Quantization::none;
  });
  if (quantized || store.streams() || store.checkpoint().quantized()) {
    throw Error(ErrorKind::unsupported, "tensor parallelism over weights that are quantized or streamed",
                "leave out --tensor-parallel, or the preset that quantizes and --ram");
  }
  config.num_attention_heads = own.heads_q;
  config.num_key_value_heads = own.heads_kv;
  config.intermediate_size = own.inner;
}

size_t Decoder::State::rope_variant_of(DType angles, DType tables) {
  for (size_t i = 0; i < rope_variants.size(); ++i) {
    if (rope_variants[i].angles == angles && rope_variants[i].tables == tables) return i;
  }
  rope_variants.push_back({angles, tables, text_frequencies(config, angles)});
  return rope_variants.size() - 1;
}

// Rotations are kept in f32 whatever the type of the tables: the bias is never rounded.
void Decoder::State::add_split_variant(DType angles) {
  const auto same = [&](const RopeVariant& variant) { return variant.angles == angles; };
  if (std::any_of(split_variants.begin(), split_variants.end(), same)) return;
  split_variants.push_back({angles, DType::f32, text_frequencies(config, angles)});
}

Decoder::Decoder(const WeightStore& store, const LayeredPrecision& text, DType logits,
                 const TensorShard& shard, const HeldParts& held)
    : state_(std::make_unique<State>(store)) {
  State& s = *state_;
  s.config = store.checkpoint().config().text;
  s.take_part(shard, text);
  s.precision = text.tower;
  FOVEA_CHECK(static_cast<int64_t>(text.layers.size()) == s.config.num_hidden_layers);
  s.embedding_name = "model.language_model.embed_tokens.weight";
  const DType weights = text.tower.weights;
  if (held.embedding) s.embedding = Linear::of_weight(store, s.embedding_name, {weights, weights, weights});
  if (held.head) {
    s.load_head(head_tensor(store.checkpoint(), text.tower.head),
                {weights, text.tower.norm, logits, text.tower.head});
  }
  s.final_norm = store.vector("model.language_model.norm.weight", text.tower.norm);
  for (int64_t i = 0; i < s.config.num_hidden_layers; ++i) {
    s.layers.push_back(
        load_layer(store, i, text.layers[static_cast<size_t>(i)], s.own, shard.whole(), held.layer(i)));
    const TowerPrecision& nodes = s.layers.back().precision;
    s.layers.back().rope_variant = s.rope_variant_of(nodes.rope_angles, nodes.rope_tables);
    if (nodes.bias_split) s.add_split_variant(nodes.rope_angles);
  }
  for (size_t axis = 0; axis < s.config.mrope_section.size(); ++axis) {
    s.axis_of_pair.insert(s.axis_of_pair.end(), static_cast<size_t>(s.config.mrope_section[axis]), axis);
  }
}

void Decoder::State::load_head(const std::string& tensor, const LinearTypes& types) {
  if (types.quantization != Quantization::none) {
    head.push_back(Linear::of_weight(store, tensor, types));
    return;
  }
  for (int64_t piece = 0; piece < store.groups().head_pieces(); ++piece) {
    const GroupPart& part = store.groups()[store.groups().head(piece)].parts.front();
    head.push_back(Linear::of_rows(store, tensor, part.first_row, part.rows, types));
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
    float* row = out + static_cast<int64_t>(i) * width;
    if (!state_->store.streams()) {
      state_->embedding.row(ids[i], row);
    } else if (i > 0 && ids[i] == ids[i - 1]) {  // the pads of an image
      std::copy_n(row - width, width, row);
    } else {
      state_->store.read_row(state_->embedding_name, state_->precision.weights, ids[i], row);
    }
  }
  round_to(out, static_cast<int64_t>(ids.size()) * width, state_->precision.residual);
}

void Decoder::State::set_rope_table(const RopeVariant& variant,
                                    const std::array<std::span<const int64_t>, 3>& positions, int64_t first,
                                    int64_t count, std::vector<double>& angles, RopeTable& table) const {
  const std::vector<double>& inverse = variant.inverse_frequency;
  table.pairs = static_cast<int64_t>(inverse.size());
  table.cos.resize(static_cast<size_t>(count * table.pairs));
  table.sin.resize(table.cos.size());
  angles.resize(inverse.size());
  const float scale = text_rotary_scale(config);
  for (int64_t r = 0; r < count; ++r) {
    for (size_t i = 0; i < inverse.size(); ++i) {
      angles[i] =
          rope_angle(positions[axis_of_pair[i]][static_cast<size_t>(first + r)], inverse[i], variant.angles);
    }
    set_rope_row(table, r, angles, variant.tables, scale);
  }
}

// The tables of one piece, whose positions begin at `at`.
void Decoder::State::prepare_ropes(const std::array<std::span<const int64_t>, 3>& positions, int64_t at,
                                   size_t piece, const Call& call) const {
  DecoderScratch& scratch = call.scratch;
  for (size_t i = 0; i < rope_variants.size(); ++i) {
    set_rope_table(rope_variants[i], positions, at, call.count, scratch.angles,
                   scratch.ropes[piece * rope_variants.size() + i]);
  }
  for (const RopeVariant& variant : split_variants) {
    set_rope_table(variant, positions, at, call.count, scratch.angles, scratch.split_rope);
    call.cache.store_rotation(variant.angles, call.first, scratch.split_rope, call.count);
  }
}

// hidden to q, k and v side by side in scratch.qkv, as attention and the cache see them.
void Decoder::State::project(const Layer& layer, const RopeTable& rope, const float* hidden,
                             Call& call) const {
  const TowerPrecision& nodes = layer.precision;
  const int64_t count = call.count, q_width = layer.q.out(), kv_width = layer.k.out(),
                stride = q_width + 2 * kv_width;
  float *q = call.scratch.qkv.data(), *k = q + q_width, *v = k + kv_width,
        *normed = call.scratch.normed.data();
  rms_norm(hidden, layer.input_norm, static_cast<float>(config.rms_norm_eps), nodes.norm, normed, count,
           nodes.norm_statistics);
  const Projection qkv[] = {{&layer.q, q, stride}, {&layer.k, k, stride}, {&layer.v, v, stride}};
  Linear::apply_all(qkv, normed, count);
  apply_rope(q, 0, count, config.num_attention_heads, stride, rope, nodes.rope_steps, nodes.q);
  apply_rope(k, 0, count, config.num_key_value_heads, stride, rope, nodes.rope_steps, nodes.k);
  if (nodes.v != nodes.qkv) round_columns(v, count, kv_width, stride, nodes.v);
}

// The guard's view of a layer. For each new token the largest |k| so far: keys are measured once, when they
// are made, and a key kept without its bias is at most |k| + |bias| long.
AttentionGuard Decoder::State::guard_of(int64_t index, const HeadsView& k, Call& call) const {
  AttentionGuard guard{call.guard->options, call.guard->text[static_cast<size_t>(index)].data(), nullptr};
  const Layer& layer = layers[static_cast<size_t>(index)];
  if (layer.precision.kind == AttentionKind::eager) return guard;
  Buffer<float>& norms = call.scratch.key_norms;
  norms.reserve(k.tokens * k.heads);
  key_norms(k, norms.data());
  float* largest = call.cache.largest_key_norms(index);
  for (int64_t h = 0; h < k.heads; ++h) {
    double bias = 0;
    for (int64_t c = 0; c < k.head_dim && !layer.k_bias.empty(); ++c) {
      const auto b = double{layer.k_bias[static_cast<size_t>(h * k.head_dim + c)]};
      bias += b * b;
    }
    for (int64_t t = 0; t < k.tokens; ++t) {
      float& norm = norms.data()[t * k.heads + h];
      largest[h] = std::max(largest[h], norm + static_cast<float>(std::sqrt(bias)));
      norm = largest[h];
    }
  }
  guard.key_norms = norms.data();
  return guard;
}

// Where kv heads have different numbers of query heads, piece by piece.
void Decoder::State::attend_pieces(AttentionKind kind, const AttentionProblem& problem,
                                   DecoderScratch& scratch) const {
  if (own.pieces.size() == 1) return attend(kind, problem);
  const int64_t d = config.head_dim;
  for (const HeadPiece& piece : own.pieces) {
    AttentionProblem few = problem;
    few.q = problem.q.of_heads(piece.first_q, piece.count);
    few.k = problem.k.of_heads(piece.kv, 1);
    few.v = problem.v.of_heads(piece.kv, 1);
    if (few.key_bias.present()) few.key_bias.bias += piece.kv * d;
    few.out = scratch.attended_piece.data();
    attend(kind, few);
    for (int64_t t = 0; t < problem.q.tokens; ++t) {
      std::copy_n(few.out + t * piece.count * d, piece.count * d,
                  problem.out + (t * config.num_attention_heads + piece.first_q) * d);
    }
  }
}

// What the projection of the whole layer would have returned, rounded to `type`.
void Decoder::State::sum_over_ranks(float* summand, int64_t count, DType type) const {
  if (shard.whole()) return;
  shard.sum({summand, static_cast<size_t>(count)});
  round_to(summand, count, type);
}

void Decoder::State::attend_layer(int64_t index, const RopeTable& rope, float* hidden, Call& call) const {
  const Layer& layer = layers[static_cast<size_t>(index)];
  const TowerPrecision& nodes = layer.precision;
  DecoderScratch& scratch = call.scratch;
  const int64_t head_dim = config.head_dim, heads_q = config.num_attention_heads,
                heads_kv = config.num_key_value_heads, count = call.count;
  const int64_t q_width = heads_q * head_dim, kv_width = heads_kv * head_dim, stride = q_width + 2 * kv_width;
  project(layer, rope, hidden, call);
  const float *q = scratch.qkv.data(), *k = q + q_width;
  call.cache.store(index, call.first, k, k + kv_width, stride, count);

  AttentionProblem problem;
  problem.q = {q, DType::f32, count, heads_q, head_dim, stride, nodes.q};
  problem.k = call.cache.keys(index, call.first + count);
  problem.v = call.cache.values(index, call.first + count);
  problem.out = scratch.attended.data();
  problem.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  problem.causal = true;
  problem.precision = nodes.attention;
  problem.scratch = &scratch.attention;
  if (nodes.bias_split) problem.key_bias = call.cache.key_bias(nodes.rope_angles, layer.k_bias.data());
  AttentionGuard guard;
  if (call.guard != nullptr) {
    guard = guard_of(index, {k, DType::f32, count, heads_kv, head_dim, stride}, call);
    problem.guard = &guard;
  }
  attend_pieces(nodes.kind, problem, scratch);
  if (call.observer) call.observer->attended(ModelPart::text, index, problem);

  layer.o.apply(scratch.attended.data(), count, scratch.normed.data());
  const int64_t size = count * config.hidden_size;
  sum_over_ranks(scratch.normed.data(), size, nodes.linear);
  if (!add_residual(hidden, scratch.normed.data(), size, nodes.residual)) {
    refuse_attention({"text", "decoder layer", index}, nodes,
                     {problem, q, stride, scratch.normed.data(), size});
  }
}

void Decoder::State::mlp_layer(int64_t index, float* hidden, int64_t count, DecoderScratch& scratch) const {
  const Layer& layer = layers[static_cast<size_t>(index)];
  const TowerPrecision& nodes = layer.precision;
  const int64_t size = count * config.hidden_size, inner = count * config.intermediate_size;
  float* normed = scratch.normed.data();
  rms_norm(hidden, layer.post_norm, static_cast<float>(config.rms_norm_eps), nodes.norm, normed, count,
           nodes.norm_statistics);
  const Projection both[] = {{&layer.gate, scratch.gate.data(), layer.gate.out()},
                             {&layer.up, scratch.up.data(), layer.up.out()}};
  Linear::apply_all(both, normed, count);
  silu_times(scratch.gate.data(), scratch.up.data(), inner, nodes.mlp);
  layer.down.apply(scratch.gate.data(), count, normed);
  sum_over_ranks(normed, size, nodes.down_proj);
  if (!add_residual(hidden, normed, size, nodes.residual)) {
    refuse_mlp({"text", "decoder layer", index}, nodes,
               {scratch.gate.data(), scratch.up.data(), normed, inner, size});
  }
}

void Decoder::State::size(DecoderScratch& scratch, int64_t rows, int64_t pieces) const {
  const TextConfig& c = config;
  scratch.normed.reserve(rows * c.hidden_size);
  scratch.qkv.reserve(rows * (c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim);
  scratch.attended.reserve(rows * c.num_attention_heads * c.head_dim);
  if (own.pieces.size() > 1) scratch.attended_piece.reserve(rows * c.num_attention_heads * c.head_dim);
  scratch.gate.reserve(rows * c.intermediate_size);
  scratch.up.reserve(rows * c.intermediate_size);
  scratch.ropes.resize(rope_variants.size() * static_cast<size_t>(pieces));
}

void Decoder::forward(float* hidden, int64_t count, const std::array<std::span<const int64_t>, 3>& positions,
                      KvCache& cache, DecoderScratch& scratch, const ForwardHooks& hooks,
                      int64_t piece) const {
  forward_layers(0, state_->config.num_hidden_layers, hidden, count, positions, cache, scratch, hooks, piece);
  cache.commit(count);
}

void Decoder::forward_layers(int64_t first, int64_t last, float* hidden, int64_t count,
                             const std::array<std::span<const int64_t>, 3>& positions, KvCache& cache,
                             DecoderScratch& scratch, const ForwardHooks& hooks, int64_t piece) const {
  const State& s = *state_;
  const int64_t width = s.config.hidden_size, at_once = piece > 0 ? std::min(piece, count) : count;
  s.size(scratch, at_once, (count + at_once - 1) / at_once);
  const auto for_pieces = [&](const auto& body) {
    for (int64_t at = 0; at < count; at += at_once) {
      Call call{
          cache.tokens() + at, std::min(at_once, count - at), cache, hooks.guard, hooks.layers, scratch};
      body(at, static_cast<size_t>(at / at_once), call);
    }
  };
  for_pieces(
      [&](int64_t at, size_t index, const Call& call) { s.prepare_ropes(positions, at, index, call); });
  if (first == 0) require_finite(hidden, count * width, "the embeddings");
  for (int64_t i = first; i < last; ++i) {
    const Layer& layer = s.layers[static_cast<size_t>(i)];
    const WeightLease weights =
        s.store.use(s.store.groups().layer(i), layer.precision.weights, hooks.while_waiting);
    const KvLease pages = cache.use(i, cache.tokens(), cache.tokens() + count, hooks.while_waiting);
    for_pieces([&](int64_t at, size_t index, Call& call) {
      float* rows = hidden + at * width;
      s.attend_layer(i, scratch.ropes[index * s.rope_variants.size() + layer.rope_variant], rows, call);
      s.mlp_layer(i, rows, call.count, scratch);
      if (hooks.layers) hooks.layers->finished(ModelPart::text, i, rows, call.count, width);
      if (hooks.after_layer) hooks.after_layer();
    });
  }
}

void Decoder::logits(const float* hidden, int64_t rows, float* out, DecoderScratch& scratch,
                     const std::function<void()>& while_waiting) const {
  const State& s = *state_;
  FOVEA_CHECK(!s.head.empty());
  scratch.normed.reserve(rows * s.config.hidden_size);
  rms_norm(hidden, s.final_norm, static_cast<float>(s.config.rms_norm_eps), s.precision.norm,
           scratch.normed.data(), rows, s.precision.norm_statistics);
  int64_t group = s.store.groups().head(0);
  float* to = out;
  for (const Linear& piece : s.head) {
    const WeightLease weights = s.store.use(group++, s.precision.weights, while_waiting);
    piece.apply(scratch.normed.data(), rows, to, s.config.vocab_size);
    to += piece.out();
  }
  require_finite(out, rows * s.config.vocab_size, "the output head, logits");
}

}  // namespace fovea
