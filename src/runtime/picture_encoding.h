// A picture that is encoded a slice of work at a time, between the steps of others; private to runtime.
#pragma once

#include <optional>

#include "model/vision_pass.h"
#include "runtime/state.h"

namespace fovea {

class PictureEncoding {
 public:
  // Takes the patches, for whoever brought them may go before it ends.
  PictureEncoding(const EngineState& state, Picture picture);

  // Works until such a part of it is done as `patches` are of all its patches. Throws as
  // VisionPass::advance() does.
  void advance_to(int64_t patches);
  int64_t patches() const { return picture_.grid.patches(); }
  int64_t pixel_bytes() const { return picture_.patches.size() * int64_t{sizeof(float)}; }
  // Requires advance_to(patches()); once. [tokens, out_hidden_size].
  Buffer<float> embeddings() { return std::move(embeddings_); }
  // What the guard saw; empty when it is off.
  const GuardReport& guard() const { return guard_; }

 private:
  Grid part() const;  // the groups of the pass under way
  void begin_pass();
  void end_pass();

  const EngineState& state_;
  Picture picture_;
  GuardReport guard_;
  int64_t groups_at_once_, first_group_ = 0;
  std::optional<VisionPass> pass_;
  Buffer<float> embeddings_;
  float* to_;
};

}  // namespace fovea
