// What a decoder consists of; private to decoder.cc, which loads it and runs batches, and decoder_layer.cc,
// which computes a layer.
#pragma once

#include "model/decoder.h"
#include "model/linear.h"

namespace fovea {

struct DecoderLayer {
  TowerPrecision precision;
  size_t rope_variant = 0;
  std::vector<float> input_norm, post_norm;
  std::vector<float> k_bias;  // with bias_split, else empty and added by k
  Linear q, k, v, o, gate, up, down;
};

// The distinct rotary tables of a forward call: layers with the same nodes share one.
struct RopeVariant {
  DType angles, tables;
  std::vector<double> inverse_frequency;
};

// A piece of a batch on its way through the layers.
struct DecoderCall {
  int64_t rows;
  std::span<const BatchPart> parts;
  DecoderScratch& scratch;
};

struct Decoder::State {
  explicit State(const WeightStore& weights) : store(weights) {}

  const WeightStore& store;
  const Context& context() const { return store.context(); }
  const Kernels& kernels() const { return *store.context().kernels; }
  TextConfig config;  // of this rank's part
  TensorShard shard;
  TensorPart own;
  std::string embedding_name;
  TowerPrecision precision;  // of what belongs to no layer
  Linear embedding;
  std::vector<Linear> head;  // rows of it, a piece that is quantized whole or one for each group
  std::vector<float> final_norm;
  std::vector<DecoderLayer> layers;
  std::vector<RopeVariant> rope_variants;
  std::vector<RopeVariant> split_variants;  // of the layers with bias_split, each type of angles once
  std::vector<size_t> axis_of_pair;         // which of t, h, w leads rotary pair i (mrope_section)

  void take_part(const TensorShard& ranks, const LayeredPrecision& text);
  size_t rope_variant_of(DType angles, DType tables);
  void add_split_variant(DType angles);
  void size(DecoderScratch& scratch, int64_t rows, int64_t pieces) const;
  void set_rope_rows(const RopeVariant& variant, const BatchPart& part, std::vector<double>& angles,
                     RopeTable& table) const;
  void load_head(const std::string& tensor, const LinearTypes& types);
  void prepare_ropes(size_t piece, const DecoderCall& call) const;
  void project(const DecoderLayer& layer, const RopeTable& rope, const float* hidden,
               DecoderCall& call) const;
  void remember(int64_t index, DecoderCall& call) const;
  void pose(int64_t index, DecoderCall& call) const;
  void attend_layer(int64_t index, const RopeTable& rope, float* hidden, DecoderCall& call) const;
  AttentionGuard guard_of(int64_t index, const HeadsView& k, const BatchPart& part, float* norms) const;
  void attend_pieces(AttentionKind kind, DecoderScratch& scratch) const;
  void sum_over_ranks(float* summand, int64_t count, DType type) const;
  void mlp_layer(int64_t index, float* hidden, DecoderCall& call) const;
  void check_embeddings(float* hidden, const DecoderCall& call) const;
  void finish_layer(int64_t index, const float* hidden, const DecoderCall& call) const;
  // q, k and v of a row side by side.
  int64_t qkv_width() const {
    return (config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_dim;
  }
};

}  // namespace fovea
