#include "model/non_finite.h"

#include "base/error.h"
#include "model/elementwise.h"

namespace fovea {

namespace {

constexpr const char* kDamaged = "if it remains, the weights themselves are damaged";

[[noreturn]] void refuse(const LayerName& layer, const std::string& node, DType type) {
  refuse_non_finite(
      fmt::format("{} {}, {} ({})", layer.what, layer.index, node, name_of(type)),
      fmt::format("use --dtype bf16 or fp32 (fp16 overflows beyond 65504), or --precision \"{}.{}=fp32\"; {}",
                  layer.tower, node, kDamaged));
}

[[noreturn]] void refuse_score(const LayerName& layer, const std::string& node, AttentionKind kind,
                               DType type) {
  refuse_non_finite(
      fmt::format("{} {}, {} ({}, {})", layer.what, layer.index, node, name_of(kind), name_of(type)),
      fmt::format(
          "use --preset eager-qk-fp32, which keeps scores in fp32, or --preset sdpa, which never stores "
          "them; {}",
          kDamaged));
}

}  // namespace

void refuse_attention(const LayerName& layer, const TowerPrecision& precision, const AttentionTrace& trace) {
  const AttentionProblem& problem = trace.problem;
  const std::string node = non_finite_node(precision.kind, problem);
  const bool computed = trace.qkv == nullptr ? node != "q" && node != "k" && node != "v"
                                             : all_finite(*problem.context.kernels, trace.qkv,
                                                          problem.q.tokens * trace.qkv_width);
  if (!computed) refuse(layer, "qkv", precision.qkv);
  if (node == "k") refuse(layer, "k_cache", precision.k_cache);
  if (node == "v") refuse(layer, "v_cache", precision.v_cache);
  if (node == "pv") refuse(layer, node, precision.attention.pv);
  if (node == "output") refuse(layer, node, precision.attention.output);
  if (node == "scores") refuse_score(layer, node, precision.kind, precision.attention.scores);
  if (!node.empty()) refuse_score(layer, node, precision.kind, precision.attention.scaled);
  if (!all_finite(*problem.context.kernels, trace.projected, trace.projected_count))
    refuse(layer, "linear", precision.linear);
  refuse(layer, "residual", precision.residual);
}

void refuse_mlp(const Kernels& kernels, const LayerName& layer, const TowerPrecision& precision,
                const MlpTrace& trace) {
  if (!all_finite(kernels, trace.up, trace.inner_count)) refuse(layer, "linear", precision.linear);
  if (!all_finite(kernels, trace.gated, trace.inner_count)) refuse(layer, "mlp", precision.mlp);
  if (!all_finite(kernels, trace.down, trace.down_count)) refuse(layer, "down_proj", precision.down_proj);
  refuse(layer, "residual", precision.residual);
}

}  // namespace fovea
