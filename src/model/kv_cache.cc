#include "model/kv_cache.h"

#include <algorithm>

#include "base/rounding.h"
#include "kernels/kernels.h"

namespace fovea {

namespace {

int64_t pages_for(int64_t tokens) { return divide_up(tokens, kPageTokens); }

// Bytes of each layer's pages for so many tokens.
std::vector<int64_t> layer_bytes(const KvLayout& layout, int64_t tokens) {
  std::vector<int64_t> bytes;
  for (const KvLayout::Layer& layer : layout.layers()) bytes.push_back(pages_for(tokens) * layer.page_bytes);
  return bytes;
}

// Which layers go to disk, so that the rest stays within `limit` bytes.
std::vector<bool> layers_out(const KvLayout& layout, int64_t tokens, const std::optional<int64_t>& limit) {
  const std::vector<int64_t> bytes = layer_bytes(layout, tokens);
  if (!limit || tokens == 0) return std::vector<bool>(bytes.size(), false);
  return layers_on_disk(bytes, *limit - pages_for(tokens) * layout.shared_bytes());
}

KvState state_of(const KvLayout& layout, int64_t tokens, const std::vector<bool>& on_disk) {
  const std::vector<int64_t> bytes = layer_bytes(layout, tokens);
  KvState state;
  state.bytes = bytes_in_memory(bytes, on_disk) + pages_for(tokens) * layout.shared_bytes();
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (!on_disk[i]) continue;
    state.disk_bytes += bytes[i];
    ++state.layers_on_disk;
  }
  return state;
}

}  // namespace

KvLease::~KvLease() {
  if (cache_ != nullptr) cache_->release(layer_, first_, end_);
}

KvCache::KvCache(const TextConfig& config, int64_t capacity, const std::vector<TowerPrecision>& layers,
                 const HeldParts& held, const std::optional<KvOffload>& offload, bool guard)
    : capacity_(capacity) {
  FOVEA_CHECK(static_cast<int64_t>(layers.size()) == config.num_hidden_layers);
  KvLayout layout(config, layers, held, guard);
  const std::vector<int64_t> bytes = layer_bytes(layout, capacity);
  const auto out =
      layers_out(layout, capacity, offload ? std::optional<int64_t>(offload->bytes) : std::nullopt);
  std::vector<int64_t> disk_bytes;
  if (std::count(out.begin(), out.end(), true) > 0) {
    layout.leave_out(out);
    on_disk_.resize(out.size());
    for (size_t i = 0; i < out.size(); ++i) {
      if (!out[i]) continue;
      on_disk_[i].number = std::ssize(disk_bytes);
      disk_bytes.push_back(bytes[i]);
    }
    disk_ = std::make_unique<KvDisk>(offload->folder, disk_bytes);
  }
  own_ = std::make_unique<KvPool>(std::move(layout), pages_for(capacity));
  pool_ = own_.get();
  table_.reserve(static_cast<size_t>(pages_for(capacity)));
  make_scratch();
}

KvCache::KvCache(KvPool& pool) : pool_(&pool) { make_scratch(); }

void KvCache::make_scratch() {
  const int64_t groups = divide_up(layout().head_dim(), kQuantGroup);
  padded_row_ = Buffer<int8_t>(groups * kQuantGroup);
  row_sums_ = Buffer<int32_t>(groups);
}

int64_t KvCache::bytes_per_token(const TextConfig& config, DType type) {
  const int64_t scale = type == DType::i8 ? int64_t{sizeof(float)} : 0;
  return config.num_key_value_heads * (config.head_dim * static_cast<int64_t>(bytes_of(type)) + scale);
}

KvState KvCache::state() const {
  std::vector<bool> out(layout().layers().size(), false);
  for (size_t i = 0; i < on_disk_.size(); ++i) out[i] = on_disk_[i].number >= 0;
  KvState state = state_of(layout(), capacity(), out);
  if (disk_ == nullptr) return state;
  state.read_bytes = disk_->read_bytes();
  state.written_bytes = disk_->written_bytes();
  return state;
}

KvState KvCache::state_for(const TextConfig& config, int64_t capacity,
                           const std::vector<TowerPrecision>& layers, const std::optional<int64_t>& limit,
                           bool guard) {
  const KvLayout layout(config, layers, {}, guard);
  return state_of(layout, capacity, layers_out(layout, capacity, limit));
}

void KvCache::make_blocks(int64_t tokens) {
  while (std::ssize(table_) < pages_for(tokens)) table_.push_back(own_->block(std::ssize(table_)));
}

void KvCache::set_block(int64_t index, int64_t number) {
  FOVEA_CHECK(!own_ && index >= 0 && index <= std::ssize(table_));
  if (index == std::ssize(table_)) table_.push_back(nullptr);
  table_[static_cast<size_t>(index)] = pool_->block(number);
}

void KvCache::drop_blocks(int64_t blocks) {
  FOVEA_CHECK(!own_ && blocks >= 0 && blocks <= std::ssize(table_));
  table_.resize(static_cast<size_t>(blocks));
  tokens_ = std::min(tokens_, capacity());
}

void KvCache::found(int64_t tokens) {
  FOVEA_CHECK(!own_ && tokens >= tokens_ && tokens <= capacity());
  tokens_ = tokens;
}

KvLease KvCache::use(int64_t index, int64_t first, int64_t end, const std::function<void()>& while_waiting) {
  const KvLayout::Layer& layer = layout().layers()[static_cast<size_t>(index)];
  FOVEA_CHECK(end <= capacity() && (capacity() == 0 || layer.page_bytes > 0));
  if (own_) make_blocks(end);
  if (!layer.elsewhere) return {nullptr, index, first, end};
  OnDisk& there = on_disk_[static_cast<size_t>(index)];
  char* memory = disk_->acquire(there.number, while_waiting);
  there.pages.clear();
  for (int64_t page = 0; page < pages_for(end); ++page)
    there.pages.push_back(memory + page * layer.page_bytes);
  return {this, index, first, end};
}

void KvCache::release(int64_t index, int64_t first, int64_t end) {
  const int64_t page_bytes = layout().layers()[static_cast<size_t>(index)].page_bytes;
  on_disk_[static_cast<size_t>(index)].pages.clear();
  disk_->release(first / kPageTokens * page_bytes, pages_for(end) * page_bytes);
}

const std::vector<char*>& KvCache::pages_of(int64_t index) const {
  const bool elsewhere = layout().layers()[static_cast<size_t>(index)].elsewhere;
  return elsewhere ? on_disk_[static_cast<size_t>(index)].pages : table_;
}

void KvCache::write(const Kernels& kernels, char* page, const KvLayout::Rows& rows, int64_t in_page,
                    const float* row) {
  if (rows.type == DType::i8) return write_int8(kernels, page, rows, in_page, row);
  const int64_t heads = layout().heads(), dim = layout().head_dim();
  for (int64_t h = 0; h < heads; ++h, row += dim) {
    char* to =
        page + rows.rows + (h * kPageTokens + in_page) * dim * static_cast<int64_t>(bytes_of(rows.type));
    narrow_row(kernels, row, dim, rows.type, to);
  }
}

// quantize_row pads to whole groups, which would reach into the next token.
void KvCache::write_int8(const Kernels& kernels, char* page, const KvLayout::Rows& rows, int64_t in_page,
                         const float* row) {
  const int64_t heads = layout().heads(), dim = layout().head_dim();
  for (int64_t h = 0; h < heads; ++h, row += dim) {
    const int64_t at = h * kPageTokens + in_page;
    reinterpret_cast<float*>(page + rows.scales)[at] =
        kernels.quantize_row(row, dim, padded_row_.data(), row_sums_.data());
    std::copy_n(padded_row_.data(), dim, reinterpret_cast<int8_t*>(page + rows.rows) + at * dim);
  }
}

void KvCache::store(const Kernels& kernels, int64_t index, int64_t first, const float* k, const float* v,
                    int64_t stride, int64_t count) {
  const KvLayout::Layer& layer = layout().layers()[static_cast<size_t>(index)];
  const std::vector<char*>& pages = pages_of(index);
  FOVEA_CHECK(first >= tokens_ && first + count <= capacity() &&
              pages_for(first + count) <= std::ssize(pages));
  for (int64_t r = 0; r < count; ++r) {
    char* page = pages[static_cast<size_t>((first + r) / kPageTokens)];
    const int64_t in_page = (first + r) % kPageTokens;
    write(kernels, page, layer.keys, in_page, k + r * stride);
    write(kernels, page, layer.values, in_page, v + r * stride);
  }
}

void KvCache::commit(int64_t count) { tokens_ += count; }

void KvCache::truncate(int64_t tokens) {
  FOVEA_CHECK(tokens >= 0 && tokens <= tokens_);
  tokens_ = tokens;
}

void KvCache::store_rotation(DType angles, int64_t first, const RopeTable& table, int64_t row,
                             int64_t count) {
  const int64_t pairs = layout().head_dim() / 2;
  FOVEA_CHECK(first >= tokens_ && first + count <= capacity() && table.pairs == pairs);
  if (own_) make_blocks(first + count);
  const KvLayout::Rotation& to = layout().rotation(angles);
  for (int64_t r = 0; r < count; ++r) {
    const int64_t token = first + r, in_block = token % kPageTokens * pairs;
    char* block = table_[static_cast<size_t>(token / kPageTokens)];
    std::copy_n(table.cos.data() + (row + r) * pairs, pairs,
                reinterpret_cast<float*>(block + to.cos) + in_block);
    std::copy_n(table.sin.data() + (row + r) * pairs, pairs,
                reinterpret_cast<float*>(block + to.sin) + in_block);
  }
}

KeyBias KvCache::key_bias(DType angles, const float* bias) const {
  const KvLayout::Rotation& at = layout().rotation(angles);
  KeyBias result;
  result.bias = bias;
  result.table = table_.data();
  result.cos_rows = at.cos;
  result.sin_rows = at.sin;
  return result;
}

float* KvCache::largest_key_norms(int64_t layer, int64_t token) {
  const int64_t at = layout().norms(layer);
  FOVEA_CHECK(at >= 0);
  return reinterpret_cast<float*>(table_[static_cast<size_t>(token / kPageTokens)] + at) +
         token % kPageTokens * layout().heads();
}

HeadsView KvCache::view(int64_t index, const KvLayout::Rows& rows, int64_t tokens) const {
  HeadsView view;
  view.dtype = rows.type;
  view.tokens = tokens;
  view.heads = layout().heads();
  view.head_dim = view.stride = layout().head_dim();
  view.pages = {pages_of(index).data(), rows.rows, rows.scales};
  return view;
}

HeadsView KvCache::keys(int64_t index, int64_t tokens) const {
  return view(index, layout().layers()[static_cast<size_t>(index)].keys, tokens);
}

HeadsView KvCache::values(int64_t index, int64_t tokens) const {
  return view(index, layout().layers()[static_cast<size_t>(index)].values, tokens);
}

}  // namespace fovea
