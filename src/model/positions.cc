#include "model/positions.h"

#include <algorithm>

#include "base/error.h"

namespace fovea {

namespace {

[[noreturn]] void mismatch(const std::string& what) {
  throw Error(ErrorKind::invalid_argument, "placeholder tokens do not match the images and videos: " + what,
              "give exactly one image or video per placeholder, and do not write the pad tokens by hand");
}

// The position of the temporal patch `t` behind the first one. Both references multiply in f32 and truncate
// last, but not in the same order.
int64_t time_step(int64_t t, const VisualItem& item, const VisionConfig& vision, VideoPositions rule) {
  const auto seconds = static_cast<float>(item.is_video ? item.second_per_grid : 0.0);
  const auto tokens_per_second = static_cast<float>(vision.tokens_per_second);
  const float step = rule == VideoPositions::qwen ? static_cast<float>(t) * seconds * tokens_per_second
                                                  : static_cast<float>(t) * (tokens_per_second * seconds);
  // Far beyond any context, and exact neither as f32 nor in any rotation that is computed from it.
  constexpr float kMost = 1e12F;
  if (!(step >= 0 && step <= kMost)) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("a video with {} seconds from one pair of frames to the next has no positions",
                            item.second_per_grid),
                "correct its fps");
  }
  return static_cast<int64_t>(step);
}

// Appends the block of one item starting at `start`; returns the largest position it used.
int64_t append_visual(Positions& positions, const VisualItem& item, int64_t start, const VisionConfig& vision,
                      VideoPositions rule) {
  const int64_t merge = vision.spatial_merge_size;
  int64_t largest = start;
  for (int64_t t = 0; t < item.grid.t; ++t) {
    const int64_t time = start + time_step(t, item, vision, rule);
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
                          const ModelConfig& config, VideoPositions after_video) {
  Positions positions;
  const int64_t merge = config.vision.spatial_merge_size, merge_area = merge * merge;
  int64_t text = 0, largest = -1;  // where the next text token stands; what has been reached
  size_t item = 0, at = 0;
  while (at < ids.size()) {
    const bool image = ids[at] == config.image_token_id, video = ids[at] == config.video_token_id;
    if (!image && !video) {
      for (auto& axis : positions.axis) axis.push_back(text);
      largest = std::max(largest, text++);
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
    const int64_t last = append_visual(positions, visual, text, config.vision, after_video);
    text = after_video == VideoPositions::qwen ? last + 1
                                               : text + std::max(visual.grid.h, visual.grid.w) / merge;
    largest = std::max(largest, last);
    at += tokens;
    ++item;
  }
  if (item != items.size())
    mismatch(fmt::format("{} items but only {} placeholder runs", items.size(), item));
  positions.next = largest + 1;
  return positions;
}

}  // namespace fovea
