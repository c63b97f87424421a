// A LoRA adapter in PEFT's form, checked against the model it changes. Every byte is untrusted; the tensors
// are memory-mapped.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "checkpoint/config.h"

namespace fovea {

// W' = W + scale * up * down, or for an embedding, whose rows are tokens, W + scale * (up * down)^T; with a
// magnitude each row is then brought to that length (DoRA).
struct LoraChange {
  std::string tensor;  // canonical, "model.language_model.layers.0.self_attn.q_proj.weight"
  bool embedding = false;
  MatrixView down;       // [rank, columns]; of an embedding [rank, rows]
  MatrixView up;         // [rows, rank]; of an embedding [columns, rank]
  MatrixView magnitude;  // [1, rows]; no data: not DoRA
  double scale = 1;

  int64_t rank() const { return down.rows; }
};

// A tensor that was trained itself: modules_to_save and biases. Where there is a change of the same tensor,
// that one is added to these values.
struct LoraReplacement {
  std::string tensor;
  std::vector<int64_t> shape;
  MatrixView values;  // [1, elements]
};

class LoraAdapter {
 public:
  // Reads adapter_config.json and adapter_model.safetensors of `dir`. Each tensor has its place in `model`,
  // and each place that the config names has its tensors; otherwise, and for what would change the model in
  // another way, throws Error naming file and tensor.
  static LoraAdapter open(const std::filesystem::path& dir, const ModelConfig& model);

  LoraAdapter(LoraAdapter&&) noexcept;
  LoraAdapter& operator=(LoraAdapter&&) noexcept;
  ~LoraAdapter();

  const std::filesystem::path& dir() const;
  const std::vector<LoraChange>& changes() const;            // sorted by tensor
  const std::vector<LoraReplacement>& replacements() const;  // sorted by tensor
  // Whether a saved embedding is to be the tied head, too.
  bool tie_saved_embedding() const;
  const std::vector<std::string>& warnings() const;

 private:
  struct State;
  explicit LoraAdapter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace fovea
