#include "media/picture_digest.h"

#include <memory>

extern "C" {
#include <libavutil/mem.h>
#include <libavutil/sha.h>
}

#include "base/error.h"

namespace fovea {

Digest digest_of(const Picture& picture) {
  struct Free {
    void operator()(AVSHA* sha) const { av_free(sha); }
  };
  const std::unique_ptr<AVSHA, Free> sha(av_sha_alloc());
  if (!sha) throw Error(ErrorKind::exhausted, "no memory to recognise a picture", "free some memory");
  av_sha_init(sha.get(), 256);
  const auto add = [&](const void* bytes, size_t count) {
    av_sha_update(sha.get(), static_cast<const uint8_t*>(bytes), count);
  };
  const int64_t numbers[] = {picture.is_video, picture.grid.t, picture.grid.h, picture.grid.w,
                             picture.patches.size()};
  add(numbers, sizeof numbers);
  add(&picture.second_per_grid, sizeof picture.second_per_grid);
  add(picture.patches.data(), static_cast<size_t>(picture.patches.size()) * sizeof(float));
  Digest digest;
  av_sha_final(sha.get(), digest.data());
  return digest;
}

}  // namespace fovea
