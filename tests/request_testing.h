// For tests of engines that keep something on disk: what a request must not notice of it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "runtime/engine.h"

namespace fovea {

inline void expect_equal(const Buffer<float>& a, const Buffer<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_TRUE(std::equal(a.span().begin(), a.span().end(), b.span().begin()));
}

// A request that is cancelled in the middle of its prompt leaves the next one as it was.
inline void expect_usable_after_an_interrupt(const Engine& engine, const Prompt& prompt,
                                             const GenerationOptions& options) {
  const std::vector<int32_t> expected = engine.generate(prompt, options, {}).token_ids;
  std::atomic<bool> cancel{false};
  Observer observer;
  observer.cancel = &cancel;
  observer.progress = [&](std::string_view stage, int64_t done, int64_t total) {
    if (stage == "prefill" && 2 * done > total) cancel = true;
  };
  EXPECT_EQ(engine.generate(prompt, options, observer).finish_reason, "cancelled");
  EXPECT_EQ(engine.generate(prompt, options, {}).token_ids, expected);
}

}  // namespace fovea
