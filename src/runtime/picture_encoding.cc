#include "runtime/picture_encoding.h"

#include <algorithm>
#include <utility>

#include "base/freed_memory.h"
#include "base/rounding.h"
#include "runtime/runner.h"

namespace fovea {

namespace {

// How many frame groups of a picture fit into the vision budget at once, at least one.
int64_t groups_at_once(const EngineState& state, const Picture& picture) {
  return frame_groups_at_once(state.parts->checkpoint.config().vision, state.precision.vision, picture.grid,
                              state.options.vision_budget_bytes, state.options.guard.mode != GuardMode::off,
                              state.parts->weights.context());
}

}  // namespace

PictureEncoding::PictureEncoding(const EngineState& state, std::shared_ptr<const Picture> picture,
                                 ForwardHooks hooks, float* to, Tower tower)
    : state_(state),
      picture_(std::move(picture)),
      hooks_(std::move(hooks)),
      tower_(tower),
      guard_(guard_report(state)),
      groups_at_once_(groups_at_once(state, *picture_)),
      to_(to) {
  hooks_.guard = watching(guard_);
  if (to_ != nullptr) return;
  const VisionConfig& config = state.parts->checkpoint.config().vision;
  embeddings_.resize(picture_->tokens(config.spatial_merge_size) * config.out_hidden_size);
  to_ = embeddings_.data();
}

int64_t PictureEncoding::passes() const { return divide_up(picture_->grid.t, groups_at_once_); }

Grid PictureEncoding::part() const {
  return {std::min(groups_at_once_, picture_->grid.t - first_group_), picture_->grid.h, picture_->grid.w};
}

const float* PictureEncoding::patches_of_pass() const {
  const int64_t first_patch = first_group_ * picture_->grid.h * picture_->grid.w;
  return picture_->patches.data() + first_patch * state_.parts->checkpoint.config().vision.patch_dim();
}

void PictureEncoding::begin_pass() { pass_.emplace(state_.vision, patches_of_pass(), part(), hooks_); }

void PictureEncoding::end_pass(const Buffer<float>& encoded) {
  to_ = std::copy_n(encoded.data(), encoded.size(), to_);
  first_group_ += groups_at_once_;
  pass_.reset();
}

void PictureEncoding::advance_to(int64_t patches) {
  while (first_group_ < picture_->grid.t) {
    const int64_t before = first_group_ * picture_->grid.h * picture_->grid.w, own = part().patches();
    if (patches <= before) return;
    if (tower_ == Tower::of_pipeline) {  // another rank's tower does a pass at a time
      end_pass(state_.pipeline->encode(state_.pipeline_parts(), patches_of_pass(), part(), hooks_));
      continue;
    }
    if (!pass_) begin_pass();
    const int64_t wanted = divide_up(std::min(patches - before, own) * pass_->pieces(), own);
    pass_->advance(wanted - pass_->done());
    if (pass_->done() < pass_->pieces()) return;
    end_pass(pass_->embeddings());
  }
}

void add_vision_guard(const GuardReport& from, GuardReport& to) {
  for (size_t layer = 0; layer < from.vision.size(); ++layer) {
    for (size_t head = 0; head < from.vision[layer].size(); ++head) {
      to.vision[layer][head].add(from.vision[layer][head]);
    }
  }
}

Buffer<float> encode_pictures(const EngineState& state, const Prompt& prompt, const Observer& observer,
                              GuardReport* guard) {
  const VisionConfig& config = state.parts->checkpoint.config().vision;
  int64_t tokens = 0, passes = 0, blocks_done = 0;
  for (const Picture& picture : prompt.pictures) {
    tokens += picture.tokens(config.spatial_merge_size);
    passes += divide_up(picture.grid.t, groups_at_once(state, picture));
  }
  if (passes > 0) state.parts->weights.begin(ModelPart::vision, passes, state.options.weight_limit);
  Buffer<float> embeddings(tokens * config.out_hidden_size);
  float* to = embeddings.data();
  ForwardHooks hooks;
  hooks.layers = observer.layers;
  hooks.while_waiting = [&] { check_cancelled(observer); };
  hooks.after_layer = [&] {
    check_cancelled(observer);
    if (observer.progress) observer.progress("vision", ++blocks_done, passes * state.vision.blocks());
  };
  const auto tower = state.pipeline ? PictureEncoding::Tower::of_pipeline : PictureEncoding::Tower::here;
  for (const Picture& picture : prompt.pictures) {
    PictureEncoding work(state, {std::shared_ptr<const Picture>(), &picture}, hooks, to, tower);  // borrowed
    work.advance_to(work.patches());
    to += picture.tokens(config.spatial_merge_size) * config.out_hidden_size;
    if (guard != nullptr) add_vision_guard(work.guard(), *guard);
  }
  return_freed_memory();
  return embeddings;
}

}  // namespace fovea
