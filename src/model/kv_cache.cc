#include "model/kv_cache.h"

#include <algorithm>

#include "base/rounding.h"
#include "kernels/kernels.h"

namespace fovea {

namespace {

// Pages are allocated several at a time: large pieces lie on huge pages, whose look-ups are cheap.
constexpr int64_t kSlabBytes = int64_t{8} << 20;

int64_t pages_for(int64_t tokens) { return divide_up(tokens, kPageTokens); }

}  // namespace

KvLease::~KvLease() {
  if (cache_ != nullptr) cache_->release(layer_, first_, end_);
}

// Keys, values, then the scales of both, each where a cache line begins.
KvCache::Layer KvCache::layout(const TextConfig& config, const TowerPrecision& precision) {
  constexpr int64_t kLine = 64;
  int64_t end = 0;
  const auto place = [&](int64_t bytes) {
    const int64_t begin = end;
    end = round_up(end + bytes, kLine);
    return begin;
  };
  const int64_t rows = kPageTokens * config.num_key_value_heads;
  Layer layer{{precision.k_cache, 0, 0}, {precision.v_cache, 0, 0}, 0, -1, {}, {}};
  for (Rows* part : {&layer.keys, &layer.values}) {
    part->rows = place(rows * config.head_dim * static_cast<int64_t>(bytes_of(part->type)));
  }
  for (Rows* part : {&layer.keys, &layer.values}) {
    part->scales = place(part->type == DType::i8 ? rows * int64_t{sizeof(float)} : 0);
  }
  layer.page_bytes = page_ceil(end);
  return layer;
}

KvCache::KvCache(const TextConfig& config, int64_t capacity, const std::vector<TowerPrecision>& layers,
                 const HeldParts& held, const std::optional<KvOffload>& offload)
    : heads_(config.num_key_value_heads), head_dim_(config.head_dim), capacity_(capacity) {
  FOVEA_CHECK(static_cast<int64_t>(layers.size()) == config.num_hidden_layers);
  std::vector<int64_t> bytes;
  for (const TowerPrecision& precision : layers) {
    Layer layer = layout(config, precision);
    if (!held.layer(std::ssize(layers_))) layer.page_bytes = 0;
    layer.pages.reserve(static_cast<size_t>(pages_for(capacity)));
    bytes.push_back(pages_for(capacity) * layer.page_bytes);
    layers_.push_back(std::move(layer));
    const bool known = std::any_of(rotations_.begin(), rotations_.end(),
                                   [&](const Rotation& r) { return r.angles == precision.rope_angles; });
    if (!precision.bias_split || known) continue;
    const int64_t size = capacity_ * (head_dim_ / 2);
    rotations_.push_back({precision.rope_angles, Buffer<float>(size), Buffer<float>(size)});
  }
  const int64_t groups = divide_up(head_dim_, kQuantGroup);
  padded_row_ = Buffer<int8_t>(groups * kQuantGroup);
  row_sums_ = Buffer<int32_t>(groups);
  norms_.assign(layers.size() * static_cast<size_t>(heads_), 0.f);
  if (!offload || capacity == 0) return;
  const std::vector<bool> on_disk = layers_on_disk(bytes, offload->bytes - rotation_bytes());
  std::vector<int64_t> disk_bytes;
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (!on_disk[i]) continue;
    layers_[i].on_disk = std::ssize(disk_bytes);
    disk_bytes.push_back(bytes[i]);
  }
  if (!disk_bytes.empty()) disk_ = std::make_unique<KvDisk>(offload->folder, disk_bytes);
}

int64_t KvCache::bytes_per_token(const TextConfig& config, DType type) {
  const int64_t scale = type == DType::i8 ? int64_t{sizeof(float)} : 0;
  return config.num_key_value_heads * (config.head_dim * static_cast<int64_t>(bytes_of(type)) + scale);
}

int64_t KvCache::layer_bytes(const TextConfig& config, int64_t tokens, const TowerPrecision& layer) {
  return pages_for(tokens) * layout(config, layer).page_bytes;
}

int64_t KvCache::rotation_bytes() const {
  return std::ssize(rotations_) * capacity_ * head_dim_ * int64_t{sizeof(float)};
}

KvState KvCache::state() const {
  KvState state;
  for (const Layer& layer : layers_) {
    const int64_t bytes = pages_for(capacity_) * layer.page_bytes;
    (layer.on_disk < 0 ? state.bytes : state.disk_bytes) += bytes;
    state.layers_on_disk += layer.on_disk < 0 ? 0 : 1;
  }
  state.bytes += rotation_bytes();
  if (disk_ == nullptr) return state;
  state.bytes += disk_->buffer_bytes();
  state.read_bytes = disk_->read_bytes();
  state.written_bytes = disk_->written_bytes();
  return state;
}

KvState KvCache::state_for(const TextConfig& config, int64_t capacity,
                           const std::vector<TowerPrecision>& layers, const std::optional<int64_t>& limit) {
  std::vector<int64_t> bytes;
  std::vector<DType> rotations;
  for (const TowerPrecision& layer : layers) {
    bytes.push_back(layer_bytes(config, capacity, layer));
    const bool known = std::find(rotations.begin(), rotations.end(), layer.rope_angles) != rotations.end();
    if (layer.bias_split && !known) rotations.push_back(layer.rope_angles);
  }
  const int64_t rotated = std::ssize(rotations) * capacity * config.head_dim * int64_t{sizeof(float)};
  const auto on_disk =
      limit ? layers_on_disk(bytes, *limit - rotated) : std::vector<bool>(layers.size(), false);
  KvState state;
  state.bytes = bytes_in_memory(bytes, on_disk) + rotated;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (!on_disk[i]) continue;
    state.disk_bytes += bytes[i];
    ++state.layers_on_disk;
  }
  return state;
}

// A slab holds the pages that the capacity still lacks, but not more than kSlabBytes of them.
void KvCache::make_pages(Layer& layer, int64_t tokens) {
  while (std::ssize(layer.pages) < pages_for(tokens)) {
    const int64_t lacking = pages_for(capacity_) - std::ssize(layer.pages),
                  count = std::clamp<int64_t>(kSlabBytes / layer.page_bytes, 1, lacking);
    layer.slabs.emplace_back(count * layer.page_bytes);
    for (int64_t i = 0; i < count; ++i)
      layer.pages.push_back(layer.slabs.back().data() + i * layer.page_bytes);
  }
}

KvLease KvCache::use(int64_t index, int64_t first, int64_t end, const std::function<void()>& while_waiting) {
  Layer& layer = layers_[static_cast<size_t>(index)];
  FOVEA_CHECK(end <= capacity_ && (capacity_ == 0 || layer.page_bytes > 0));
  if (layer.on_disk < 0) {
    make_pages(layer, end);
    return {nullptr, index, first, end};
  }
  char* memory = disk_->acquire(layer.on_disk, while_waiting);
  layer.pages.clear();
  for (int64_t page = 0; page < pages_for(end); ++page)
    layer.pages.push_back(memory + page * layer.page_bytes);
  return {this, index, first, end};
}

void KvCache::release(int64_t index, int64_t first, int64_t end) {
  Layer& layer = layers_[static_cast<size_t>(index)];
  layer.pages.clear();
  disk_->release(first / kPageTokens * layer.page_bytes, pages_for(end) * layer.page_bytes);
}

void KvCache::write(const Layer& layer, const Rows& rows, int64_t token, const float* row) {
  char* page = layer.pages[static_cast<size_t>(token / kPageTokens)];
  const int64_t in_page = token % kPageTokens;
  if (rows.type == DType::i8) return write_int8(page, rows, in_page, row);
  for (int64_t h = 0; h < heads_; ++h, row += head_dim_) {
    char* to = page + rows.rows +
               (h * kPageTokens + in_page) * head_dim_ * static_cast<int64_t>(bytes_of(rows.type));
    narrow_row(row, head_dim_, rows.type, to);
  }
}

// quantize_row pads to whole groups, which would reach into the next token.
void KvCache::write_int8(char* page, const Rows& rows, int64_t in_page, const float* row) {
  for (int64_t h = 0; h < heads_; ++h, row += head_dim_) {
    const int64_t at = h * kPageTokens + in_page;
    reinterpret_cast<float*>(page + rows.scales)[at] =
        kernels().quantize_row(row, head_dim_, padded_row_.data(), row_sums_.data());
    std::copy_n(padded_row_.data(), head_dim_, reinterpret_cast<int8_t*>(page + rows.rows) + at * head_dim_);
  }
}

void KvCache::store(int64_t index, int64_t first, const float* k, const float* v, int64_t stride,
                    int64_t count) {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  FOVEA_CHECK(first >= tokens_ && first + count <= capacity_ &&
              pages_for(first + count) <= std::ssize(layer.pages));
  for (int64_t r = 0; r < count; ++r) {
    write(layer, layer.keys, first + r, k + r * stride);
    write(layer, layer.values, first + r, v + r * stride);
  }
}

void KvCache::commit(int64_t count) { tokens_ += count; }

void KvCache::truncate(int64_t tokens) {
  FOVEA_CHECK(tokens >= 0 && tokens <= tokens_);
  tokens_ = tokens;
  if (tokens == 0) std::fill(norms_.begin(), norms_.end(), 0.f);
}

size_t KvCache::place_of(DType angles) const {
  const auto found = std::find_if(rotations_.begin(), rotations_.end(),
                                  [&](const Rotation& r) { return r.angles == angles; });
  FOVEA_CHECK(found != rotations_.end());
  return static_cast<size_t>(found - rotations_.begin());
}

void KvCache::store_rotation(DType angles, int64_t first, const RopeTable& table, int64_t row,
                             int64_t count) {
  const int64_t pairs = head_dim_ / 2;
  FOVEA_CHECK(first >= tokens_ && first + count <= capacity_ && table.pairs == pairs);
  Rotation& to = rotations_[place_of(angles)];
  std::copy_n(table.cos.data() + row * pairs, count * pairs, to.cos.data() + first * pairs);
  std::copy_n(table.sin.data() + row * pairs, count * pairs, to.sin.data() + first * pairs);
}

KeyBias KvCache::key_bias(DType angles, const float* bias) const {
  const Rotation& r = rotations_[place_of(angles)];
  return {bias, r.cos.data(), r.sin.data()};
}

HeadsView KvCache::view(const Layer& layer, const Rows& rows, int64_t tokens) const {
  HeadsView view;
  view.dtype = rows.type;
  view.tokens = tokens;
  view.heads = heads_;
  view.head_dim = view.stride = head_dim_;
  view.pages = {layer.pages.data(), rows.rows, rows.scales};
  return view;
}

HeadsView KvCache::keys(int64_t index, int64_t tokens) const {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  return view(layer, layer.keys, tokens);
}

HeadsView KvCache::values(int64_t index, int64_t tokens) const {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  return view(layer, layer.values, tokens);
}

}  // namespace fovea
