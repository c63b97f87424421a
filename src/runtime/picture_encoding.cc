#include "runtime/picture_encoding.h"

#include <algorithm>

#include "base/rounding.h"
#include "runtime/runner.h"

namespace fovea {

PictureEncoding::PictureEncoding(const EngineState& state, Picture picture)
    : state_(state),
      picture_(std::move(picture)),
      guard_(guard_report(state)),
      groups_at_once_(groups_at_once(state, picture_, watching(guard_) != nullptr)) {
  const VisionConfig& config = state.parts->checkpoint.config().vision;
  embeddings_.resize(picture_.tokens(config.spatial_merge_size) * config.out_hidden_size);
  to_ = embeddings_.data();
}

Grid PictureEncoding::part() const {
  return {std::min(groups_at_once_, picture_.grid.t - first_group_), picture_.grid.h, picture_.grid.w};
}

void PictureEncoding::begin_pass() {
  const int64_t first_patch = first_group_ * picture_.grid.h * picture_.grid.w;
  ForwardHooks hooks;
  hooks.guard = watching(guard_);
  pass_.emplace(state_.vision,
                picture_.patches.data() + first_patch * state_.parts->checkpoint.config().vision.patch_dim(),
                part(), hooks);
}

void PictureEncoding::end_pass() {
  const Buffer<float> encoded = pass_->embeddings();
  to_ = std::copy_n(encoded.data(), encoded.size(), to_);
  first_group_ += groups_at_once_;
  pass_.reset();
}

void PictureEncoding::advance_to(int64_t patches) {
  while (first_group_ < picture_.grid.t) {
    const int64_t before = first_group_ * picture_.grid.h * picture_.grid.w, own = part().patches();
    if (patches <= before) return;
    if (!pass_) begin_pass();
    const int64_t wanted = divide_up(std::min(patches - before, own) * pass_->pieces(), own);
    pass_->advance(wanted - pass_->done());
    if (pass_->done() < pass_->pieces()) return;
    end_pass();
  }
}

}  // namespace fovea
