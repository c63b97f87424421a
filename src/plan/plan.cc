#include "plan/plan.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/error.h"
#include "model/converted_weights.h"
#include "model/decoder.h"
#include "model/kv_cache.h"
#include "model/vision_tower.h"
#include "model/weight_nodes.h"

namespace fovea {

namespace {

constexpr int64_t kFloat = sizeof(float);
// Pages of the program and its libraries, stacks of workers and small blocks that the work itself makes
// resident: 1 MB with text alone and 2.5 MB with pictures by tools/check_plan.py.
constexpr int64_t kLaterPages = 3 << 20;
// What MPI_Init_thread and one reduction add to an otherwise empty program (Open MPI 4.1, two ranks of one
// host: 7.7 MB; four: 10.1 MB). It begins after the plan is made.
constexpr int64_t kMpiPages = 7'700'000;

// Whether a rank reads the whole of a tensor. Of the embedding rows are looked up one by one, unless it is
// the output head, too.
bool holds(const HeldParts& held, const TensorInfo& tensor) {
  constexpr std::string_view kVision = "model.visual.", kLayers = "model.language_model.layers.";
  const std::string_view name = tensor.name;
  if (name.starts_with(kVision)) return held.vision;
  if (!name.starts_with(kLayers)) return held.head;
  int64_t layer = 0;
  std::from_chars(name.data() + kLayers.size(), name.data() + name.size(), layer);
  return held.layer(layer);
}

LayeredPrecision held_layers(const LayeredPrecision& text, const HeldParts& held) {
  LayeredPrecision own = text;
  own.layers.clear();
  for (size_t i = 0; i < text.layers.size(); ++i) {
    if (held.layer(static_cast<int64_t>(i))) own.layers.push_back(text.layers[i]);
  }
  return own;
}

int64_t converted_bytes(const Checkpoint& checkpoint, const Precision& precision, const HeldParts& held) {
  return ConvertedWeights(checkpoint, precision,
                          [&](const TensorInfo& tensor) { return holds(held, tensor); })
      .bytes();
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

// The rank that asks has all pictures, the vision tower's one after the other.
void keep_part_of_pictures(const VisionConfig& config, const RankPart& part,
                           const std::vector<PlanPicture>& pictures, Plan& plan) {
  if (!part.held.vision) plan.vision_activations = plan.vision_attention = 0;
  if (part.asks) return;
  int64_t patches = 0, tokens = 0;
  for (const PlanPicture& picture : pictures) {
    patches = std::max(patches, picture.measured.grid.patches());
    tokens = std::max(tokens, picture.measured.tokens(config.spatial_merge_size));
  }
  plan.decoding = plan.patches = 0;
  plan.embeddings = part.held.vision ? tokens * config.out_hidden_size * kFloat : 0;
  if (part.held.vision) plan.vision_activations += patches * config.patch_dim() * kFloat;
}

// Returns the scratch of the largest projection.
int64_t plan_pictures(const VisionConfig& config, const LayeredPrecision& vision, const PlanRequest& request,
                      Plan& plan) {
  int64_t largest = 0, products = 0;
  for (const PlanPicture& picture : request.pictures) {
    const Grid& grid = picture.measured.grid;
    plan.image_tokens += picture.measured.tokens(config.spatial_merge_size);
    const int64_t patches = grid.patches() * config.patch_dim() * kFloat;
    plan.patches += patches;
    plan.decoding = std::max(plan.decoding, decoding_bytes(picture.measured, patches));
    const int64_t groups =
        frame_groups_at_once(config, vision, grid, request.vision_budget_bytes, request.guard);
    const CallMemory call = VisionTower::memory(config, vision, {groups, grid.h, grid.w}, request.guard);
    products = std::max(products, call.products);
    if (call.peak() <= largest) continue;
    largest = call.peak();
    const bool merging = call.merging == largest;
    plan.vision_attention = merging ? 0 : call.attention;
    plan.vision_activations = largest - plan.vision_attention;
  }
  plan.embeddings = plan.image_tokens * config.out_hidden_size * kFloat;
  if (request.part) keep_part_of_pictures(config, *request.part, request.pictures, plan);
  return products;
}

// The decoder keeps its working memory from call to call, so that at the end it stands beside the whole
// cache, and so does the scratch of the vision tower's largest projection.
void plan_text(const TextConfig& config, const LayeredPrecision& text, const PlanRequest& request,
               int64_t products, Plan& plan) {
  const int64_t chunk = request.prefill_chunk > 0 ? request.prefill_chunk : plan.prompt_tokens;
  const bool layer_by_layer = plan.streamed || plan.kv_limit;
  const int64_t rows = std::min(chunk, plan.prompt_tokens),
                pieces = layer_by_layer ? (plan.prompt_tokens + rows - 1) / rows : 1;
  const CallMemory prefill = Decoder::memory(config, text, rows, plan.prompt_tokens, request.guard, pieces),
                   decode = Decoder::memory(config, text, 1, plan.context, request.guard);
  const KvState cache = KvCache::state_for(config, plan.context, text.layers, plan.kv_limit, request.guard);
  plan.kv_cache = cache.bytes;
  plan.kv_disk = cache.disk_bytes;
  plan.attention = std::max(prefill.attention, decode.attention);
  // With the runner's own copy of the hidden states; of all tokens when each layer is passed once.
  const int64_t hidden = layer_by_layer ? plan.prompt_tokens : rows;
  plan.activations = hidden * config.hidden_size * kFloat;
  if (!text.layers.empty()) plan.activations += prefill.activations + std::max(products, prefill.products);
  if (request.all_logits) plan.activations += (hidden - rows) * config.hidden_size * kFloat;  // normed
  plan.logits = (request.all_logits ? plan.prompt_tokens : 1) * config.vocab_size * kFloat;
  if (request.part && !request.part->asks && !request.part->held.head) plan.logits = 0;
}

// Keys and values for which there is no room go to disk. Working layer by layer takes memory, too.
void offload_kv(const TextConfig& config, const LayeredPrecision& text, const PlanRequest& request,
                int64_t products, Plan& plan) {
  if (!request.kv_offload || (request.ram && plan.peak() <= *request.ram)) return;
  plan.kv_limit = 0;
  plan_text(config, text, request, products, plan);
  if (!request.ram) return;
  plan.kv_limit = std::max<int64_t>(*request.ram - (plan.generating() - plan.kv_cache), 0);
  plan_text(config, text, request, products, plan);
}

bool quantizes(const Precision& precision) {
  const auto any = [](const LayeredPrecision& tower) {
    return std::any_of(tower.layers.begin(), tower.layers.end(), [](const TowerPrecision& nodes) {
      return nodes.quantization != Quantization::none || nodes.mlp_quantization != Quantization::none;
    });
  };
  return any(precision.text) || any(precision.vision) || precision.text.tower.head != Quantization::none;
}

// The largest group's conversions, which exist while it computes.
int64_t converted_at_once(const WeightGroups& groups, const Precision& precision,
                          const Checkpoint& checkpoint) {
  int64_t largest = 0;
  for (const WeightGroup& group : groups.all()) {
    int64_t bytes = 0;
    for (const GroupPart& part : group.parts) {
      const DType type = wanted_weight(part.tensor->name, precision, checkpoint).type;
      if (type == DType::f32 || type == part.tensor->dtype) continue;
      bytes += part.rows * (part.tensor->elements() / part.tensor->shape[0]) *
               static_cast<int64_t>(bytes_of(type));
    }
    largest = std::max(largest, bytes);
  }
  return largest;
}

// Fills what the request leaves of the limit with weights; with the least there can be where that is more.
void stream_weights(const Checkpoint& checkpoint, const Precision& precision, const PlanRequest& request,
                    int64_t products, Plan& plan) {
  const WeightGroups groups(checkpoint);
  plan.streamed = true;
  plan.weights = 0;
  plan.converted_weights = converted_at_once(groups, precision, checkpoint);
  plan_text(checkpoint.config().text, precision.text, request, products, plan);
  if (request.ranks > 0 && !request.share_on_disk) {
    plan.weight_share = zero_share(checkpoint, groups, request.ranks - 1, request.ranks);
  }
  const auto room = [&](const GroupRange& range, int64_t others) {
    const int64_t least = least_residency(groups, range);
    return request.ranks > 0 ? least : std::max(*request.ram - others, least);
  };
  plan.weight_limit = {room(groups.vision(), plan.encoding()), room(groups.text(), plan.generating())};
  Residency residency{std::vector<bool>(groups.all().size()), 0, 0};
  if (!request.pictures.empty()) {
    residency = choose_residency(groups, groups.vision(), residency.kept, plan.weight_limit.vision);
    plan.vision_weights = residency.bytes();
  }
  residency = choose_residency(groups, groups.text(), residency.kept, plan.weight_limit.text);
  plan.text_weights = residency.bytes();
  for (int64_t g = groups.text().first; g < groups.text().last; ++g) {
    if (!residency.kept[static_cast<size_t>(g)]) plan.fetched_per_token += groups[g].bytes;
  }
}

}  // namespace

int64_t Plan::peak() const { return std::max({preprocessing(), encoding(), generating()}); }

const char* Plan::peak_phase() const {
  if (peak() == generating()) return "generating";
  return peak() == encoding() ? "encoding" : "preprocessing";
}

bool shareable(const Checkpoint& checkpoint, const Precision& precision) {
  return !quantizes(precision) && !checkpoint.quantized();
}

Plan make_plan(const Checkpoint& checkpoint, const Precision& precision, const PlanRequest& request) {
  const ModelConfig& config = checkpoint.config();
  Plan plan;
  HeldParts held = request.part ? request.part->held : HeldParts();
  // All ranks open the checkpoint, and each reads what it uses alone.
  if (request.part && request.pictures.empty()) held.vision = false;
  const LayeredPrecision text = held_layers(precision.text, held);
  plan.process = request.process_bytes + kLaterPages + (request.ranks > 1 || request.part ? kMpiPages : 0);
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (holds(held, tensor)) plan.weights += tensor.bytes();
  }
  plan.converted_weights = converted_bytes(checkpoint, precision, held);
  if (request.quantized_folder_bytes) {
    plan.weights = *request.quantized_folder_bytes;
    plan.converted_weights = 0;
  }
  const int64_t products = plan_pictures(config.vision, precision.vision, request, plan);
  plan.prompt_tokens = request.text_tokens + plan.image_tokens;
  plan.context = plan.prompt_tokens + request.answer_tokens;
  plan_text(config.text, text, request, products, plan);
  offload_kv(config.text, text, request, products, plan);
  plan.ranks = request.ranks;
  if (request.ranks > 0 && !shareable(checkpoint, precision)) {
    throw Error(ErrorKind::unsupported, "ranks share weights as they are stored, and none that are quantized",
                "leave --zero-stage and --ranks out, or the quantization");
  }
  if (request.ranks > 0) {
    stream_weights(checkpoint, precision, request, products, plan);
  } else if (request.ram && plan.peak() > *request.ram && shareable(checkpoint, precision)) {
    Plan streamed = plan;
    stream_weights(checkpoint, precision, request, products, streamed);
    if (streamed.peak() < plan.peak())
      plan = streamed;  // a long prompt can need more than small weights give
  }
  return plan;
}

}  // namespace fovea
