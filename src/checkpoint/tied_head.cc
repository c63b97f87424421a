#include "checkpoint/tied_head.h"

#include <algorithm>
#include <cstring>

namespace fovea {
namespace {

constexpr const char *kHead = "lm_head.weight", *kEmbedding = "model.language_model.embed_tokens.weight";
constexpr int64_t kPiece = int64_t{4} << 20;  // elements

TensorInfo* find(std::vector<TensorInfo>& tensors, const char* name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const TensorInfo& tensor) { return tensor.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

float value_at(const TensorInfo& tensor, int64_t index) {
  if (tensor.dtype == DType::f32) return static_cast<const float*>(tensor.data)[index];
  const uint16_t bits = static_cast<const uint16_t*>(tensor.data)[index];
  return tensor.dtype == DType::bf16 ? f32_from_bf16(bits) : f32_from_f16(bits);
}

bool same_piece(const TensorInfo& a, const TensorInfo& b, int64_t first, int64_t count) {
  if (a.dtype == b.dtype) {
    const auto size = static_cast<int64_t>(bytes_of(a.dtype));
    const auto at = [&](const TensorInfo& tensor) {
      return static_cast<const char*>(tensor.data) + first * size;
    };
    return std::memcmp(at(a), at(b), static_cast<size_t>(count * size)) == 0;
  }
  for (int64_t i = first; i < first + count; ++i) {
    if (value_at(a, i) != value_at(b, i)) return false;
  }
  return true;
}

bool same_values(const TensorInfo& a, const TensorInfo& b, const std::function<void()>& drop_pages) {
  if (a.shape != b.shape) return false;
  bool same = true;
  for (int64_t first = 0; same && first < a.elements(); first += kPiece) {
    same = same_piece(a, b, first, std::min(kPiece, a.elements() - first));
    drop_pages();
  }
  return same;
}

}  // namespace

void settle_tied_head(std::vector<TensorInfo>& tensors, ModelConfig& config,
                      const std::function<void()>& drop_pages) {
  TensorInfo* head = find(tensors, kHead);
  if (!config.text.tie_word_embeddings || head == nullptr) return;
  const TensorInfo* embedding = find(tensors, kEmbedding);
  if (embedding == nullptr) {
    head->name = kEmbedding;
    return;
  }
  if (same_values(*head, *embedding, drop_pages)) return;
  config.text.tie_word_embeddings = false;
  config.warnings.push_back(
      fmt::format("config.json says tie_word_embeddings, but {} has other values than {}: the stored head is "
                  "used, as by transformers 5 (4 used the embedding)",
                  head->file_name, embedding->file_name));
}

}  // namespace fovea
