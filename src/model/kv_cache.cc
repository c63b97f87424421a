#include "model/kv_cache.h"

#include <algorithm>

#include "kernels/kernels.h"

namespace fovea {

KvCache::KvCache(const TextConfig& config, int64_t capacity, const std::vector<TowerPrecision>& layers)
    : heads_(config.num_key_value_heads), head_dim_(config.head_dim), capacity_(capacity) {
  FOVEA_CHECK(static_cast<int64_t>(layers.size()) == config.num_hidden_layers);
  for (const TowerPrecision& layer : layers) {
    keys_.push_back(allocate(layer.k_cache));
    values_.push_back(allocate(layer.v_cache));
  }
}

KvCache::Storage KvCache::allocate(DType type) const {
  return {type, Buffer<char>(capacity_ * heads_ * head_dim_ * static_cast<int64_t>(bytes_of(type)))};
}

int64_t KvCache::bytes() const {
  int64_t total = 0;
  for (size_t i = 0; i < keys_.size(); ++i) total += keys_[i].bytes.size() + values_[i].bytes.size();
  return total;
}

void KvCache::write(Storage& storage, const float* rows, int64_t stride, int64_t count) const {
  const int64_t width = heads_ * head_dim_;
  for (int64_t r = 0; r < count; ++r) {
    char* to = storage.bytes.data() + (tokens_ + r) * width * static_cast<int64_t>(bytes_of(storage.type));
    const float* from = rows + r * stride;
    switch (storage.type) {
      case DType::f32:
        std::copy_n(from, width, reinterpret_cast<float*>(to));
        break;
      case DType::bf16:
        kernels().bf16_from_f32(from, reinterpret_cast<uint16_t*>(to), width);
        break;
      case DType::f16:
        kernels().f16_from_f32(from, reinterpret_cast<uint16_t*>(to), width);
        break;
      case DType::f64:
        FOVEA_CHECK(!"no tensor is stored in fp64");
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

HeadsView KvCache::view(const Storage& storage, int64_t tokens) const {
  return {storage.bytes.data(), storage.type, tokens, heads_, head_dim_, heads_ * head_dim_};
}

HeadsView KvCache::keys(int64_t layer, int64_t tokens) const {
  return view(keys_[static_cast<size_t>(layer)], tokens);
}

HeadsView KvCache::values(int64_t layer, int64_t tokens) const {
  return view(values_[static_cast<size_t>(layer)], tokens);
}

}  // namespace fovea
