// What was asked, for those who read the report: the questions whose answers differ most, each with its words
// and its pictures, small.
#pragma once

#include <nlohmann/json.hpp>
#include <span>

#include "audit/verdict.h"
#include "media/image.h"
#include "runtime/engine.h"

namespace fovea {

// [{id, prompt, pictures: [{width, height, tokens, frames, thumbnail}]}] of docs/guide/audit.md: at most
// eight, those that some answer right and others wrong first, then the most wrong answers and the largest KL;
// none whose answers are all alike. Pictures are read again; those that are gone by then are left out.
nlohmann::ordered_json asked_questions(const Engine& engine, const MediaLimits& limits,
                                       std::span<const Compared> compared);

// A data: URL of a PNG of at most kThumbnailSide pixels a side and kThumbnailBytes bytes, whatever is on it.
inline constexpr int64_t kThumbnailSide = 128;
inline constexpr size_t kThumbnailBytes = 12 << 10;
std::string thumbnail(const Image& picture);

// The words of a conversation with "[picture 1]" where pictures stand; the middle of a long one left out.
std::string shown_prompt(const std::vector<Message>& messages);

}  // namespace fovea
