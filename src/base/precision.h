// The dtype at every node of the computation, handed down explicitly. Activations live in f32 containers and
// are rounded to the node's dtype where the reference would store them; kernels accumulate in f32 everywhere.
#pragma once

#include "base/dtype.h"

namespace fovea {

struct AttentionPrecision {
  DType scores;  // eager only: Q.K^T, its scaling and its mask add are each rounded to this
  DType
      probabilities;  // eager: normalised P; flash_attention_2: the unnormalised exp(S - m); sdpa keeps fp32
  DType output;       // the attention output
  friend bool operator==(const AttentionPrecision&, const AttentionPrecision&) = default;
};

struct TowerPrecision {
  DType linear;       // what a projection's operands and its output are rounded to
  DType norm;         // RMSNorm: the normalised value and its product with the weight (statistics are fp32)
  DType rope_tables;  // cos and sin
  DType rope_steps;   // fp32: one rounding of the rotated value; else each product and the sum are rounded
  DType rotated;      // q and k after RoPE
  DType mlp;          // silu(gate) and its product with up
  DType residual;     // the hidden state between blocks
  DType kv_cache;     // storage of K and V (text only)
  AttentionPrecision attention;
  friend bool operator==(const TowerPrecision&, const TowerPrecision&) = default;
};

struct Precision {
  TowerPrecision vision, text;
  DType logits;

  // What transformers computes when every module has this dtype: the vision tower rotates in fp32 with one
  // rounding, the text tower with tables and three roundings in the model dtype.
  static Precision uniform(DType dtype) {
    const AttentionPrecision attention{dtype, dtype, dtype};
    TowerPrecision text{dtype, dtype, dtype, dtype, dtype, dtype, dtype, dtype, attention};
    TowerPrecision vision = text;
    vision.rope_tables = DType::f32;
    vision.rope_steps = DType::f32;
    return {vision, text, dtype};
  }
};

}  // namespace fovea
