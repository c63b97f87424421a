#include "policy/validate.h"

#include "base/error.h"
#include "policy/nodes.h"

namespace fovea {

namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& what, const std::string& remedy) {
  throw Error(ErrorKind::invalid_argument, where + ": " + what, remedy);
}

// The fused implementations hold most nodes in registers: those have one value.
void check_fused(const TowerPrecision& precision, const std::string& where) {
  TowerPrecision only = precision;
  only.attention = AttentionPrecision::of(precision.kind, precision.attention.output);
  if (precision.kind == AttentionKind::flash_attention_2) {
    only.attention.probabilities = precision.attention.probabilities;
    if (precision.attention.probabilities == DType::f64) {
      refuse(where, "probabilities=fp64 with attention=flash_attention_2, which computes in fp32",
             "use fp32, bf16 or fp16, or attention=reference");
    }
  }
  for (const Node& node : nodes()) {
    const std::string wanted = value_of(precision, node), possible = value_of(only, node);
    if (wanted == possible) continue;
    refuse(where,
           fmt::format("{}={} with attention={}, which never stores it: there it is always {}", node.name,
                       wanted, name_of(precision.kind), possible),
           fmt::format("leave {} out, or use attention=eager, which stores every node", node.name));
  }
}

void check_eager(const AttentionPrecision& a, const std::string& where) {
  const std::pair<const char*, DType> computed[] = {{"scores", a.scores},
                                                    {"scaled", a.scaled},
                                                    {"softmax", a.softmax},
                                                    {"probabilities", a.probabilities},
                                                    {"pv", a.pv}};
  for (const auto& [name, type] : computed) {
    if (type != DType::f64) continue;
    refuse(where, fmt::format("{}=fp64 with attention=eager, which computes in fp32", name),
           "use fp32, or attention=reference, which has all of attention in fp64");
  }
  if (a.scale == ScalePlacement::fused && a.scores != DType::f32) {
    refuse(where,
           fmt::format("scores={} with scale=fused, which never rounds the product on its own",
                       name_of(a.scores)),
           "set scaled instead, or use scale=after");
  }
  if (a.inf_to_zero && (a.scaled != DType::f16 || a.mask != MaskAdd::additive)) {
    refuse(where, "inf_to_zero=on without scaled=fp16 and mask=additive: the patch existed for them only",
           "leave inf_to_zero out, or start from --preset eager-fp16-old");
  }
}

// Cures of stored scores, where nothing is stored or where something is rounded before they come.
void check_cures(const TowerPrecision& precision, const std::string& where) {
  const AttentionPrecision& a = precision.attention;
  const bool shifted = a.score_shift != ScoreShift::none, centred = a.k_centring != KCentring::none;
  const std::string shift = fmt::format("score_shift={}", name_of(a.score_shift)),
                    centre = fmt::format("k_centring={}", name_of(a.k_centring));
  if (precision.kind != AttentionKind::eager && (shifted || centred)) {
    refuse(where,
           fmt::format("{} with attention={}, which never stores scores: there is nothing to cure",
                       shifted ? shift : centre, name_of(precision.kind)),
           "leave it out, or use attention=eager");
  }
  if (shifted && centred) {
    refuse(where, fmt::format("{} with {}: both take away a part that all keys share", shift, centre),
           "keep one of the two; score_shift leaves less");
  }
  if (shifted && a.scale != ScalePlacement::fused) {
    refuse(where,
           fmt::format("{} with scale={}, which rounds before the row's maximum is known", shift,
                       name_of(a.scale)),
           "add scale=fused,scores=fp32, or start from --preset eager-bf16-maxshift");
  }
  if (shifted && a.inf_to_zero) {
    refuse(where, fmt::format("{} with inf_to_zero=on: a score far below the maximum would become it", shift),
           "leave inf_to_zero out");
  }
}

}  // namespace

void check_nodes(const TowerPrecision& precision, const std::string& where) {
  check_cures(precision, where);
  if (precision.kind == AttentionKind::eager) {
    check_eager(precision.attention, where);
  } else {
    check_fused(precision, where);
  }
}

}  // namespace fovea
