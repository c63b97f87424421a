#include "checkpoint/weight_groups.h"

#include <algorithm>
#include <tuple>

#include "base/error.h"
#include "checkpoint/direct_file.h"

namespace fovea {

namespace {

void add_rows(WeightGroup& group, const TensorInfo& tensor, int64_t first_row, int64_t rows) {
  const int64_t row_bytes = tensor.bytes() / tensor.shape[0];
  GroupPart part{&tensor, first_row, rows, tensor.offset + first_row * row_bytes, rows * row_bytes, 0};
  part.at = group.bytes + part.offset % kDirectPage;
  group.bytes = page_ceil(part.at + part.bytes);
  group.parts.push_back(part);
}

WeightGroup group_below(const Checkpoint& checkpoint, const std::string& name) {
  const auto& tensors = checkpoint.tensors();  // sorted by name
  const std::string prefix = name + ".";
  auto at = std::lower_bound(tensors.begin(), tensors.end(), prefix,
                             [](const TensorInfo& tensor, const std::string& n) { return tensor.name < n; });
  std::vector<const TensorInfo*> matrices;
  for (; at != tensors.end() && at->name.starts_with(prefix); ++at) {
    if (at->shape.size() >= 2) matrices.push_back(&*at);
  }
  // Read front to back.
  std::sort(matrices.begin(), matrices.end(), [](const TensorInfo* x, const TensorInfo* y) {
    return std::tie(x->file, x->offset) < std::tie(y->file, y->offset);
  });
  WeightGroup group{name, {}, 0};
  for (const TensorInfo* matrix : matrices) add_rows(group, *matrix, 0, matrix->shape[0]);
  return group;
}

// 0, n / 2, n / 4, 3 n / 4, ...: any beginning of this order is spread over the range.
std::vector<int64_t> spread(const GroupRange& range) {
  const int64_t count = range.last - range.first;
  int64_t size = 1;
  while (size < count) size *= 2;
  std::vector<int64_t> order;
  for (int64_t i = 0; i < size; ++i) {
    int64_t reversed = 0;
    for (int64_t bit = 1, mirror = size / 2; bit < size; bit *= 2, mirror /= 2) {
      if ((i & bit) != 0) reversed += mirror;
    }
    if (reversed < count) order.push_back(range.first + reversed);
  }
  return order;
}

}  // namespace

WeightGroups::WeightGroups(const Checkpoint& checkpoint)
    : depth_(checkpoint.config().vision.depth), layers_(checkpoint.config().text.num_hidden_layers) {
  groups_.push_back(group_below(checkpoint, "model.visual.patch_embed"));
  for (int64_t i = 0; i < depth_; ++i) {
    groups_.push_back(group_below(checkpoint, fmt::format("model.visual.blocks.{}", i)));
  }
  groups_.push_back(group_below(checkpoint, "model.visual.merger"));
  int64_t largest = 1;
  for (int64_t i = 0; i < layers_; ++i) {
    groups_.push_back(group_below(checkpoint, fmt::format("model.language_model.layers.{}", i)));
    largest = std::max(largest, groups_.back().bytes);
  }
  const TensorInfo& head = checkpoint.tensor(checkpoint.config().text.tie_word_embeddings
                                                 ? "model.language_model.embed_tokens.weight"
                                                 : "lm_head.weight");
  // Whole pages around a piece must fit, too.
  const int64_t row_bytes = head.bytes() / head.shape[0],
                fitting = std::max<int64_t>((largest - 2 * kDirectPage) / row_bytes, 1),
                pieces = (head.shape[0] + fitting - 1) / fitting,
                rows = (head.shape[0] + pieces - 1) / pieces;
  for (int64_t first = 0; first < head.shape[0]; first += rows) {
    WeightGroup piece{fmt::format("{} from row {}", head.name, first), {}, 0};
    add_rows(piece, head, first, std::min(rows, head.shape[0] - first));
    groups_.push_back(std::move(piece));
  }
}

int64_t WeightGroups::largest(const GroupRange& range) const {
  int64_t bytes = 0;
  for (int64_t g = range.first; g < range.last; ++g) bytes = std::max(bytes, (*this)[g].bytes);
  return bytes;
}

int64_t WeightGroups::total(const GroupRange& range) const {
  int64_t bytes = 0;
  for (int64_t g = range.first; g < range.last; ++g) bytes += (*this)[g].bytes;
  return bytes;
}

int64_t zero_cut(int64_t bytes, int64_t rank, int64_t ranks) {
  // Without the overflow of bytes * rank.
  return bytes / ranks * rank + bytes % ranks * rank / ranks;
}

int64_t zero_share(const Checkpoint& checkpoint, const WeightGroups& groups, int64_t rank, int64_t ranks) {
  const auto share = [&](int64_t bytes) {
    return zero_cut(bytes, rank + 1, ranks) - zero_cut(bytes, rank, ranks);
  };
  int64_t total = 0;
  for (const WeightGroup& group : groups.all()) {
    for (const GroupPart& part : group.parts) total += share(part.bytes);
  }
  if (!checkpoint.config().text.tie_word_embeddings) {
    total += share(checkpoint.tensor("model.language_model.embed_tokens.weight").bytes());
  }
  return total;
}

int64_t least_residency(const WeightGroups& groups, const GroupRange& range) {
  return std::min(2 * groups.largest(range), groups.total(range));
}

Residency choose_residency(const WeightGroups& groups, const GroupRange& range, const std::vector<bool>& held,
                           int64_t bytes, bool range_first) {
  std::vector<int64_t> inside = spread(range), outside;
  for (int64_t g = 0; g < std::ssize(groups.all()); ++g) {
    if ((g < range.first || g >= range.last) && held[static_cast<size_t>(g)]) outside.push_back(g);
  }
  const auto choose = [&](int64_t slot_bytes) {
    Residency chosen{std::vector<bool>(groups.all().size()), 0, slot_bytes};
    for (const std::vector<int64_t>* list :
         {range_first ? &inside : &outside, range_first ? &outside : &inside}) {
      for (const int64_t g : *list) {
        if (chosen.bytes() + groups[g].bytes > bytes) continue;
        chosen.kept[static_cast<size_t>(g)] = true;
        chosen.kept_bytes += groups[g].bytes;
      }
    }
    return chosen;
  };
  Residency chosen = choose(0);
  const auto is_kept = [&](int64_t g) { return chosen.kept[static_cast<size_t>(g)]; };
  if (std::all_of(inside.begin(), inside.end(), is_kept)) return chosen;
  return choose(groups.largest(range));
}

}  // namespace fovea
