// A layer of the decoder over the rows of a batch: projections, norms and the MLP see rows; rotation, cache
// and attention see the sequences they belong to.
#include <algorithm>
#include <cmath>

#include "model/decoder_state.h"
#include "model/elementwise.h"
#include "model/non_finite.h"
#include "model/text_frequencies.h"

namespace fovea {

namespace {

// Whoever has a row that is not finite fails with what refuse() throws. Rows of failed segments become zeros,
// which every operation of a layer leaves finite: nothing of them is seen twice.
template <typename Refuse>
void fail_segment(const Kernels& kernels, Segment& segment, float* rows, int64_t count, Refuse refuse) {
  if (!segment.failure && !all_finite(kernels, rows, count)) {
    try {
      refuse();
    } catch (const Error&) {
      segment.failure = std::current_exception();
    }
  }
  if (segment.failure) std::fill_n(rows, count, 0.f);
}

}  // namespace

void Decoder::State::set_rope_rows(const RopeVariant& variant, const BatchPart& part,
                                   std::vector<double>& angles, RopeTable& table) const {
  const std::vector<double>& inverse = variant.inverse_frequency;
  angles.resize(inverse.size());
  const float scale = text_rotary_scale(config);
  for (int64_t r = 0; r < part.count; ++r) {
    for (size_t i = 0; i < inverse.size(); ++i) {
      const auto& axis = part.segment->positions[axis_of_pair[i]];
      angles[i] = rope_angle(axis[static_cast<size_t>(part.offset + r)], inverse[i], variant.angles);
    }
    set_rope_row(table, part.row + r, angles, variant.tables, scale);
  }
}

// The tables of one piece.
void Decoder::State::prepare_ropes(size_t piece, const DecoderCall& call) const {
  DecoderScratch& scratch = call.scratch;
  const auto set = [&](const RopeVariant& variant, RopeTable& table) {
    table.pairs = static_cast<int64_t>(variant.inverse_frequency.size());
    table.cos.resize(static_cast<size_t>(call.rows * table.pairs));
    table.sin.resize(table.cos.size());
    for (const BatchPart& part : call.parts) set_rope_rows(variant, part, scratch.angles, table);
  };
  for (size_t i = 0; i < rope_variants.size(); ++i) {
    set(rope_variants[i], scratch.ropes[piece * rope_variants.size() + i]);
  }
  for (const RopeVariant& variant : split_variants) {
    set(variant, scratch.split_rope);
    for (const BatchPart& part : call.parts) {
      part.segment->cache->store_rotation(variant.angles, part.first_token(), scratch.split_rope, part.row,
                                          part.count);
    }
  }
}

// hidden to q, k and v side by side in scratch.qkv, as attention and the cache see them.
void Decoder::State::project(const DecoderLayer& layer, const RopeTable& rope, const float* hidden,
                             DecoderCall& call) const {
  const TowerPrecision& nodes = layer.precision;
  const int64_t rows = call.rows, q_width = layer.q.out(), kv_width = layer.k.out(), stride = qkv_width();
  float *q = call.scratch.qkv.data(), *k = q + q_width, *v = k + kv_width,
        *normed = call.scratch.normed.data();
  rms_norm(context(), hidden, layer.input_norm, static_cast<float>(config.rms_norm_eps), nodes.norm, normed,
           rows, nodes.norm_statistics);
  const Projection qkv[] = {{&layer.q, q, stride}, {&layer.k, k, stride}, {&layer.v, v, stride}};
  Linear::apply_all(context(), call.scratch.products, qkv, normed, rows);
  apply_rope(context(), q, 0, rows, config.num_attention_heads, stride, rope, nodes.rope_steps, nodes.q);
  apply_rope(context(), k, 0, rows, config.num_key_value_heads, stride, rope, nodes.rope_steps, nodes.k);
  if (nodes.v != nodes.qkv) round_columns(context(), v, rows, kv_width, stride, nodes.v);
}

// The guard's view of a layer. For each new token the largest |k| so far: keys are measured once, when they
// are made, and a key kept without its bias is at most |k| + |bias| long.
AttentionGuard Decoder::State::guard_of(int64_t index, const HeadsView& k, const BatchPart& part,
                                        float* norms) const {
  GuardReport& report = *part.segment->guard;
  AttentionGuard guard{report.options, report.text[static_cast<size_t>(index)].data(), nullptr};
  const DecoderLayer& layer = layers[static_cast<size_t>(index)];
  if (layer.precision.kind == AttentionKind::eager) return guard;
  key_norms(context(), k, norms);
  const int64_t first = part.first_token();
  for (int64_t h = 0; h < k.heads; ++h) {
    double bias = 0;
    for (int64_t c = 0; c < k.head_dim && !layer.k_bias.empty(); ++c) {
      const auto b = double{layer.k_bias[static_cast<size_t>(h * k.head_dim + c)]};
      bias += b * b;
    }
    float largest = first == 0 ? 0.f : part.segment->cache->largest_key_norms(index, first - 1)[h];
    for (int64_t t = 0; t < k.tokens; ++t) {
      float& norm = norms[t * k.heads + h];
      largest = std::max(largest, norm + static_cast<float>(std::sqrt(bias)));
      part.segment->cache->largest_key_norms(index, first + t)[h] = norm = largest;
    }
  }
  guard.key_norms = norms;
  return guard;
}

// Where kv heads have different numbers of query heads, piece by piece.
void Decoder::State::attend_pieces(AttentionKind kind, DecoderScratch& scratch) const {
  if (own.pieces.size() == 1) return attend(kind, scratch.problems);
  const int64_t d = config.head_dim;
  for (const HeadPiece& piece : own.pieces) {
    float* out = scratch.attended_piece.data();
    scratch.piece_problems.clear();
    for (const AttentionProblem& problem : scratch.problems) {
      AttentionProblem few = problem;
      few.q = problem.q.of_heads(piece.first_q, piece.count);
      few.k = problem.k.of_heads(piece.kv, 1);
      few.v = problem.v.of_heads(piece.kv, 1);
      if (few.key_bias.present()) few.key_bias.bias += piece.kv * d;
      few.out = out;
      out += problem.q.tokens * piece.count * d;
      scratch.piece_problems.push_back(few);
    }
    attend(kind, scratch.piece_problems);
    for (size_t i = 0; i < scratch.problems.size(); ++i) {
      const AttentionProblem& problem = scratch.problems[i];
      for (int64_t t = 0; t < problem.q.tokens; ++t) {
        std::copy_n(scratch.piece_problems[i].out + t * piece.count * d, piece.count * d,
                    problem.out + (t * config.num_attention_heads + piece.first_q) * d);
      }
    }
  }
}

// What the projection of the whole layer would have returned, rounded to `type`.
void Decoder::State::sum_over_ranks(float* summand, int64_t count, DType type) const {
  if (shard.whole()) return;
  shard.sum({summand, static_cast<size_t>(count)});
  round_to(context(), summand, count, type);
}

// Keys and values of the rows to their caches.
void Decoder::State::remember(int64_t index, DecoderCall& call) const {
  const int64_t q_width = config.num_attention_heads * config.head_dim,
                kv_width = config.num_key_value_heads * config.head_dim;
  for (const BatchPart& part : call.parts) {
    if (part.segment->failure) continue;
    const float* k = call.scratch.qkv.data() + part.row * qkv_width() + q_width;
    part.segment->cache->store(kernels(), index, part.first_token(), k, k + kv_width, qkv_width(),
                               part.count);
  }
}

// scratch.problems: one for each part; of a failed segment one without tokens, whose output is zeros.
void Decoder::State::pose(int64_t index, DecoderCall& call) const {
  const DecoderLayer& layer = layers[static_cast<size_t>(index)];
  const TowerPrecision& nodes = layer.precision;
  DecoderScratch& scratch = call.scratch;
  const int64_t head_dim = config.head_dim, heads_q = config.num_attention_heads,
                heads_kv = config.num_key_value_heads, q_width = heads_q * head_dim, stride = qkv_width();
  scratch.problems.clear();
  scratch.guards.clear();
  scratch.guards.reserve(call.parts.size());  // problems point to them
  for (const BatchPart& part : call.parts) {
    const Segment& segment = *part.segment;
    const float* q = scratch.qkv.data() + part.row * stride;
    AttentionProblem& problem = scratch.problems.emplace_back();
    problem.context = context();
    problem.q = {q, DType::f32, segment.failure ? 0 : part.count, heads_q, head_dim, stride, nodes.q};
    problem.k = segment.cache->keys(index, part.first_token() + part.count);
    problem.v = segment.cache->values(index, part.first_token() + part.count);
    problem.out = scratch.attended.data() + part.row * q_width;
    problem.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
    problem.causal = true;
    problem.precision = nodes.attention;
    problem.scratch = &scratch.attention;
    if (segment.failure) std::fill_n(problem.out, part.count * q_width, 0.f);
    if (nodes.bias_split) {
      problem.key_bias = segment.cache->key_bias(nodes.rope_angles, layer.k_bias.data());
    }
    if (segment.guard != nullptr && !segment.failure) {
      scratch.key_norms.reserve(call.rows * heads_kv);
      scratch.guards.push_back(guard_of(index,
                                        {q + q_width, DType::f32, part.count, heads_kv, head_dim, stride},
                                        part, scratch.key_norms.data() + part.row * heads_kv));
      problem.guard = &scratch.guards.back();
    }
  }
}

void Decoder::State::attend_layer(int64_t index, const RopeTable& rope, float* hidden,
                                  DecoderCall& call) const {
  const DecoderLayer& layer = layers[static_cast<size_t>(index)];
  const TowerPrecision& nodes = layer.precision;
  DecoderScratch& scratch = call.scratch;
  project(layer, rope, hidden, call);
  remember(index, call);
  pose(index, call);
  attend_pieces(nodes.kind, scratch);
  for (size_t i = 0; i < call.parts.size(); ++i) {
    const Segment& segment = *call.parts[i].segment;
    if (segment.observer && !segment.failure) {
      segment.observer->attended(ModelPart::text, index, scratch.problems[i]);
    }
  }
  layer.o.apply(context(), scratch.products, scratch.attended.data(), call.rows, scratch.normed.data());
  const int64_t width = config.hidden_size;
  sum_over_ranks(scratch.normed.data(), call.rows * width, nodes.linear);
  if (add_residual(context(), hidden, scratch.normed.data(), call.rows * width, nodes.residual)) return;
  for (size_t i = 0; i < call.parts.size(); ++i) {
    const BatchPart& part = call.parts[i];
    fail_segment(kernels(), *part.segment, hidden + part.row * width, part.count * width, [&] {
      refuse_attention({"text", "decoder layer", index}, nodes,
                       {scratch.problems[i], scratch.qkv.data() + part.row * qkv_width(), qkv_width(),
                        scratch.normed.data() + part.row * width, part.count * width});
    });
  }
}

void Decoder::State::mlp_layer(int64_t index, float* hidden, DecoderCall& call) const {
  const DecoderLayer& layer = layers[static_cast<size_t>(index)];
  const TowerPrecision& nodes = layer.precision;
  DecoderScratch& scratch = call.scratch;
  const int64_t rows = call.rows, width = config.hidden_size, inner = config.intermediate_size;
  float *normed = scratch.normed.data(), *gate = scratch.gate.data(), *up = scratch.up.data();
  rms_norm(context(), hidden, layer.post_norm, static_cast<float>(config.rms_norm_eps), nodes.norm, normed,
           rows, nodes.norm_statistics);
  const Projection both[] = {{&layer.gate, gate, layer.gate.out()}, {&layer.up, up, layer.up.out()}};
  Linear::apply_all(context(), scratch.products, both, normed, rows);
  silu_times(context(), gate, up, rows * inner, nodes.mlp);
  layer.down.apply(context(), scratch.products, gate, rows, normed);
  sum_over_ranks(normed, rows * width, nodes.down_proj);
  if (add_residual(context(), hidden, normed, rows * width, nodes.residual)) return;
  for (const BatchPart& part : call.parts) {
    fail_segment(kernels(), *part.segment, hidden + part.row * width, part.count * width, [&] {
      refuse_mlp(kernels(), {"text", "decoder layer", index}, nodes,
                 {gate + part.row * inner, up + part.row * inner, normed + part.row * width,
                  part.count * inner, part.count * width});
    });
  }
}

void Decoder::State::check_embeddings(float* hidden, const DecoderCall& call) const {
  for (const BatchPart& part : call.parts) {
    const int64_t count = part.count * config.hidden_size;
    float* rows = hidden + part.row * config.hidden_size;
    fail_segment(kernels(), *part.segment, rows, count,
                 [&] { require_finite(kernels(), rows, count, "the embeddings"); });
  }
}

void Decoder::State::finish_layer(int64_t index, const float* hidden, const DecoderCall& call) const {
  for (const BatchPart& part : call.parts) {
    const Segment& segment = *part.segment;
    if (!segment.observer || segment.failure) continue;
    segment.observer->finished(ModelPart::text, index, hidden + part.row * config.hidden_size, part.count,
                               config.hidden_size);
  }
}

}  // namespace fovea
