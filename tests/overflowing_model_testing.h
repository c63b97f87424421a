// The demo model with one token that overflows fp16, and nothing else that does.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"
#include "text/tokenizer.h"

namespace fovea {

using Bf16Tensors = std::map<std::string, std::vector<uint16_t>>;

// The demo with tensors as `change` leaves them.
inline void write_changed_demo(const std::filesystem::path& to,
                               const std::function<void(Bf16Tensors&)>& change) {
  const std::filesystem::path demo = std::filesystem::path(FOVEA_SOURCE_DIR) / "models" / "fovea-demo";
  std::filesystem::copy(demo, to);
  std::filesystem::remove(to / "model.safetensors");
  const SafetensorsFile file = SafetensorsFile::open(demo / "model.safetensors");
  Bf16Tensors values;
  for (const StoredTensor& tensor : file.tensors()) {
    int64_t count = 1;
    for (const int64_t size : tensor.shape) count *= size;
    const auto* from = tensor.as<uint16_t>();
    values[tensor.name].assign(from, from + count);
  }
  change(values);
  std::vector<TensorToWrite> tensors;
  for (const StoredTensor& tensor : file.tensors()) {
    tensors.push_back({tensor.name, tensor.type, tensor.shape, values.at(tensor.name).data()});
  }
  write_safetensors(to / "model.safetensors", tensors, file.metadata());
}

inline int32_t one_token(const std::string& text) {
  const std::vector<int32_t> ids =
      Tokenizer::open(std::filesystem::path(FOVEA_SOURCE_DIR) / "models" / "fovea-demo").encode(text);
  EXPECT_EQ(ids.size(), 1u);
  return ids.front();
}

// Its embedding is beyond fp16.
inline void overflow_embedding(Bf16Tensors& tensors, const std::string& token, int64_t width) {
  tensors.at("model.embed_tokens.weight")[static_cast<size_t>(one_token(token) * width)] =
      bf16_from_f32(1e6f);
}

// In a layer's MLP: its embedding has one channel alone, which other tokens use little, and the first row of
// gate and up reads nothing else: of sqrt(width) = 16, its normalised value, they make 20 * 16 each, and
// others would have to reach 12.8.
inline void overflow_mlp(Bf16Tensors& tensors, const std::string& token, int64_t width,
                         const std::string& layer) {
  std::vector<uint16_t>& embeddings = tensors.at("model.embed_tokens.weight");
  const auto at = [width](int64_t row, int64_t column) { return static_cast<size_t>(row * width + column); };
  const int64_t rows = std::ssize(embeddings) / width;
  std::vector<std::pair<float, int64_t>> largest;  // of each channel, normalised
  for (int64_t c = 0; c < width; ++c) largest.emplace_back(0.f, c);
  for (int64_t r = 0; r < rows; ++r) {
    double squares = 0;
    for (int64_t c = 0; c < width; ++c) squares += std::pow(double{f32_from_bf16(embeddings[at(r, c)])}, 2);
    const double rms = std::sqrt(squares / static_cast<double>(width));
    for (auto& [most, c] : largest) {
      most = std::max(most, static_cast<float>(std::abs(f32_from_bf16(embeddings[at(r, c)])) / rms));
    }
  }
  std::sort(largest.begin(), largest.end());
  const int64_t channel = largest[3].second;
  for (auto& [name, values] : tensors) {  // attention is to add little, and no score to overflow
    if (name.find("self_attn.q_proj") == name.npos || name.find("model.layers.") == name.npos) continue;
    for (uint16_t& value : values) value = bf16_from_f32(0.01f * f32_from_bf16(value));
  }
  for (int64_t c = 0; c < width; ++c) {
    embeddings[at(one_token(token), c)] = bf16_from_f32(c == channel ? 100.f : 0.f);
  }
  const float norm =
      f32_from_bf16(tensors.at(layer + ".post_attention_layernorm.weight")[static_cast<size_t>(channel)]);
  for (const char* projection : {".mlp.gate_proj.weight", ".mlp.up_proj.weight"}) {
    std::vector<uint16_t>& weights = tensors.at(layer + projection);
    std::fill_n(weights.begin(), width, bf16_from_f32(0));
    weights[static_cast<size_t>(channel)] = bf16_from_f32(20.f / std::abs(norm));
  }
  std::vector<uint16_t>& down = tensors.at(layer + ".mlp.down_proj.weight");
  for (int64_t c = 0; c < width; ++c) {
    down[static_cast<size_t>(c * (std::ssize(down) / width))] = bf16_from_f32(0.001f);
  }
}

}  // namespace fovea
