#include "model/tensor_shard.h"

#include <algorithm>

#include "base/error.h"

namespace fovea {

namespace {

// Products with quantities of this many columns need no masks in any kernel.
constexpr int64_t kColumns = 64;

}  // namespace

TensorPart tensor_part(const TextConfig& config, const TensorShard& shard) {
  const int64_t heads = config.num_attention_heads, group = heads / config.num_key_value_heads;
  if (shard.size > heads) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("the model's {} attention heads cannot be split over {} ranks", heads, shard.size),
        "give --tensor-parallel no more than there are heads");
  }
  const auto cut = [&](int64_t rank, int64_t total) { return total * rank / shard.size; };
  TensorPart part;
  part.first_q = cut(shard.rank, heads);
  part.heads_q = cut(shard.rank + 1, heads) - part.first_q;
  part.first_kv = part.first_q / group;
  part.heads_kv = (part.first_q + part.heads_q - 1) / group + 1 - part.first_kv;
  const int64_t blocks = (config.intermediate_size + kColumns - 1) / kColumns;
  const auto column = [&](int64_t rank) {
    return std::min(cut(rank, blocks) * kColumns, config.intermediate_size);
  };
  part.first_inner = column(shard.rank);
  part.inner = column(shard.rank + 1) - part.first_inner;
  for (int64_t kv = 0; kv < part.heads_kv; ++kv) {
    const int64_t begin = std::max((part.first_kv + kv) * group, part.first_q),
                  end = std::min((part.first_kv + kv + 1) * group, part.first_q + part.heads_q);
    part.pieces.push_back({begin - part.first_q, end - begin, kv});
  }
  const bool even = std::all_of(part.pieces.begin(), part.pieces.end(), [&](const HeadPiece& piece) {
    return piece.count == part.pieces.front().count;
  });
  if (even) part.pieces = {{0, part.heads_q, 0}};
  return part;
}

}  // namespace fovea
