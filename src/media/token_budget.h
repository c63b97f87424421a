// How many tokens each picture of a request gets when their number is limited. A token is one merged patch
// (patch_size * merge_size pixels square; 28 x 28 in Qwen2.5-VL); a frame group is an image, or the
// temporal_patch_size frames of a video that share their tokens.
//
// The rule is a water level: every frame group gets what it needs at its own limits, but at most the level;
// the level is the highest at which all of them together fit into the total. So large pages are reduced to
// one common size, pictures below it keep every token, and what they leave goes to the large ones.
//
// A level of L tokens acts as a max_pixels of L tokens' area given for that item, so the result is what the
// reference makes of that max_pixels. min_pixels stands above the level: a picture that a minimum keeps
// larger counts with what it really gets. Only the default minimum of video frames (128 tokens) yields to the
// level.
#pragma once

#include <span>

#include "media/media.h"

namespace fovea {

// Reducing a picture below these costs grounding, and is worth a warning: the lower ends of what the model's
// authors recommend for images (README of Qwen2.5-VL) and use for video frames (qwen_vl_utils).
inline constexpr int64_t kImageTokensUsable = 256, kFrameTokensUsable = 128;

// `options` with this token_level, or the lower one that they have.
MediaOptions at_level(MediaOptions options, int64_t level);

// Tokens of a measured picture under `options`.
int64_t tokens_under(const Picture& measured, const MediaOptions& options);

// Lowers the options of a picture to the highest level at which each frame group has at most `most` tokens.
// Throws Error(invalid_argument) naming the picture when its minimum is larger.
void limit_tokens(const Picture& measured, MediaOptions& options, int64_t most);

// The same for all pictures together, at one common level. `options` runs parallel to `measured`.
void share_tokens(std::span<const Picture> measured, std::span<MediaOptions> options, int64_t total);

// Empty, or why grounding suffers: the request reduced `picture` below the usable minimum.
std::string reduction_warning(const Picture& picture, int64_t merge_size);

}  // namespace fovea
