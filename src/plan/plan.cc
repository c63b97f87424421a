#include "plan/plan.h"

#include <algorithm>

#include "model/decoder.h"
#include "model/kv_cache.h"
#include "model/vision_tower.h"

namespace fovea {

namespace {

constexpr int64_t kFloat = sizeof(float);
// Pages of the program and its libraries, stacks of workers and small blocks that the work itself makes
// resident: 1 MB with text alone and 2.5 MB with pictures by tools/check_plan.py.
constexpr int64_t kLaterPages = 3 << 20;

// The type in which the model wants a tensor (VisionTower, Decoder).
DType wanted_type(const std::string& name, const Precision& precision) {
  const auto layered = [&](const std::string& prefix, const LayeredPrecision& tower) {
    if (!name.starts_with(prefix)) return tower.tower.weights;
    return tower.layers.at(std::stoul(name.substr(prefix.size()))).weights;
  };
  if (name.starts_with("model.visual.")) return layered("model.visual.blocks.", precision.vision);
  return layered("model.language_model.layers.", precision.text);
}

// Matrices that WeightStore converts; vectors are small.
int64_t converted_bytes(const Checkpoint& checkpoint, const Precision& precision) {
  int64_t bytes = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    const DType wanted = wanted_type(tensor.name, precision);
    if (tensor.shape.size() < 2 || wanted == DType::f32 || wanted == tensor.dtype) continue;
    bytes += tensor.elements() * static_cast<int64_t>(bytes_of(wanted));
  }
  return bytes;
}

// A still picture's file, at most as large as its pixels, and the pixels exist together before its patches
// do; then the pixels beside the patches while they are resampled in two passes. Of a video a few frames
// exist.
int64_t decoding_bytes(const Picture& picture, int64_t patches) {
  const int64_t original = picture.original_height * picture.original_width * 3;
  const int64_t between = picture.original_height * picture.resized_width * 3;
  const int64_t resampling = original + between + picture.resized_height * picture.resized_width * 3;
  return std::max(resampling, picture.is_video ? 0 : 2 * original - patches);
}

void plan_pictures(const VisionConfig& config, const LayeredPrecision& vision, const PlanRequest& request,
                   Plan& plan) {
  int64_t largest = 0;
  for (const PlanPicture& picture : request.pictures) {
    const Grid& grid = picture.measured.grid;
    plan.image_tokens += picture.measured.tokens(config.spatial_merge_size);
    const int64_t patches = grid.patches() * config.patch_dim() * kFloat;
    plan.patches += patches;
    plan.decoding = std::max(plan.decoding, decoding_bytes(picture.measured, patches));
    const int64_t groups =
        frame_groups_at_once(config, vision, grid, request.vision_budget_bytes, request.guard);
    const CallMemory call = VisionTower::memory(config, vision, {groups, grid.h, grid.w}, request.guard);
    if (call.peak() <= largest) continue;
    largest = call.peak();
    const bool merging = call.merging == largest;
    plan.vision_attention = merging ? 0 : call.attention;
    plan.vision_activations = largest - plan.vision_attention;
  }
  plan.embeddings = plan.image_tokens * config.out_hidden_size * kFloat;
}

// The cache grows page by page: while the prompt is read it holds the prompt, at the end the answer too.
void plan_text(const TextConfig& config, const LayeredPrecision& text, const PlanRequest& request,
               Plan& plan) {
  const int64_t chunk = request.prefill_chunk > 0 ? request.prefill_chunk : plan.prompt_tokens;
  const int64_t rows = std::min(chunk, plan.prompt_tokens);
  const auto call = [&](int64_t count, int64_t keys) {
    CallMemory memory = Decoder::memory(config, text, count, keys, request.guard);
    memory.activations += rows * config.hidden_size * kFloat;  // the runner's own copy of the hidden states
    return memory;
  };
  const CallMemory prefill = call(rows, plan.prompt_tokens), decode = call(1, plan.context);
  const int64_t prompt_cache = KvCache::bytes_for(config, plan.prompt_tokens, text.layers),
                whole_cache = KvCache::bytes_for(config, plan.context, text.layers);
  const bool at_end = whole_cache + decode.peak() > prompt_cache + prefill.peak();
  const CallMemory& larger = at_end ? decode : prefill;
  plan.kv_cache = at_end ? whole_cache : prompt_cache;
  plan.attention = larger.attention;  // the scratch of projections, where it is larger, counts as activations
  plan.activations = larger.peak() - plan.attention;
  plan.logits = config.vocab_size * kFloat;
}

}  // namespace

int64_t Plan::peak() const { return std::max({preprocessing(), encoding(), generating()}); }

const char* Plan::peak_phase() const {
  if (peak() == generating()) return "generating";
  return peak() == encoding() ? "encoding" : "preprocessing";
}

Plan make_plan(const Checkpoint& checkpoint, const Precision& precision, const PlanRequest& request) {
  const ModelConfig& config = checkpoint.config();
  Plan plan;
  plan.process = request.process_bytes + kLaterPages;
  for (const TensorInfo& tensor : checkpoint.tensors()) plan.weights += tensor.bytes();
  plan.converted_weights = converted_bytes(checkpoint, precision);
  plan_pictures(config.vision, precision.vision, request, plan);
  plan.prompt_tokens = request.text_tokens + plan.image_tokens;
  plan.context = plan.prompt_tokens + request.answer_tokens;
  plan_text(config.text, precision.text, request, plan);
  return plan;
}

}  // namespace fovea
