#include "policy/nodes.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"

namespace fovea {

namespace {

using T = TowerPrecision;
using A = AttentionPrecision;

const std::vector<std::string_view> kStored = {"fp32", "bf16", "fp16"},
                                    kCached = {"fp32", "bf16", "fp16", "int8"},
                                    kComputed = {"fp32", "bf16", "fp16", "fp64"}, kWide = {"fp32", "fp64"},
                                    kSwitch = {"off", "on"};

// Words of each type in the order of its enumerators.
std::string_view word(DType type) { return name_of(type); }
std::string_view word(bool on) { return on ? "on" : "off"; }
std::string_view word(AttentionKind kind) { return name_of(kind); }
std::string_view word(ScalePlacement placement) { return name_of(placement); }
std::string_view word(MaskAdd mask) { return name_of(mask); }
std::string_view word(ScoreShift shift) { return name_of(shift); }
std::string_view word(KCentring centring) { return name_of(centring); }
std::string_view word(Quantization quantization) { return name_of(quantization); }

// The object a member pointer belongs to.
template <typename V>
V& member(T& precision, V T::*pointer) {
  return precision.*pointer;
}
template <typename V>
V& member(T& precision, V A::*pointer) {
  return precision.attention.*pointer;
}

std::vector<Node> make_nodes() {
  return {
      {"attention",
       &T::kind,
       {"eager", "sdpa", "flash_attention_2", "reference"},
       false,
       "implementation; sets every node from scores to output to what it computes"},
      {"weights", &T::weights, kStored, false, "weights and biases of projections; pixels before the first"},
      {"quantization",
       &T::quantization,
       {"none", "w8a8", "int4"},
       false,
       "of a layer's projections: 8 bits for weights and rows, or 4-bit weights in groups of 64; sets "
       "mlp_quantization too"},
      {"mlp_quantization",
       &T::mlp_quantization,
       {"none", "w8a8", "int4"},
       false,
       "quantization of gate, up and down alone"},
      {"head", &T::head, {"none", "w8a8", "int4"}, true, "quantization of the output head"},
      {"norm_statistics", &T::norm_statistics, kWide, false, "RMSNorm: mean of squares and its root"},
      {"norm", &T::norm, kStored, false, "RMSNorm: normalised value, and its product with the weight"},
      {"qkv", &T::qkv, kStored, false, "what the q, k and v projections return, before RoPE"},
      {"rope_angles", &T::rope_angles, kComputed, false,
       "inverse frequencies, and their product with the position"},
      {"rope_tables", &T::rope_tables, kStored, false, "cos and sin"},
      {"rope_steps", &T::rope_steps, kStored, false,
       "fp32: one rounding (to q, k); else both products and the sum"},
      {"q", &T::q, kStored, false, "q as attention sees it, after RoPE"},
      {"k", &T::k, kStored, false, "k as attention sees it, after RoPE; sets k_cache too"},
      {"v", &T::v, kStored, false, "v as attention sees it; sets v_cache too"},
      {"k_cache", &T::k_cache, kCached, true,
       "storage of k in the KV cache; int8 with a scale per token and head"},
      {"v_cache", &T::v_cache, kCached, true, "storage of v in the KV cache; likewise"},
      {"bias_split", &T::bias_split, kSwitch, true,
       "keep k without its bias, add the rotated bias to the scores in fp32"},
      {"k_centring",
       &A::k_centring,
       {"none", "mean", "block256"},
       false,
       "subtract the mean key (of all, or per 256 keys) from k, in fp32, before scores are rounded"},
      {"scores", &A::scores, kComputed, false, "the raw product q.k"},
      {"scale",
       &A::scale,
       {"after", "divide", "before", "split", "fused"},
       false,
       "where 1/sqrt(head_dim) goes: S*c, S/sqrt(d), on q, half on q and half on k, within the product"},
      {"scaled", &A::scaled, kComputed, false,
       "the scaled score and its mask (before, split: the scaled q and k)"},
      {"mask",
       &A::mask,
       {"additive", "skip"},
       true,
       "later keys: add the lowest number of `scaled`, or leave out"},
      {"inf_to_zero", &A::inf_to_zero, kSwitch, true,
       "infinite scores become 0 after the mask (old fp16 eager)"},
      {"score_shift",
       &A::score_shift,
       {"none", "row_max"},
       false,
       "subtract the row's maximum in fp32 before the score is rounded (needs scale=fused)"},
      {"softmax", &A::softmax, kComputed, false, "exponentials, their sum and the quotient"},
      {"probabilities", &A::probabilities, kComputed, false, "P as it meets V"},
      {"normalised", &A::normalised, kSwitch, false,
       "on: P is divided by its sum and then rounded; off: the output is divided"},
      {"pv", &A::pv, kComputed, false, "accumulator of P.V, rounded after every 64 keys"},
      {"output", &A::output, kStored, false, "the attention output"},
      {"linear", &T::linear, kStored, false, "what o, gate, up, the patch embedding and the merger return"},
      {"mlp", &T::mlp, kStored, false, "silu(gate) and its product with up; the merger's GELU"},
      {"down_proj", &T::down_proj, kStored, false, "what the down projection returns"},
      {"residual", &T::residual, kStored, false, "the hidden state between blocks"},
  };
}

template <typename V>
void set_word(V& to, std::string_view value) {
  for (int candidate = 0; candidate < 8; ++candidate) {
    if (word(static_cast<V>(candidate)) == value) {
      to = static_cast<V>(candidate);
      return;
    }
  }
  FOVEA_CHECK(!"a listed value is not a word of its type");
}

[[noreturn]] void refuse_value(std::string_view name, std::string_view value,
                               const std::vector<std::string_view>& values) {
  throw Error(ErrorKind::invalid_argument, fmt::format("{} cannot be '{}'", name, value),
              fmt::format("use one of: {}", fmt::join(values, ", ")));
}

}  // namespace

const char* name_of(Tower tower) { return tower == Tower::text ? "text" : "vision"; }

std::span<const Node> nodes() {
  static const std::vector<Node> table = make_nodes();
  return table;
}

const Node& node_named(std::string_view name, Tower tower) {
  std::vector<std::string_view> names;
  for (const Node& node : nodes()) {
    const bool fits = tower == Tower::text || !node.text_only;
    if (fits) names.emplace_back(node.name);
    if (node.name != name) continue;
    if (fits) return node;
    throw Error(ErrorKind::invalid_argument, fmt::format("the vision tower has no node '{}'", name),
                "it keeps no keys and has no mask: say it for text, or leave it out");
  }
  throw Error(ErrorKind::invalid_argument, fmt::format("there is no node '{}'", name),
              fmt::format("the nodes of {} are {}; beside them there is only logits", name_of(tower),
                          fmt::join(names, ", ")));
}

void set_node(TowerPrecision& precision, const Node& node, std::string_view value) {
  if (std::find(node.values.begin(), node.values.end(), value) == node.values.end()) {
    refuse_value(node.name, value, node.values);
  }
  std::visit([&](auto pointer) { set_word(member(precision, pointer), value); }, node.member);
  if (node.member == Node::Member(&T::k)) precision.k_cache = precision.k;
  if (node.member == Node::Member(&T::v)) precision.v_cache = precision.v;
  if (node.member == Node::Member(&T::quantization)) precision.mlp_quantization = precision.quantization;
}

std::string value_of(const TowerPrecision& precision, const Node& node) {
  T copy = precision;
  return std::visit([&](auto pointer) { return std::string(word(member(copy, pointer))); }, node.member);
}

DType parse_node_dtype(std::string_view name, std::string_view value) {
  if (std::find(kStored.begin(), kStored.end(), value) == kStored.end()) refuse_value(name, value, kStored);
  return parse_dtype(value);
}

}  // namespace fovea
