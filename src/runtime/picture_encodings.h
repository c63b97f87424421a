// The pictures that a process is encoding; private to runtime.
#pragma once

#include <unordered_map>

#include "runtime/executor.h"
#include "runtime/picture_encoding.h"

namespace fovea {

class PictureEncodings {
 public:
  // The engine is borrowed.
  explicit PictureEncodings(const EngineState& engine) : engine_(engine) {}

  // A slice. The encoding keeps the pixels, for the request that brought them may end before it.
  void encode(PictureOrder& order, PictureOutcome& outcome);
  void drop(uint64_t number) { under_way_.erase(number); }
  int64_t pixel_bytes() const;

 private:
  const EngineState& engine_;
  std::unordered_map<uint64_t, PictureEncoding> under_way_;  // by the picture's number
};

}  // namespace fovea
