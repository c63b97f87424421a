#include "audit/description.h"

#include <fmt/format.h>

#include <map>

namespace fovea {

namespace {

bool is_low(DType type) { return type == DType::bf16 || type == DType::f16; }

// Of an eager attention: what is rounded on the way from the product to the probabilities.
std::string scores_of(const TowerPrecision& tower) {
  const AttentionPrecision& a = tower.attention;
  std::string text;
  if (is_low(a.scores) && is_low(a.scaled)) {
    text = fmt::format("attention scores rounded to {} before softmax", name_of(a.scaled));
  } else if (is_low(a.scores)) {
    text = fmt::format("the product of q and k rounded to {} before it is scaled", name_of(a.scores));
  } else if (is_low(a.scaled)) {
    text = fmt::format("scaled attention scores rounded to {} before softmax", name_of(a.scaled));
  } else {
    text = fmt::format("attention scores kept in {}", name_of(a.scaled));
  }
  if (a.score_shift == ScoreShift::row_max) text += ", less their row's maximum";
  if (a.k_centring == KCentring::mean) text += ", the mean key subtracted";
  if (a.k_centring == KCentring::block256) text += ", the mean key of each 256 subtracted";
  if (a.inf_to_zero) text += ", infinite ones made 0";
  if (is_low(a.probabilities)) text += fmt::format(", probabilities rounded to {}", name_of(a.probabilities));
  return text;
}

std::string attention_of(const TowerPrecision& tower) {
  std::string text;
  switch (tower.kind) {
    case AttentionKind::eager:
      text = scores_of(tower);
      break;
    case AttentionKind::sdpa:
      text = "attention in fp32 between its inputs and its output (sdpa)";
      break;
    case AttentionKind::flash_attention_2:
      text = "attention scores in fp32";
      if (is_low(tower.attention.probabilities)) {
        text += fmt::format(", probabilities rounded to {}", name_of(tower.attention.probabilities));
      }
      text += " (FlashAttention-2)";
      break;
    case AttentionKind::reference:
      text = "attention in fp64";
      break;
  }
  if (tower.bias_split) text += ", the keys' bias added in fp32";
  return text;
}

// Weights, keys and values in fewer bits than the rest. The vision tower keeps no keys and values.
std::string storage_of(const TowerPrecision& tower, bool keeps_keys) {
  std::string text;
  const auto bits = [](Quantization quantization) { return quantization == Quantization::int4 ? 4 : 8; };
  if (tower.mlp_quantization != Quantization::none && tower.mlp_quantization == tower.quantization) {
    text += fmt::format(", weights in {} bits", bits(tower.quantization));
  } else {
    if (tower.quantization != Quantization::none)
      text += fmt::format(", attention's weights in {} bits", bits(tower.quantization));
    if (tower.mlp_quantization != Quantization::none)
      text += fmt::format(", the MLP's weights in {} bits", bits(tower.mlp_quantization));
  }
  if (keeps_keys && (tower.k_cache != tower.k || tower.v_cache != tower.v)) {
    text +=
        tower.k_cache == tower.v_cache
            ? fmt::format(", keys and values kept in {}", name_of(tower.k_cache))
            : fmt::format(", keys kept in {}, values in {}", name_of(tower.k_cache), name_of(tower.v_cache));
  }
  return text;
}

// A tower of which not all layers are alike: most of them, and how many are otherwise.
struct TowerLine {
  std::string usual, exceptions;
};

TowerLine line_of(const LayeredPrecision& tower, bool keeps_keys) {
  const auto say = [&](const TowerPrecision& layer) {
    return attention_of(layer) + storage_of(layer, keeps_keys);
  };
  std::map<std::string, size_t> lines;
  for (const TowerPrecision& layer : tower.layers) ++lines[say(layer)];
  TowerLine line{say(tower.tower), ""};
  size_t most = 0;
  for (const auto& [text, count] : lines) {
    if (count <= most) continue;
    most = count;
    line.usual = text;
  }
  if (most < tower.layers.size()) {
    line.exceptions =
        fmt::format(" ({} of {} layers otherwise)", tower.layers.size() - most, tower.layers.size());
  }
  return line;
}

}  // namespace

std::string describe(const Precision& precision, GuardMode guard) {
  const TowerLine text = line_of(precision.text, true), vision = line_of(precision.vision, false);
  const DType dtype = precision.text.tower.linear;
  std::string line = fmt::format("{}; {}{}", dtype == DType::f32 ? "all in fp32" : name_of(dtype), text.usual,
                                 text.exceptions);
  if (vision.usual != text.usual || vision.exceptions != text.exceptions || !vision.exceptions.empty()) {
    line += fmt::format("; vision tower: {}{}", vision.usual, vision.exceptions);
  }
  if (guard == GuardMode::escalate) line += "; rows at risk computed again with scores in fp32";
  return line;
}

}  // namespace fovea
