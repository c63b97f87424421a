#include "runtime/solo_run.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/rounding.h"
#include "runtime/draft_length.h"
#include "runtime/local_executor.h"

namespace fovea {

namespace {

constexpr int64_t kWhole = int64_t{1} << 40;

// Nobody waits for anybody, and nothing is found that was not made here.
BatchLimits limits_for(const EngineState& engine, int64_t capacity, int64_t chunk) {
  BatchLimits limits;
  limits.max_num_seqs = limits.max_queue = 1;
  // There is always room for a draft.
  limits.max_num_batched_tokens = chunk > 0 ? std::max(chunk, DraftLength::kMost + 1) : kWhole;
  limits.kv_cache_bytes =
      std::max<int64_t>(divide_up(capacity, kPageTokens), 1) * kv_layout(engine).block_bytes();
  limits.vision_cache_bytes = 0;
  limits.step_seconds = std::numeric_limits<double>::infinity();
  return limits;
}

}  // namespace

SoloRun::SoloRun(const EngineState& engine, int64_t capacity, int64_t chunk, const Observer& observer)
    : batch_(engine, limits_for(engine, capacity, chunk), chunk, observer) {}

Answer SoloRun::run(BatchJob job) {
  Answer answer;
  std::exception_ptr failure;
  job.callbacks.on_answer = [&](Answer whole) { answer = std::move(whole); };
  job.callbacks.on_failure = [&](const std::exception_ptr& why) { failure = why; };
  batch_.add(std::move(job));
  while (batch_.step()) {
  }
  if (failure) std::rethrow_exception(failure);
  return answer;
}

void append(Prompt& words, std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) {
    words.ids.push_back(token);
    for (auto& axis : words.positions.axis) axis.push_back(words.positions.next);
    ++words.positions.next;
  }
}

}  // namespace fovea
