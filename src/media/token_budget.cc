#include "media/token_budget.h"

#include <algorithm>

#include "media/geometry.h"

namespace fovea {

namespace {

// The largest level in [0, highest] at which `tokens_at(level)`, which never falls, is at most `most`;
// 0 when there is none.
template <typename TokensAt>
int64_t highest_level(int64_t highest, int64_t most, TokensAt tokens_at) {
  int64_t fits = 0, beyond = highest + 1;
  while (beyond - fits > 1) {
    const int64_t middle = fits + (beyond - fits) / 2;
    (tokens_at(middle) <= most ? fits : beyond) = middle;
  }
  return fits;
}

[[noreturn]] void refuse(const std::string& what, int64_t least, int64_t most, const char* flag) {
  throw Error(
      ErrorKind::invalid_argument,
      fmt::format("{} cannot have fewer than {} tokens, {} allows {}", what, least, flag, most),
      fmt::format("raise {}, lower --min-pixels, or give fewer pictures (videos: a lower --fps)", flag));
}

}  // namespace

MediaOptions at_level(MediaOptions options, int64_t level) {
  options.token_level = std::min(options.token_level.value_or(level), level);
  return options;
}

int64_t tokens_under(const Picture& measured, const MediaOptions& options) {
  return with_geometry(measured, options).tokens(options.merge_size);
}

void limit_tokens(const Picture& measured, MediaOptions& options, int64_t most) {
  const auto tokens_at = [&](int64_t level) {
    return tokens_under(measured, at_level(options, level)) / measured.grid.t;
  };
  const int64_t wanted = tokens_under(measured, options) / measured.grid.t;
  const int64_t level = highest_level(wanted, most, tokens_at);
  if (level == 0) refuse(measured.source, tokens_at(1), most, "--max-image-tokens");
  options = at_level(options, level);
}

void share_tokens(std::span<const Picture> measured, std::span<MediaOptions> options, int64_t total) {
  FOVEA_CHECK(measured.size() == options.size());
  const auto tokens_at = [&](int64_t level) {
    int64_t sum = 0;
    for (size_t i = 0; i < measured.size(); ++i) {
      sum += tokens_under(measured[i], at_level(options[i], level));
    }
    return sum;
  };
  int64_t wanted = 0;
  for (size_t i = 0; i < measured.size(); ++i) wanted += tokens_under(measured[i], options[i]);
  if (wanted <= total) return;
  const int64_t level = highest_level(wanted, total, tokens_at);
  if (level == 0) {
    refuse(fmt::format("the {} images and videos together", measured.size()), tokens_at(1), total,
           "--max-total-image-tokens");
  }
  for (size_t i = 0; i < measured.size(); ++i) options[i] = at_level(options[i], level);
}

std::string reduction_warning(const Picture& picture, int64_t merge_size) {
  const int64_t tokens = picture.tokens(merge_size);
  const int64_t usable = picture.is_video ? kFrameTokensUsable * picture.grid.t : kImageTokensUsable;
  if (tokens >= std::min(usable, picture.tokens_wanted)) return {};
  return fmt::format("{} was reduced to {} of {} tokens; below {} small text and places in it are read badly",
                     picture.source.substr(0, 200), tokens, picture.tokens_wanted, usable);
}

}  // namespace fovea
