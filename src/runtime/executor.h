// Who carries a step of the batch engine out. The engine decides which rows are computed, embeds their
// tokens, samples from the logits and keeps the requests; an executor has the blocks of keys and values, runs
// the rows through the layers, and encodes pictures slice by slice. Where the layers are, in this process or
// on other ranks, only the executor knows. Private to runtime.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "model/batch.h"
#include "runtime/state.h"
#include "schedule/step.h"

namespace fovea {

// The rows of one request. What is borrowed must stay as it is until the step is finished.
struct SegmentOrder {
  StepSegment rows;  // `logits` of its last rows are wanted, and the table changed as it says
  std::array<std::span<const int64_t>, 3> positions = {};  // borrowed: (t, h, w) of rows.count tokens each
  GuardReport* guard = nullptr;                            // as in Segment
  LayerObserver* observer = nullptr;
  int64_t capacity = 0;  // tokens that the request may come to have
  // Where the logits go, [rows.logits, vocab_size], in place of StepOutcome::logits; one that is not finite
  // fails the segment.
  float* logits_to = nullptr;
};

// A picture's encoding goes on until patches before `end` are done. Its first slice brings the picture.
struct PictureOrder {
  uint64_t number = 0;
  int64_t first = 0, end = 0;
  Grid grid = {};
  Picture picture = {};

  bool ends() const { return end == grid.patches(); }  // its embeddings come of this slice
};

// What there is to do, in this order; pictures at any time. A request is in one order at a time.
struct StepOrder {
  int64_t number = 0;
  std::vector<RequestId> forgotten;  // as Executor::forget
  std::vector<BlockCopy> copies;
  std::vector<SegmentOrder> segments;
  // [rows of all segments, hidden_size]: embeddings, each picture's in its place. Overwritten.
  Buffer<float> hidden;
  std::optional<PictureOrder> picture;
  // Where one process computes: through a layer go so many rows at once, 0: all; and whoever waits or
  // watches.
  int64_t piece = 0;
  PassHooks hooks;

  int64_t row_count() const;    // of all segments
  int64_t logit_count() const;  // rows whose logits are wanted in the outcome
};

// The rows whose logits are wanted, of hidden [row_count, width], to `to`, [logit_count, width].
void gather_logit_rows(const StepOrder& order, const float* hidden, int64_t width, float* to);

struct PictureOutcome {
  std::exception_ptr failure;               // an Error; the encoding is gone
  std::optional<Buffer<float>> embeddings;  // [tokens, out_hidden_size], with its last slice
  GuardReport guard;                        // likewise
  double seconds = 0;
};

// What came of a step. A failure belongs to one segment or picture; whatever belongs to none is thrown by
// begin() or finish() and ends the executor.
struct StepOutcome {
  std::vector<std::exception_ptr> failures;  // of each segment: Error(numeric) naming layer and node
  // [logit_count, vocab_size], the segments' one after the other, and what is wrong with a row alone. The
  // rows of a failed segment are in them and mean nothing.
  Buffer<float> logits;
  std::vector<std::exception_ptr> logit_failures;
  PictureOutcome picture;
  double row_seconds = 0;  // that the rows took in the layers
};

// For one thread.
class Executor {
 public:
  virtual ~Executor() = default;

  // Begins to carry out an order, after those that were begun before. Both are borrowed until finish() has
  // returned for it; memory in them is used again from step to step.
  virtual void begin(StepOrder& order, StepOutcome& outcome) = 0;
  // Waits for the order that was begun first.
  virtual void finish() = 0;
  // So many orders may be under way.
  virtual int64_t orders_at_once() const { return 1; }

  // A request is over, or has lost its blocks and will come again from its first token on. Not while it is in
  // an order.
  virtual void forget(RequestId request) = 0;
  // Nobody needs the picture that is being encoded, if it is. Not while it is in an order.
  virtual void drop_picture(uint64_t number) = 0;

  // Of a request that was in an order and is not forgotten; zeros of another.
  virtual KvState kv_state(RequestId request) const = 0;
  virtual int64_t blocks() const = 0;
  virtual int64_t block_bytes() const = 0;  // in this process
  virtual int64_t pixel_bytes() const = 0;  // of pictures under way
};

}  // namespace fovea
