#include "model/kv_cache.h"

#include <algorithm>

#include "kernels/kernels.h"

namespace fovea {

KvCache::KvCache(const TextConfig& config, int64_t capacity, const std::vector<TowerPrecision>& layers,
                 const HeldParts& held)
    : heads_(config.num_key_value_heads), head_dim_(config.head_dim), capacity_(capacity) {
  FOVEA_CHECK(static_cast<int64_t>(layers.size()) == config.num_hidden_layers);
  for (const TowerPrecision& layer : layers) {
    const bool here = held.layer(std::ssize(keys_));
    keys_.push_back(allocate(layer.k_cache, here));
    values_.push_back(allocate(layer.v_cache, here));
    const bool known = std::any_of(rotations_.begin(), rotations_.end(),
                                   [&](const Rotation& r) { return r.angles == layer.rope_angles; });
    if (!layer.bias_split || known) continue;
    const int64_t size = capacity_ * (head_dim_ / 2);
    rotations_.push_back({layer.rope_angles, Buffer<float>(size), Buffer<float>(size)});
  }
  const int64_t groups = (head_dim_ + kQuantGroup - 1) / kQuantGroup;
  padded_row_ = Buffer<int8_t>(groups * kQuantGroup);
  row_sums_ = Buffer<int32_t>(groups);
  norms_.assign(layers.size() * static_cast<size_t>(heads_), 0.f);
}

KvCache::Storage KvCache::allocate(DType type, bool held) const {
  if (!held) return {type, {}, {}};
  return {type, Buffer<char>(capacity_ * heads_ * head_dim_ * static_cast<int64_t>(bytes_of(type))),
          Buffer<float>(type == DType::i8 ? capacity_ * heads_ : 0)};
}

int64_t KvCache::bytes_per_token(const TextConfig& config, DType type) {
  const int64_t scale = type == DType::i8 ? int64_t{sizeof(float)} : 0;
  return config.num_key_value_heads * (config.head_dim * static_cast<int64_t>(bytes_of(type)) + scale);
}

int64_t KvCache::bytes() const {
  int64_t total = 0;
  for (const auto* storages : {&keys_, &values_}) {
    for (const Storage& s : *storages) total += s.bytes.size() + s.scales.size() * int64_t{sizeof(float)};
  }
  for (const Rotation& r : rotations_) total += (r.cos.size() + r.sin.size()) * int64_t{sizeof(float)};
  return total;
}

int64_t KvCache::bytes_for(const TextConfig& config, int64_t capacity,
                           const std::vector<TowerPrecision>& layers) {
  int64_t total = 0;
  std::vector<DType> rotations;
  for (const TowerPrecision& layer : layers) {
    total += capacity * (bytes_per_token(config, layer.k_cache) + bytes_per_token(config, layer.v_cache));
    const bool known = std::find(rotations.begin(), rotations.end(), layer.rope_angles) != rotations.end();
    if (layer.bias_split && !known) rotations.push_back(layer.rope_angles);
  }
  return total + static_cast<int64_t>(rotations.size()) * capacity * config.head_dim * int64_t{sizeof(float)};
}

void KvCache::write(Storage& storage, int64_t first, const float* rows, int64_t stride, int64_t count) {
  const int64_t width = heads_ * head_dim_;
  for (int64_t r = 0; r < count; ++r) {
    char* to = storage.bytes.data() + (first + r) * width * static_cast<int64_t>(bytes_of(storage.type));
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
      case DType::i8:
        write_int8(storage, first + r, from);
        break;
      case DType::f64:
        FOVEA_CHECK(!"no tensor is stored in fp64");
    }
  }
}

// quantize_row pads to whole groups, which would reach into the next head.
void KvCache::write_int8(Storage& storage, int64_t token, const float* row) {
  for (int64_t h = 0; h < heads_; ++h) {
    const int64_t at = token * heads_ + h;
    storage.scales.data()[at] =
        kernels().quantize_row(row + h * head_dim_, head_dim_, padded_row_.data(), row_sums_.data());
    std::copy_n(padded_row_.data(), head_dim_,
                reinterpret_cast<int8_t*>(storage.bytes.data()) + at * head_dim_);
  }
}

void KvCache::store(int64_t layer, int64_t first, const float* k, const float* v, int64_t stride,
                    int64_t count) {
  FOVEA_CHECK(first >= tokens_ && first + count <= capacity_);
  FOVEA_CHECK(capacity_ == 0 || keys_[static_cast<size_t>(layer)].bytes.size() > 0);  // else it is not held
  write(keys_[static_cast<size_t>(layer)], first, k, stride, count);
  write(values_[static_cast<size_t>(layer)], first, v, stride, count);
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

void KvCache::store_rotation(DType angles, int64_t first, const RopeTable& table, int64_t count) {
  FOVEA_CHECK(first >= tokens_ && first + count <= capacity_ && table.pairs == head_dim_ / 2);
  Rotation& to = rotations_[place_of(angles)];
  std::copy_n(table.cos.data(), count * table.pairs, to.cos.data() + first * table.pairs);
  std::copy_n(table.sin.data(), count * table.pairs, to.sin.data() + first * table.pairs);
}

KeyBias KvCache::key_bias(DType angles, const float* bias) const {
  const Rotation& r = rotations_[place_of(angles)];
  return {bias, r.cos.data(), r.sin.data()};
}

HeadsView KvCache::view(const Storage& storage, int64_t tokens) const {
  return {storage.bytes.data(), storage.type,          tokens, heads_, head_dim_, heads_ * head_dim_,
          DType::f32,           storage.scales.data(), heads_};
}

HeadsView KvCache::keys(int64_t layer, int64_t tokens) const {
  return view(keys_[static_cast<size_t>(layer)], tokens);
}

HeadsView KvCache::values(int64_t layer, int64_t tokens) const {
  return view(values_[static_cast<size_t>(layer)], tokens);
}

}  // namespace fovea
