#include "model/kv_blocks.h"

#include <algorithm>

#include "base/paged_memory.h"
#include "base/rounding.h"

namespace fovea {

namespace {

constexpr int64_t kLine = 64;
// Blocks are allocated several at a time: large pieces lie on huge pages, whose look-ups are cheap.
constexpr int64_t kSlabBytes = int64_t{8} << 20;

// Keys, values, then the scales of both, each where a cache line begins; the page's size.
int64_t lay_page(KvLayout::Layer& layer, int64_t begin, int64_t heads, int64_t head_dim) {
  int64_t end = begin;
  const auto take = [&](int64_t bytes) {
    const int64_t at = end;
    end = round_up(end + bytes, kLine);
    return at;
  };
  const int64_t rows = kPageTokens * heads;
  for (KvLayout::Rows* part : {&layer.keys, &layer.values}) {
    part->rows = take(rows * head_dim * static_cast<int64_t>(bytes_of(part->type)));
  }
  for (KvLayout::Rows* part : {&layer.keys, &layer.values}) {
    part->scales = take(part->type == DType::i8 ? rows * int64_t{sizeof(float)} : 0);
  }
  return page_ceil(end - begin);
}

}  // namespace

KvLayout::KvLayout(const TextConfig& config, const std::vector<TowerPrecision>& precision,
                   const HeldParts& held, bool guard)
    : heads_(config.num_key_value_heads), head_dim_(config.head_dim), guard_(guard) {
  for (const TowerPrecision& nodes : precision) {
    Layer layer{{nodes.k_cache, 0, 0}, {nodes.v_cache, 0, 0}, 0};
    if (held.layer(std::ssize(layers_))) layer.page_bytes = lay_page(layer, 0, heads_, head_dim_);
    layers_.push_back(layer);
    const bool known = std::any_of(rotations_.begin(), rotations_.end(),
                                   [&](const Rotation& r) { return r.angles == nodes.rope_angles; });
    if (nodes.bias_split && !known) rotations_.push_back({nodes.rope_angles, 0, 0});
  }
  place();
}

void KvLayout::leave_out(const std::vector<bool>& layers) {
  for (size_t i = 0; i < layers_.size(); ++i) layers_[i].elsewhere = layers[i];
  place();
}

void KvLayout::place() {
  int64_t end = 0;
  for (Layer& layer : layers_) {
    if (layer.page_bytes == 0) continue;
    lay_page(layer, layer.elsewhere ? 0 : end, heads_, head_dim_);
    if (!layer.elsewhere) end += layer.page_bytes;
  }
  const int64_t pages = end, table = kPageTokens * (head_dim_ / 2) * int64_t{sizeof(float)};
  for (Rotation& rotation : rotations_) {
    rotation.cos = end;
    rotation.sin = end + table;
    end += 2 * table;
  }
  if (guard_) {
    norms_ = end;
    end += std::ssize(layers_) * kPageTokens * heads_ * int64_t{sizeof(float)};
  }
  block_bytes_ = round_up(end, kLine);
  shared_bytes_ = block_bytes_ - pages;
}

const KvLayout::Rotation& KvLayout::rotation(DType angles) const {
  const auto found = std::find_if(rotations_.begin(), rotations_.end(),
                                  [&](const Rotation& r) { return r.angles == angles; });
  FOVEA_CHECK(found != rotations_.end());
  return *found;
}

int64_t KvLayout::norms(int64_t layer) const {
  return guard_ ? norms_ + layer * kPageTokens * heads_ * int64_t{sizeof(float)} : -1;
}

KvPool::KvPool(KvLayout layout, int64_t blocks)
    : layout_(std::move(layout)),
      blocks_(blocks),
      per_slab_(std::clamp<int64_t>(kSlabBytes / std::max<int64_t>(layout_.block_bytes(), 1), 1,
                                    std::max<int64_t>(blocks, 1))),
      slabs_(static_cast<size_t>(divide_up(blocks, per_slab_))) {}

char* KvPool::block(int64_t number) {
  FOVEA_CHECK(number >= 0 && number < blocks_);
  const int64_t first = number / per_slab_ * per_slab_;
  Buffer<char>& slab = slabs_[static_cast<size_t>(number / per_slab_)];
  slab.reserve(std::min(per_slab_, blocks_ - first) * layout_.block_bytes());
  return slab.data() + (number - first) * layout_.block_bytes();
}

void KvPool::copy(int64_t from, int64_t to) {
  const char* source = block(from);
  std::copy_n(source, layout_.block_bytes(), block(to));
}

}  // namespace fovea
