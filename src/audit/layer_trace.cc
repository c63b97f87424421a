#include "audit/layer_trace.h"

#include <algorithm>

#include "audit/row_examination.h"
#include "base/error.h"

namespace fovea {

void ReferenceRows::prepare(int64_t rows, int64_t width, int64_t answer_start, int64_t max_bytes) {
  width_ = width;
  answer_start_ = std::min(answer_start, rows);
  const int64_t answers = rows - answer_start_;
  const int64_t room = std::max<int64_t>(max_bytes / (width * int64_t{sizeof(float)}) - answers, 1);
  stride_ = std::max<int64_t>((answer_start_ + room - 1) / room, 1);
  values_.resize(((answer_start_ + stride_ - 1) / stride_ + answers) * width);
}

std::optional<int64_t> ReferenceRows::slot(int64_t row) const {
  if (row >= answer_start_) return (answer_start_ + stride_ - 1) / stride_ + row - answer_start_;
  if (row % stride_ != 0) return std::nullopt;
  return row / stride_;
}

void ReferenceRows::keep(int64_t first_row, const float* values, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r) {
    const auto to = slot(first_row + r);
    if (!to) continue;
    FOVEA_CHECK((*to + 1) * width_ <= values_.size());
    std::copy_n(values + r * width_, width_, values_.data() + *to * width_);
  }
}

void ReferenceRows::compare(int64_t first_row, const float* values, int64_t rows, ErrorSum& all,
                            ErrorSum& answer) const {
  for (int64_t r = 0; r < rows; ++r) {
    const auto at = slot(first_row + r);
    if (!at) continue;
    FOVEA_CHECK((*at + 1) * width_ <= values_.size());
    const float *a = values + r * width_, *b = values_.data() + *at * width_;
    ErrorSum row;
    for (int64_t i = 0; i < width_; ++i) {
      const double reference = static_cast<double>(b[i]), difference = static_cast<double>(a[i]) - reference;
      row.difference += difference * difference;
      row.reference += reference * reference;
    }
    all.add(row);
    if (first_row + r >= answer_start_) answer.add(row);
  }
}

LayerTrace::LayerTrace(const TraceOptions& options, RunReference* reference)
    : options_(options), reference_(reference) {
  FOVEA_CHECK(!options.drift || reference != nullptr);
  keeping_ = reference != nullptr && reference->empty();
}

LayerTrace::Progress& LayerTrace::progress(ModelPart part, int64_t layer) {
  Progress& progress = layers_[{part, layer}];
  progress.sums.part = part;
  progress.sums.layer = layer;
  return progress;
}

void LayerTrace::drift(ReferenceRows& reference, int64_t first, const float* values, int64_t rows,
                       int64_t width, ErrorSum& all, ErrorSum& answer) const {
  if (keeping_) {
    if (reference.empty())
      reference.prepare(options_.rows, width, options_.answer_start, options_.max_bytes_per_layer);
    reference.keep(first, values, rows);
  }
  reference.compare(first, values, rows, all, answer);
}

// An eighth of the rows may be answer rows; the others are spread evenly over the prompt.
bool LayerTrace::examines(int64_t row) const {
  if (row >= options_.answer_start)
    return row - options_.answer_start < std::max<int64_t>(options_.rows_examined / 8, 1);
  const int64_t step =
      std::max<int64_t>(options_.answer_start / std::max<int64_t>(options_.rows_examined, 1), 1);
  return row % step == step - 1;
}

void LayerTrace::examine(const AttentionProblem& problem, int64_t first_row, LayerSums& sums) const {
  std::vector<int64_t> rows;
  for (int64_t r = 0; r < problem.q.tokens; ++r) {
    if (examines(first_row + r)) rows.push_back(r);
  }
  if (!rows.empty()) examine_rows(problem, rows, options_.drift, sums.heads);
}

void LayerTrace::attended(ModelPart part, int64_t layer, const AttentionProblem& problem) {
  if (stopped_) return;
  Progress& p = progress(part, layer);
  examine(problem, p.attended, p.sums);
  if (options_.drift) {
    drift((*reference_)[{part, layer}].attention, p.attended, problem.out, problem.q.tokens,
          problem.q.heads * problem.q.head_dim, p.sums.attention_all, p.sums.attention_answer);
  }
  p.attended += problem.q.tokens;
}

void LayerTrace::finished(ModelPart part, int64_t layer, const float* hidden, int64_t rows, int64_t width) {
  if (stopped_ || !options_.drift) return;
  Progress& p = progress(part, layer);
  drift((*reference_)[{part, layer}].hidden, p.finished, hidden, rows, width, p.sums.hidden_all,
        p.sums.hidden_answer);
  p.finished += rows;
}

std::vector<LayerSums> LayerTrace::sums() const {
  std::vector<LayerSums> list;
  for (const auto& [key, progress] : layers_) list.push_back(progress.sums);
  return list;
}

}  // namespace fovea
