#include "runtime/picture_tokens.h"

#include <algorithm>

#include "base/error.h"

namespace fovea {

// Every run of pads belongs to the next picture, whose token count tells where it ends (Engine::prepare made
// it so).
std::vector<PictureTokens> picture_tokens(const Prompt& prompt, const ModelConfig& config) {
  std::vector<PictureTokens> places;
  const int64_t merge = config.vision.spatial_merge_size;
  auto at = prompt.ids.begin();
  for (const Picture& picture : prompt.pictures) {
    at = std::find_if(at, prompt.ids.end(),
                      [&](int32_t id) { return id == config.image_token_id || id == config.video_token_id; });
    const Grid grid{picture.grid.t, picture.grid.h / merge, picture.grid.w / merge};
    FOVEA_CHECK(prompt.ids.end() - at >= grid.patches());
    places.push_back({at - prompt.ids.begin(), grid});
    at += grid.patches();
  }
  return places;
}

}  // namespace fovea
