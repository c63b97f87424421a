// How a session's model computes what is behind its prompt. Private to runtime.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "runtime/engine.h"

namespace fovea {

class Continuation {
 public:
  using Choose = std::function<int32_t(std::span<const float> logits, std::span<const int32_t> tokens)>;
  using Ended = std::function<bool(std::span<const int32_t> tokens)>;

  virtual ~Continuation() = default;
  // As Session::forced_logits, of at least one token.
  virtual void forced_logits(std::span<const int32_t> tokens, float* logits) = 0;
  // Token by token behind prompt + tokens, as chosen, until it has ended.
  virtual std::vector<int32_t> go_on(std::vector<int32_t> tokens, const Choose& choose,
                                     const Ended& ended) = 0;
};

}  // namespace fovea
