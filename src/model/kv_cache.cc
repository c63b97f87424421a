#include "model/kv_cache.h"

#include <algorithm>

#include "kernels/kernels.h"

namespace fovea {

KvCache::KvCache(const TextConfig& config, int64_t capacity, DType type)
    : type_(type), heads_(config.num_key_value_heads), head_dim_(config.head_dim), capacity_(capacity) {
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const int64_t bytes = capacity * heads_ * head_dim_ * static_cast<int64_t>(bytes_of(type));
    keys_.emplace_back(bytes);
    values_.emplace_back(bytes);
  }
}

int64_t KvCache::bytes() const {
  return keys_.empty() ? 0 : 2 * static_cast<int64_t>(keys_.size()) * keys_.front().size();
}

void KvCache::write(Buffer<char>& storage, const float* rows, int64_t stride, int64_t count) const {
  const int64_t width = heads_ * head_dim_;
  for (int64_t r = 0; r < count; ++r) {
    char* to = storage.data() + (tokens_ + r) * width * static_cast<int64_t>(bytes_of(type_));
    const float* from = rows + r * stride;
    switch (type_) {
      case DType::f32:
        std::copy_n(from, width, reinterpret_cast<float*>(to));
        break;
      case DType::bf16:
        kernels().bf16_from_f32(from, reinterpret_cast<uint16_t*>(to), width);
        break;
      case DType::f16:
        kernels().f16_from_f32(from, reinterpret_cast<uint16_t*>(to), width);
        break;
    }
  }
}

void KvCache::store(int64_t layer, const float* k, const float* v, int64_t stride, int64_t count) {
  FOVEA_CHECK(tokens_ + count <= capacity_);
  write(keys_[static_cast<size_t>(layer)], k, stride, count);
  write(values_[static_cast<size_t>(layer)], v, stride, count);
}

void KvCache::commit(int64_t count) { tokens_ += count; }

void KvCache::truncate(int64_t tokens) {
  FOVEA_CHECK(tokens >= 0 && tokens <= tokens_);
  tokens_ = tokens;
}

HeadsView KvCache::view(const Buffer<char>& storage, int64_t tokens) const {
  return {storage.data(), type_, tokens, heads_, head_dim_, heads_ * head_dim_};
}

HeadsView KvCache::keys(int64_t layer, int64_t tokens) const {
  return view(keys_[static_cast<size_t>(layer)], tokens);
}

HeadsView KvCache::values(int64_t layer, int64_t tokens) const {
  return view(values_[static_cast<size_t>(layer)], tokens);
}

}  // namespace fovea
