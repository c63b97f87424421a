#include "schedule/vision_work.h"

#include <algorithm>

#include "base/error.h"

namespace fovea {

void VisionWork::add(std::span<const PromptPicture> pictures) {
  for (const PromptPicture& picture : pictures) {
    Work& work = works_[picture.number];
    FOVEA_CHECK(work.owners == 0 || work.units == picture.units);
    work.units = picture.units;
    if (picture.encoded) work.done = work.units;
    ++work.owners;
  }
}

void VisionWork::remove(std::span<const PromptPicture> pictures) {
  for (const PromptPicture& picture : pictures) {
    const auto work = works_.find(picture.number);
    if (--work->second.owners == 0) works_.erase(work);
  }
}

void VisionWork::reach(uint64_t number, int64_t done) {
  Work& work = works_.at(number);
  work.done = std::max(work.done, done);
}

void VisionWork::forget(uint64_t number) {
  const auto work = works_.find(number);
  if (work != works_.end()) work->second.done = 0;
}

}  // namespace fovea
