#include "runtime/batch_request.h"

#include "runtime/picture_tokens.h"

namespace fovea {

namespace {

// A picture's tokens: this bit, its number, the offset within it.
constexpr uint64_t kOfPicture = uint64_t{1} << 63;
constexpr int kOffsetBits = 24;

}  // namespace

std::vector<PlacedPicture> place_pictures(const Prompt& prompt, const ModelConfig& config, VisionCache& cache,
                                          uint64_t cache_space, Digest (*digest)(const Picture&)) {
  std::vector<PlacedPicture> placed;
  for (const PictureTokens& place : picture_tokens(prompt, config)) {
    const int64_t tokens = place.grid.patches();
    FOVEA_CHECK(tokens < int64_t{1} << kOffsetBits);
    const Picture& picture = prompt.pictures[placed.size()];
    placed.push_back({cache.number_of(cache_space, digest(picture)), place.first_token, tokens, nullptr});
  }
  return placed;
}

std::vector<uint64_t> identities_of(const Prompt& prompt, std::span<const PlacedPicture> pictures) {
  std::vector<uint64_t> tokens(prompt.ids.begin(), prompt.ids.end());
  for (const PlacedPicture& picture : pictures) {
    for (int64_t i = 0; i < picture.tokens; ++i) {
      tokens[static_cast<size_t>(picture.first_token + i)] =
          kOfPicture | picture.number << kOffsetBits | static_cast<uint64_t>(i);
    }
  }
  return tokens;
}

}  // namespace fovea
