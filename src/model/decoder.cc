#include "model/decoder.h"

#include <algorithm>

#include "model/decoder_state.h"
#include "model/elementwise.h"
#include "model/text_frequencies.h"
#include "model/weight_nodes.h"

namespace fovea {

namespace {

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

DecoderLayer load_layer(const WeightStore& store, int64_t index, const TowerPrecision& precision,
                        const TensorPart& part, bool whole, bool held) {
  DecoderLayer layer;
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

bool all_failed(std::span<const Segment> segments) {
  return std::all_of(segments.begin(), segments.end(), [](const Segment& s) { return s.failure != nullptr; });
}

}  // namespace

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
      state_->embedding.row(state_->kernels(), ids[i], row);
    } else if (i > 0 && ids[i] == ids[i - 1]) {  // the pads of an image
      std::copy_n(row - width, width, row);
    } else {
      state_->store.read_row(state_->embedding_name, state_->precision.weights, ids[i], row);
    }
  }
  round_to(state_->context(), out, static_cast<int64_t>(ids.size()) * width, state_->precision.residual);
}

void Decoder::State::size(DecoderScratch& scratch, int64_t rows, int64_t pieces) const {
  const TextConfig& c = config;
  scratch.normed.reserve(rows * c.hidden_size);
  scratch.qkv.reserve(rows * qkv_width());
  scratch.attended.reserve(rows * c.num_attention_heads * c.head_dim);
  if (own.pieces.size() > 1) scratch.attended_piece.reserve(rows * c.num_attention_heads * c.head_dim);
  scratch.gate.reserve(rows * c.intermediate_size);
  scratch.up.reserve(rows * c.intermediate_size);
  scratch.ropes.resize(rope_variants.size() * static_cast<size_t>(pieces));
}

void Decoder::forward(float* hidden, std::span<Segment> segments, DecoderScratch& scratch,
                      const PassHooks& hooks, int64_t piece) const {
  forward_layers(0, state_->config.num_hidden_layers, hidden, segments, scratch, hooks, piece);
  for (const Segment& segment : segments) {
    if (!segment.failure) segment.cache->commit(segment.count);
  }
}

void Decoder::forward_layers(int64_t first, int64_t last, float* hidden, std::span<Segment> segments,
                             DecoderScratch& scratch, const PassHooks& hooks, int64_t piece) const {
  const State& s = *state_;
  const int64_t width = s.config.hidden_size, rows = rows_of(segments);
  cut_batch(segments, piece > 0 ? piece : std::max<int64_t>(rows, 1), scratch.pieces, scratch.parts);
  s.size(scratch, piece > 0 ? std::min(piece, rows) : rows, std::ssize(scratch.pieces));
  const auto for_pieces = [&](const auto& body) {
    for (size_t i = 0; i < scratch.pieces.size(); ++i) {
      const BatchPiece& at = scratch.pieces[i];
      DecoderCall call{at.rows, std::span(scratch.parts).subspan(at.first_part, at.parts), scratch};
      body(i, hidden + at.first_row * width, call);
    }
  };
  for_pieces([&](size_t index, float* of_piece, DecoderCall& call) {
    s.prepare_ropes(index, call);
    if (first == 0) s.check_embeddings(of_piece, call);
  });
  for (int64_t i = first; i < last && !all_failed(segments); ++i) {
    const DecoderLayer& layer = s.layers[static_cast<size_t>(i)];
    const WeightLease weights =
        s.store.use(s.store.groups().layer(i), layer.precision.weights, hooks.while_waiting);
    std::vector<KvLease> pages;
    for (Segment& segment : segments) {
      KvCache& cache = *segment.cache;
      KvLease lease = cache.use(i, cache.tokens(), cache.tokens() + segment.count, hooks.while_waiting);
      if (cache.on_disk()) pages.push_back(std::move(lease));  // others need none
    }
    for_pieces([&](size_t index, float* of_piece, DecoderCall& call) {
      s.attend_layer(i, scratch.ropes[index * s.rope_variants.size() + layer.rope_variant], of_piece, call);
      s.mlp_layer(i, of_piece, call);
      s.finish_layer(i, of_piece, call);
      if (hooks.after_layer) hooks.after_layer();
    });
  }
}

void Decoder::logits(const float* hidden, int64_t rows, float* out, DecoderScratch& scratch,
                     const std::function<void()>& while_waiting,
                     std::span<std::exception_ptr> failures) const {
  const State& s = *state_;
  FOVEA_CHECK(!s.head.empty() && (failures.empty() || std::ssize(failures) == rows));
  scratch.normed.reserve(rows * s.config.hidden_size);
  rms_norm(s.context(), hidden, s.final_norm, static_cast<float>(s.config.rms_norm_eps), s.precision.norm,
           scratch.normed.data(), rows, s.precision.norm_statistics);
  int64_t group = s.store.groups().head(0);
  float* to = out;
  for (const Linear& piece : s.head) {
    const WeightLease weights = s.store.use(group++, s.precision.weights, while_waiting);
    piece.apply(s.context(), scratch.products, scratch.normed.data(), rows, to, s.config.vocab_size);
    to += piece.out();
  }
  constexpr const char* kStage = "the output head, logits";
  if (failures.empty()) return require_finite(s.kernels(), out, rows * s.config.vocab_size, kStage);
  for (int64_t r = 0; r < rows; ++r) {
    try {
      require_finite(s.kernels(), out + r * s.config.vocab_size, s.config.vocab_size, kStage);
    } catch (const Error&) {
      failures[static_cast<size_t>(r)] = std::current_exception();
    }
  }
}

}  // namespace fovea
