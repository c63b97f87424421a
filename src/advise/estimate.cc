#include "advise/estimate.h"

#include <algorithm>

#include "bench/amounts.h"

namespace fovea {

namespace {

// Shares of the machine's limits that whole runs of the 3B shape reached; docs/measurements/speed.md,
// "Figures", "Other machines" and "A machine without bf16". Where it has a range, the lower end.
struct Shares {
  double prefill, vision, decode;
};
constexpr Shares kPlain{0.82, 0.77, 0.80};        // prefill of 512; one 1344 x 1344 image; decode behind 512
constexpr Shares kWithoutBf16{0.60, 0.59, 0.77};  // 3484 tokens; 2 x 6912 patches; decode
// Prefill and vision of Zen 4: 1.80 and 1.39 x the bf16 time at twice the bf16 rate.
constexpr Shares kInt8{0.75, 0.54, 0.79};
// Prefill: as int8, less in the proportion of the linear layers alone (85 % against 94 %). The vision tower
// is never in 4 bits in a preset; where a policy says so, it takes the share of int8.
constexpr Shares kInt4{0.67, 0.54, 0.67};
constexpr double kAttention = 0.75;             // 512 queries against 2,048 keys
constexpr double kAttentionWithoutBf16 = 0.60;  // as the whole prefill there

bool native(const Machine& machine, DType type) { return type == DType::bf16 && machine.native_bf16; }

Shares shares_of(Quantization quantization, DType type, const Machine& machine) {
  if (quantization == Quantization::w8a8) return kInt8;
  if (quantization == Quantization::int4) return kInt4;
  return native(machine, type) ? kPlain : kWithoutBf16;
}

// Operations a second of products with weights of this form, at their limit.
double rate_of(Quantization quantization, DType type, const Machine& machine) {
  const bench::Limits& limits = machine.measured.limits;
  if (quantization != Quantization::none) return limits.int8_gops * 1e9;
  return (native(machine, type) ? limits.bf16_gflops : limits.fp32_gflops) * 1e9;
}

// Layers are counted by the form of their MLP, three quarters of their weights.
double prefill_seconds(const TextConfig& config, const LayeredPrecision& text, int64_t tokens,
                       const Machine& machine) {
  const double projections = static_cast<double>(tokens) * bench::projection_operations(config);
  double seconds = 0;
  for (const TowerPrecision& layer : text.layers) {
    seconds += projections / static_cast<double>(text.layers.size()) /
               (rate_of(layer.mlp_quantization, layer.weights, machine) *
                shares_of(layer.mlp_quantization, layer.weights, machine).prefill);
  }
  const DType type = text.tower.weights;
  const double others = bench::prefill_operations(config, tokens) - projections;
  return seconds + others / (rate_of(Quantization::none, type, machine) *
                             (native(machine, type) ? kAttention : kAttentionWithoutBf16));
}

double vision_seconds(const VisionConfig& config, const LayeredPrecision& vision, const PlanRequest& request,
                      const Plan& plan, const Machine& machine) {
  const TowerPrecision& block = vision.layers.front();
  double operations = 0;
  int64_t tokens = 0;
  for (const PlanPicture& picture : request.pictures) {
    const Grid& grid = picture.measured.grid;  // attention never crosses a frame group
    operations += static_cast<double>(grid.t) * bench::vision_operations(config, {1, grid.h, grid.w});
    tokens += picture.measured.tokens(config.spatial_merge_size);
  }
  if (tokens == 0) return 0;
  return operations * static_cast<double>(plan.image_tokens) / static_cast<double>(tokens) /
         (rate_of(block.mlp_quantization, block.weights, machine) *
          shares_of(block.mlp_quantization, block.weights, machine).vision);
}

}  // namespace

Estimate estimate(const ModelConfig& config, const Precision& precision, const PlanRequest& request,
                  const Plan& plan, int64_t weight_bytes, const Machine& machine) {
  Estimate result;
  result.vision_s = vision_seconds(config.vision, precision.vision, request, plan, machine);
  result.prefill_s = prefill_seconds(config.text, precision.text, plan.prompt_tokens, machine);
  const TowerPrecision& middle = precision.text.layers[precision.text.layers.size() / 2];
  const int64_t depth = (plan.prompt_tokens + plan.context) / 2;
  result.token_s = bench::decode_bytes(config.text, precision.text, depth) /
                   (machine.measured.limits.read_gbps * 1e9 *
                    shares_of(middle.mlp_quantization, middle.weights, machine).decode);
  const double disk = machine.disk_gbps * 1e9;
  if (plan.streamed) {
    result.prefill_s = std::max(result.prefill_s, static_cast<double>(weight_bytes) / disk);
  }
  const int64_t read = plan.fetched_per_token + plan.kv_disk;
  if (read > 0) result.token_s = std::max(result.token_s, static_cast<double>(read) / disk);
  return result;
}

}  // namespace fovea
