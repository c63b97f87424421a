#include "model/positions.h"

#include <algorithm>

#include "base/error.h"

namespace fovea {

namespace {

[[noreturn]] void mismatch(const std::string& what) {
  throw Error(ErrorKind::invalid_argument, "placeholder tokens do not match the images and videos: " + what,
              "give exactly one image or video per placeholder, and do not write the pad tokens by hand");
}

// Appends the block of one item starting at `start`; returns the largest position it used.
int64_t append_visual(Positions& positions, const VisualItem& item, int64_t start,
                      const VisionConfig& vision) {
  const int64_t merge = vision.spatial_merge_size;
  const auto seconds = static_cast<float>(item.is_video ? item.second_per_grid : 0.0);
  const auto tokens_per_second = static_cast<float>(vision.tokens_per_second);
  int64_t largest = start;
  for (int64_t t = 0; t < item.grid.t; ++t) {
    // The reference multiplies f32 tensors in this order and truncates last.
    const int64_t time = start + static_cast<int64_t>(static_cast<float>(t) * seconds * tokens_per_second);
    for (int64_t h = 0; h < item.grid.h / merge; ++h) {
      for (int64_t w = 0; w < item.grid.w / merge; ++w) {
        positions.axis[0].push_back(time);
        positions.axis[1].push_back(start + h);
        positions.axis[2].push_back(start + w);
        largest = std::max({largest, time, start + h, start + w});
      }
    }
  }
  return largest;
}

}  // namespace

Positions mrope_positions(std::span<const int32_t> ids, std::span<const VisualItem> items,
                          const ModelConfig& config) {
  Positions positions;
  const int64_t merge_area = config.vision.spatial_merge_size * config.vision.spatial_merge_size;
  size_t item = 0, at = 0;
  while (at < ids.size()) {
    const bool image = ids[at] == config.image_token_id, video = ids[at] == config.video_token_id;
    if (!image && !video) {
      for (auto& axis : positions.axis) axis.push_back(positions.next);
      ++positions.next;
      ++at;
      continue;
    }
    if (item == items.size())
      mismatch(fmt::format("more placeholder runs than the {} items given", items.size()));
    const VisualItem& visual = items[item];
    const auto tokens = static_cast<size_t>(visual.grid.patches() / merge_area);
    const auto run = std::min(tokens, ids.size() - at);
    if (visual.is_video != video || run < tokens ||
        !std::all_of(ids.begin() + at, ids.begin() + at + run, [&](int32_t id) { return id == ids[at]; })) {
      mismatch(fmt::format("item {} needs {} {} tokens in a row at position {}", item + 1, tokens,
                           visual.is_video ? "video" : "image", at));
    }
    positions.next = append_visual(positions, visual, positions.next, config.vision) + 1;
    at += tokens;
    ++item;
  }
  if (item != items.size())
    mismatch(fmt::format("{} items but only {} placeholder runs", items.size(), item));
  return positions;
}

}  // namespace fovea
