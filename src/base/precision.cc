#include "base/precision.h"

#include <string>

#include "base/error.h"

namespace fovea {

const char* name_of(AttentionKind kind) {
  switch (kind) {
    case AttentionKind::eager:
      return "eager";
    case AttentionKind::sdpa:
      return "sdpa";
    case AttentionKind::flash_attention_2:
      return "flash_attention_2";
    case AttentionKind::reference:
      return "reference";
  }
  return "?";
}

AttentionKind parse_attention(std::string_view name) {
  for (const AttentionKind kind : {AttentionKind::eager, AttentionKind::sdpa,
                                   AttentionKind::flash_attention_2, AttentionKind::reference}) {
    if (name == name_of(kind)) return kind;
  }
  throw Error(ErrorKind::invalid_argument, "unknown attention '" + std::string(name) + "'",
              "use eager, sdpa or flash_attention_2 (or reference: f64, slow)");
}

const char* name_of(ScalePlacement placement) {
  switch (placement) {
    case ScalePlacement::after:
      return "after";
    case ScalePlacement::divide:
      return "divide";
    case ScalePlacement::before:
      return "before";
    case ScalePlacement::split:
      return "split";
    case ScalePlacement::fused:
      return "fused";
  }
  return "?";
}

const char* name_of(MaskAdd mask) { return mask == MaskAdd::additive ? "additive" : "skip"; }

const char* name_of(ScoreShift shift) { return shift == ScoreShift::none ? "none" : "row_max"; }

const char* name_of(Quantization quantization) {
  switch (quantization) {
    case Quantization::none:
      return "none";
    case Quantization::w8a8:
      return "w8a8";
    case Quantization::int4:
      return "int4";
  }
  return "?";
}

const char* name_of(KCentring centring) {
  switch (centring) {
    case KCentring::none:
      return "none";
    case KCentring::mean:
      return "mean";
    case KCentring::block256:
      return "block256";
  }
  return "?";
}

AttentionPrecision AttentionPrecision::of(AttentionKind kind, DType dtype) {
  AttentionPrecision p;
  p.output = dtype;
  switch (kind) {
    case AttentionKind::eager:
      p.scores = p.scaled = p.probabilities = dtype;
      p.scale = ScalePlacement::after;
      p.mask = MaskAdd::additive;
      p.normalised = true;
      break;
    case AttentionKind::sdpa:
      break;
    case AttentionKind::flash_attention_2:
      p.probabilities = dtype;
      break;
    case AttentionKind::reference:
      p.scores = p.scaled = p.softmax = p.probabilities = p.pv = DType::f64;
      p.normalised = true;
      break;
  }
  return p;
}

TowerPrecision TowerPrecision::text(DType dtype, AttentionKind kind) {
  TowerPrecision t;
  t.kind = kind;
  for (DType* node : {&t.weights, &t.qkv, &t.rope_tables, &t.rope_steps, &t.q, &t.k, &t.v, &t.k_cache,
                      &t.v_cache, &t.linear, &t.norm, &t.mlp, &t.down_proj, &t.residual}) {
    *node = dtype;
  }
  t.attention = AttentionPrecision::of(kind, dtype);
  return t;
}

TowerPrecision TowerPrecision::vision(DType dtype, AttentionKind kind) {
  TowerPrecision t = text(dtype, kind);
  t.rope_tables = t.rope_steps = DType::f32;
  t.attention.mask = MaskAdd::skip;  // segments take the mask's place
  return t;
}

}  // namespace fovea
