// Watches the layers of a run: drift from a reference run over the same tokens, and on a few rows the largest
// scores and the error of the attention itself.
#pragma once

#include <map>
#include <optional>

#include "audit/layer_sums.h"
#include "base/buffer.h"

namespace fovea {

// Rows of the reference run, kept to be compared with.
class ReferenceRows {
 public:
  // `rows` of `width` values will come; those before `answer_start` are thinned out so that all fit into
  // `max_bytes`.
  void prepare(int64_t rows, int64_t width, int64_t answer_start, int64_t max_bytes);
  void keep(int64_t first_row, const float* values, int64_t rows);
  // Adds the differences of these rows to `all`, and of rows from answer_start on to `answer` too.
  void compare(int64_t first_row, const float* values, int64_t rows, ErrorSum& all, ErrorSum& answer) const;
  bool empty() const { return width_ == 0; }

 private:
  std::optional<int64_t> slot(int64_t row) const;

  int64_t width_ = 0, answer_start_ = 0, stride_ = 1;
  Buffer<float> values_;
};

struct LayerReference {
  ReferenceRows attention, hidden;
};
using RunReference = std::map<std::pair<ModelPart, int64_t>, LayerReference>;

struct TraceOptions {
  bool drift = false;          // compare with the reference rows, and measure errors of the attention
  int64_t rows = 0;            // how many rows the run will have
  int64_t answer_start = 0;    // the first row of the answer; = rows where there is none (vision)
  int64_t rows_examined = 32;  // per layer, spread evenly; answer rows first
  int64_t max_bytes_per_layer = int64_t{8} << 20;  // of reference rows
};

class LayerTrace : public LayerObserver {
 public:
  // Fills `reference` when it is empty, else compares with it (options.drift). Borrowed; may be null without
  // drift.
  LayerTrace(const TraceOptions& options, RunReference* reference);

  void attended(ModelPart part, int64_t layer, const AttentionProblem& problem) override;
  void finished(ModelPart part, int64_t layer, const float* hidden, int64_t rows, int64_t width) override;

  // Stops looking: what follows is not teacher-forced.
  void stop() { stopped_ = true; }
  std::vector<LayerSums> sums() const;

 private:
  struct Progress {
    LayerSums sums;
    int64_t attended = 0, finished = 0;  // rows so far
  };
  Progress& progress(ModelPart part, int64_t layer);
  void drift(ReferenceRows& reference, int64_t first, const float* values, int64_t rows, int64_t width,
             ErrorSum& all, ErrorSum& answer) const;
  bool examines(int64_t row) const;
  void examine(const AttentionProblem& problem, int64_t first_row, LayerSums& sums) const;

  TraceOptions options_;
  RunReference* reference_;
  bool keeping_ = false, stopped_ = false;
  std::map<std::pair<ModelPart, int64_t>, Progress> layers_;
};

}  // namespace fovea
