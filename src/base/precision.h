// The dtype at every node of the computation, handed down explicitly. Activations live in f32 containers and
// are rounded to the node's dtype where the reference would store them; kernels accumulate in f32 everywhere.
// The members are the nodes of `--precision` under the same names; docs/guide/precision.md describes them.
#pragma once

#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace fovea {

// `reference` is exact softmax attention in f64, slow; the others are those of transformers.
enum class AttentionKind : uint8_t { eager, sdpa, flash_attention_2, reference };
const char* name_of(AttentionKind kind);
// Throws Error(invalid_argument) for any other name.
AttentionKind parse_attention(std::string_view name);

// Where a score meets 1 / sqrt(head_dim). S = q.k is rounded to `scores`.
enum class ScalePlacement : uint8_t {
  after,   // S * head_dim^-0.5, rounded to `scaled` (transformers' eager since 4.52)
  divide,  // S / sqrt(head_dim), rounded to `scaled` (its eager before; true division, as torch on CPU)
  before,  // q * head_dim^-0.5, rounded to `scaled`, before the product
  split,   // q and k each times head_dim^-0.25, rounded to `scaled`, before the product (torch's math kernel)
  fused,   // product and scale in one, rounded to `scaled` once
};
const char* name_of(ScalePlacement placement);

// additive: finfo(scaled).min is added to scores of later keys, as transformers does; skip: they get -inf.
enum class MaskAdd : uint8_t { additive, skip };
const char* name_of(MaskAdd mask);

// Cures of the score rounding, in f32 before it. row_max: less the row's maximum over the keys it sees. mean,
// block256: less q times the mean of those keys, or of each 256 of them, whose part returns after the
// rounding.
enum class ScoreShift : uint8_t { none, row_max };
const char* name_of(ScoreShift shift);
enum class KCentring : uint8_t { none, mean, block256 };
const char* name_of(KCentring centring);

// How the weights of projections are stored, and the rows they multiply. w8a8: 8 bits per output channel,
// rows in 8 bits per token, both symmetric, scaled by their largest magnitude. int4: 4 bits in groups of 64,
// rows as in w8a8.
enum class Quantization : uint8_t { none, w8a8, int4 };
const char* name_of(Quantization quantization);

struct AttentionPrecision {
  DType scores = DType::f32;  // the raw product q.k
  ScalePlacement scale = ScalePlacement::fused;
  DType scaled = DType::f32;  // the scaled score, and its sum with the mask; with before and split: q (and k)
  MaskAdd mask = MaskAdd::skip;
  bool inf_to_zero = false;          // after scale and mask, infinite scores become 0 (old fp16 eager)
  DType softmax = DType::f32;        // exponentials, their sum and the quotient
  DType probabilities = DType::f32;  // P as it meets V
  bool normalised = false;           // P is divided by its sum before it is rounded, else the output is
  DType pv = DType::f32;             // the accumulator of P.V, rounded after every 64 keys
  DType output = DType::f32;         // the attention output
  ScoreShift score_shift = ScoreShift::none;
  KCentring k_centring = KCentring::none;

  // What `kind` computes when the model has this dtype. sdpa and flash_attention_2 read `output` and flash
  // also `probabilities`; their other nodes cannot be otherwise.
  static AttentionPrecision of(AttentionKind kind, DType dtype);
  friend bool operator==(const AttentionPrecision&, const AttentionPrecision&) = default;
};

// One layer of a tower.
struct TowerPrecision {
  AttentionKind kind = AttentionKind::flash_attention_2;
  DType weights = DType::f32;      // weights and biases; pixels, before they meet the patch embedding
  DType qkv = DType::f32;          // what the q, k and v projections return
  DType rope_angles = DType::f32;  // inverse frequencies and their product with the position
  DType rope_tables = DType::f32;  // cos and sin
  DType rope_steps = DType::f32;   // fp32: one rounding of the rotated value; else each product and the sum
  DType q = DType::f32, k = DType::f32, v = DType::f32;  // as attention sees them; q, k after RoPE
  DType k_cache = DType::f32, v_cache = DType::f32;      // storage of K and V (text only)
  DType linear = DType::f32;           // what the other projections return (o, gate, up; patches, merger)
  DType norm_statistics = DType::f32;  // RMSNorm's mean of squares and its root
  DType norm = DType::f32;             // RMSNorm: the normalised value and its product with the weight
  DType mlp = DType::f32;              // silu(gate) and its product with up; the merger's GELU
  DType down_proj = DType::f32;        // what the down projection returns
  DType residual = DType::f32;         // the hidden state between blocks
  // Of attention's projections, of the MLP's, and of the output head (text's tower only); quantized from
  // values rounded to `weights`.
  Quantization quantization = Quantization::none, mlp_quantization = Quantization::none,
               head = Quantization::none;
  bool bias_split = false;  // K is kept without its bias, which is added to the scores in fp32
  AttentionPrecision attention;

  static TowerPrecision text(DType dtype, AttentionKind kind);
  // The vision tower rotates in fp32 with one rounding.
  static TowerPrecision vision(DType dtype, AttentionKind kind);
  friend bool operator==(const TowerPrecision&, const TowerPrecision&) = default;
};

// `tower` holds for what belongs to no layer: embeddings, final norm, merger.
struct LayeredPrecision {
  TowerPrecision tower;
  std::vector<TowerPrecision> layers;
  friend bool operator==(const LayeredPrecision&, const LayeredPrecision&) = default;
};

struct Precision {
  LayeredPrecision vision, text;
  DType logits = DType::f32;
  friend bool operator==(const Precision&, const Precision&) = default;
};

}  // namespace fovea
