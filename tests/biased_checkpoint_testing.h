// A tiny checkpoint whose attention scores are as large as those of the real one's first and last layer.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"

namespace fovea::testing {

// A copy of the checkpoint `from` (bf16, text heads of 64) in `to`, changed so that
// - in every text layer the biases of q and k are `q_bias` and `k_bias` in both halves of the four slowest
// rotary
//   pairs, and the weights there are 0: every key has the same large product 8 * q_bias * k_bias with every
//   query, which exact softmax does not notice;
// - the final norm's weight is `sharpness` times as large, so that distributions have a clear favourite.
inline void write_biased_checkpoint(const std::filesystem::path& from, const std::filesystem::path& to,
                                    float q_bias, float k_bias, float sharpness) {
  namespace fs = std::filesystem;
  fs::create_directories(to);
  for (const auto& entry : fs::directory_iterator(from)) {
    if (entry.is_regular_file() && entry.path().extension() != ".safetensors") {
      fs::copy_file(entry.path(), to / entry.path().filename());
    }
  }
  const SafetensorsFile file = SafetensorsFile::open(from / "model.safetensors");
  constexpr int64_t kHeadDim = 64, kSlowPairs = 4;
  std::vector<std::vector<uint16_t>> changed;
  changed.reserve(file.tensors().size());
  std::vector<TensorToWrite> tensors;
  for (const StoredTensor& tensor : file.tensors()) {
    const auto* values = tensor.as<uint16_t>();
    changed.emplace_back(values, values + element_count(tensor.shape, tensor.name));
    std::vector<uint16_t>& copy = changed.back();
    const bool q = tensor.name.find("self_attn.q_proj") != std::string::npos;
    const bool k = tensor.name.find("self_attn.k_proj") != std::string::npos;
    const bool text = tensor.name.find("visual") == std::string::npos;
    if (text && (q || k)) {
      const int64_t width = tensor.shape.size() == 2 ? tensor.shape[1] : 1;
      const uint16_t value = tensor.shape.size() == 2 ? 0 : bf16_from_f32(q ? q_bias : k_bias);
      for (int64_t row = 0; row < tensor.shape[0]; ++row) {
        const int64_t pair = row % kHeadDim % (kHeadDim / 2);
        if (pair < kHeadDim / 2 - kSlowPairs) continue;
        for (int64_t i = 0; i < width; ++i) copy[static_cast<size_t>(row * width + i)] = value;
      }
    }
    if (tensor.name == "model.norm.weight") {
      for (uint16_t& value : copy) value = bf16_from_f32(f32_from_bf16(value) * sharpness);
    }
    tensors.push_back({tensor.name, tensor.type, tensor.shape, copy.data()});
  }
  write_safetensors(to / "model.safetensors", tensors, file.metadata());
}

}  // namespace fovea::testing
