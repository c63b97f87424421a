#include "runtime/batch_request.h"

namespace fovea {

namespace {

// A picture's tokens: this bit, its number, the offset within it.
constexpr uint64_t kOfPicture = uint64_t{1} << 63;
constexpr int kOffsetBits = 24;

}  // namespace

// Every run of pads belongs to the next picture, whose token count tells where it ends (Engine::prepare made
// it so).
std::vector<PlacedPicture> place_pictures(const Prompt& prompt, const ModelConfig& config, VisionCache& cache,
                                          uint64_t cache_space, Digest (*digest)(const Picture&)) {
  std::vector<PlacedPicture> placed;
  int64_t at = 0;
  for (const Picture& picture : prompt.pictures) {
    const auto is_pad = [&](int64_t token) {
      const int32_t id = prompt.ids[static_cast<size_t>(token)];
      return id == config.image_token_id || id == config.video_token_id;
    };
    while (at < std::ssize(prompt.ids) && !is_pad(at)) ++at;
    const int64_t tokens = picture.tokens(config.vision.spatial_merge_size);
    FOVEA_CHECK(at + tokens <= std::ssize(prompt.ids) && tokens < int64_t{1} << kOffsetBits);
    placed.push_back({cache.number_of(cache_space, digest(picture)), at, tokens, nullptr});
    at += tokens;
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
