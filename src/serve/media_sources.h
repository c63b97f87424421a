// The pictures and videos of a request that is not trusted.
#pragma once

#include <cstdint>
#include <vector>

#include "serve/https_fetch.h"
#include "text/message.h"

namespace fovea {

struct MediaCount {
  int64_t sources = 0;  // images, videos, listed frames
  int64_t network = 0;  // of these, addresses to be fetched
};
MediaCount count_media(const std::vector<Message>& messages);

// Throws FieldError(exhausted) at the first source beyond the limit.
void limit_media(const std::vector<Message>& messages, int64_t most);

// Puts what the addresses give in their place, as data: URLs: whatever decodes them gets memory. Blocks. The
// addresses are those of admitted_source(). Throws as fetch_https() does.
void fetch_media(std::vector<Message>& messages, const FetchRules& rules);

}  // namespace fovea
