// VisionTower::memory and Decoder::memory: the allocations of vision_tower.cc and decoder.cc, name by name.
#include "model/call_memory.h"

#include "model/decoder.h"
#include "model/linear.h"
#include "model/vision_pieces.h"
#include "model/vision_tower.h"
#include "model/window_index.h"

namespace fovea {

namespace {

constexpr int64_t kFloat = sizeof(float);

HeadsView heads_view(DType stored, int64_t tokens, int64_t heads, int64_t head_dim, int64_t stride,
                     DType values) {
  return {nullptr, stored, tokens, heads, head_dim, stride, values};
}

int64_t bytes_of_order(const WindowOrder& order) {
  const auto places =
      order.merged_from.capacity() + order.window_bounds.capacity() + order.frame_bounds.capacity();
  const auto coordinates = order.patch_y.capacity() + order.patch_x.capacity();
  return static_cast<int64_t>(places * sizeof(int64_t) + coordinates * sizeof(int32_t));
}

// The largest of the projections of a layer, for `rows` rows: q, k, v read `width` inputs, down reads
// `inner`.
int64_t products(const Context& context, const TowerPrecision& nodes, int64_t rows, int64_t width,
                 int64_t attended, int64_t inner) {
  return std::max(
      {Linear::scratch_bytes(context, {nodes.weights, nodes.norm, nodes.qkv, nodes.quantization}, rows,
                             width),
       Linear::scratch_bytes(context,
                             {nodes.weights, nodes.attention.output, nodes.linear, nodes.quantization}, rows,
                             attended),
       Linear::scratch_bytes(context, {nodes.weights, nodes.mlp, nodes.down_proj, nodes.mlp_quantization},
                             rows, inner)});
}

// Scratch of the largest piece of a block's attention.
int64_t largest_piece(AttentionKind kind, const AttentionProblem& problem) {
  int64_t most = 0;
  std::vector<int64_t> bounds;
  for (const VisionPiece& piece :
       vision_pieces(problem.cu_seqlens, rows_of_vision_piece(problem.context.threads()))) {
    most = std::max(most, attention_scratch_bytes(kind, problem_of_piece(problem, piece, bounds)));
  }
  return most;
}

}  // namespace

CallMemory VisionTower::memory(const VisionConfig& c, const LayeredPrecision& vision, const Grid& grid,
                               bool guard, const Context& context) {
  const WindowOrder order = window_order(grid, c);
  const int64_t rows = grid.patches(), width = c.hidden_size, heads = c.num_heads, head_dim = c.head_dim();
  const int64_t pass = std::min(rows, kRowsPerPass);
  CallMemory memory;
  int64_t block = 0, kept = 0;  // bytes of an element of k and of v
  for (const TowerPrecision& nodes : vision.layers) {
    const auto& full = c.fullatt_block_indexes;
    AttentionProblem problem;
    problem.context = context;
    problem.q = heads_view(DType::f32, rows, heads, head_dim, width, nodes.q);
    problem.k = heads_view(kept_type(nodes.k), rows, heads, head_dim, width, nodes.k);
    problem.v = heads_view(kept_type(nodes.v), rows, heads, head_dim, width, nodes.v);
    kept = std::max(kept, static_cast<int64_t>(bytes_of(problem.k.dtype) + bytes_of(problem.v.dtype)));
    const bool is_full = std::find(full.begin(), full.end(), block++) != full.end();
    problem.cu_seqlens = is_full ? order.frame_bounds : order.window_bounds;
    problem.precision = nodes.attention;
    memory.attention = std::max(memory.attention, largest_piece(nodes.kind, problem));
    memory.products =
        std::max(memory.products, products(context, nodes, pass, width, width, c.intermediate_size));
  }
  const int64_t rope = rows * head_dim, hidden = rows * width, q = rows * width, narrow = rows * width;
  const int64_t norms = guard ? rows * heads : 0;
  const int64_t held =
      bytes_of_order(order) + (rope + hidden + q + narrow + norms) * kFloat + rows * width * kept;
  const int64_t gate = pass * std::max(c.intermediate_size, 3 * width), up = pass * c.intermediate_size;
  memory.activations = held + (gate + up) * kFloat;

  const int64_t merge_area = c.spatial_merge_size * c.spatial_merge_size, tokens = rows / merge_area;
  const int64_t merge_pass = std::min(tokens, kRowsPerPass), inner = width * merge_area;
  const TowerPrecision& nodes = vision.tower;
  memory.products = std::max(
      {memory.products,
       Linear::scratch_bytes(context, {nodes.weights, nodes.weights, nodes.linear}, pass, c.patch_dim()),
       Linear::scratch_bytes(context, {nodes.weights, nodes.norm, nodes.linear}, merge_pass, inner),
       Linear::scratch_bytes(context, {nodes.weights, nodes.mlp, nodes.linear}, merge_pass, inner)});
  memory.merging = held +
                   (std::max(gate, merge_pass * inner) + std::max(up, merge_pass * inner) +
                    (tokens + merge_pass) * c.out_hidden_size) *
                       kFloat +
                   memory.products;
  return memory;
}

int64_t frame_groups_at_once(const VisionConfig& config, const LayeredPrecision& vision, const Grid& grid,
                             int64_t bytes, bool guard, const Context& context) {
  int64_t fits = 1, beyond = grid.t + 1;
  while (beyond - fits > 1) {
    const int64_t middle = fits + (beyond - fits) / 2;
    const bool inside =
        VisionTower::memory(config, vision, {middle, grid.h, grid.w}, guard, context).peak() <= bytes;
    (inside ? fits : beyond) = middle;
  }
  return fits;
}

CallMemory Decoder::memory(const TextConfig& c, const LayeredPrecision& text, int64_t rows, int64_t keys,
                           bool guard, int64_t pieces, const Context& context) {
  const int64_t q_width = c.num_attention_heads * c.head_dim, kv_width = c.num_key_value_heads * c.head_dim;
  CallMemory memory;
  std::vector<std::pair<DType, DType>> ropes;
  for (const TowerPrecision& nodes : text.layers) {
    AttentionProblem problem;
    problem.context = context;
    problem.q =
        heads_view(DType::f32, rows, c.num_attention_heads, c.head_dim, q_width + 2 * kv_width, nodes.q);
    problem.k = heads_view(nodes.k_cache, keys, c.num_key_value_heads, c.head_dim, kv_width, DType::f32);
    problem.v = heads_view(nodes.v_cache, keys, c.num_key_value_heads, c.head_dim, kv_width, DType::f32);
    problem.causal = true;
    problem.precision = nodes.attention;
    static constexpr float kPresent = 0;
    if (nodes.bias_split) problem.key_bias.bias = problem.key_bias.cos = problem.key_bias.sin = &kPresent;
    memory.attention = std::max(memory.attention, attention_scratch_bytes(nodes.kind, problem));
    memory.products = std::max(memory.products,
                               products(context, nodes, rows, c.hidden_size, q_width, c.intermediate_size));
    const std::pair<DType, DType> rope{nodes.rope_angles, nodes.rope_tables};
    if (std::find(ropes.begin(), ropes.end(), rope) == ropes.end()) ropes.push_back(rope);
  }
  const bool split = std::any_of(text.layers.begin(), text.layers.end(),
                                 [](const TowerPrecision& nodes) { return nodes.bias_split; });
  // With bias_split one more table, of the rotations that the cache keeps.
  const int64_t rope = (static_cast<int64_t>(ropes.size()) * pieces + (split ? 1 : 0)) * c.head_dim;
  const int64_t norms = guard ? c.num_key_value_heads : 0;
  memory.activations =
      rows * kFloat *
      (c.hidden_size + q_width + 2 * kv_width + q_width + 2 * c.intermediate_size + rope + norms);
  return memory;
}

}  // namespace fovea
