#include "runtime/executor.h"

#include <algorithm>

namespace fovea {

int64_t StepOrder::row_count() const {
  int64_t rows = 0;
  for (const SegmentOrder& segment : segments) rows += segment.rows.count;
  return rows;
}

int64_t StepOrder::logit_count() const {
  int64_t rows = 0;
  for (const SegmentOrder& segment : segments) rows += segment.logits_to == nullptr ? segment.rows.logits : 0;
  return rows;
}

void gather_logit_rows(const StepOrder& order, const float* hidden, int64_t width, float* to) {
  for (const SegmentOrder& segment : order.segments) {
    hidden += segment.rows.count * width;
    if (segment.logits_to != nullptr) continue;
    to = std::copy_n(hidden - segment.rows.logits * width, segment.rows.logits * width, to);
  }
}

}  // namespace fovea
