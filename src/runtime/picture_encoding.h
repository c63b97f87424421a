// Pictures through the vision tower: one a slice of work at a time, between the steps of others, or all of a
// prompt. Private to runtime.
#pragma once

#include <memory>
#include <optional>

#include "model/vision_pass.h"
#include "runtime/state.h"

namespace fovea {

class PictureEncoding {
 public:
  // In this process, or of whichever rank has it, asked by Pipeline::encode.
  enum class Tower { here, of_pipeline };

  // Shares the patches, for whoever brought them may go before it ends. The guard of `hooks` is its own. The
  // embeddings are written to `to`, if it is given, in place of a buffer of its own.
  PictureEncoding(const EngineState& state, std::shared_ptr<const Picture> picture, ForwardHooks hooks = {},
                  float* to = nullptr, Tower tower = Tower::here);

  // Works until such a part of it is done as `patches` are of all its patches. Throws as
  // VisionPass::advance() does.
  void advance_to(int64_t patches);
  int64_t patches() const { return picture_->grid.patches(); }
  int64_t pixel_bytes() const { return picture_->patches.size() * int64_t{sizeof(float)}; }
  // Passes of the tower, each of which takes all its weights.
  int64_t passes() const;
  // Requires advance_to(patches()); once. [tokens, out_hidden_size].
  Buffer<float> embeddings() { return std::move(embeddings_); }
  // What the guard saw; empty when it is off.
  const GuardReport& guard() const { return guard_; }

 private:
  Grid part() const;  // the groups of the pass under way
  const float* patches_of_pass() const;
  void begin_pass();
  void end_pass(const Buffer<float>& encoded);

  const EngineState& state_;
  std::shared_ptr<const Picture> picture_;
  ForwardHooks hooks_;
  Tower tower_;
  GuardReport guard_;
  int64_t groups_at_once_, first_group_ = 0;
  std::optional<VisionPass> pass_;
  Buffer<float> embeddings_;
  float* to_;
};

// What was seen of a picture belongs to the request for which it was finished.
void add_vision_guard(const GuardReport& from, GuardReport& to);

// The embeddings of all pictures of a prompt, in order, [tokens, out_hidden_size]. What the guard sees is
// added to `guard`, if there is one.
Buffer<float> encode_pictures(const EngineState& state, const Prompt& prompt, const Observer& observer,
                              GuardReport* guard);

}  // namespace fovea
