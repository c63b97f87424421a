#include "runtime/local_executor.h"

#include <algorithm>
#include <utility>

#include "runtime/picture_encodings.h"
#include "runtime/request_tables.h"

namespace fovea {

namespace {

constexpr int64_t kManyPasses = 1000;  // an answer takes the decoder's weights once for every token

class LocalExecutor final : public Executor {
 public:
  LocalExecutor(const EngineState& engine, int64_t kv_cache_bytes)
      : engine_(engine), tables_(engine, blocks_in(kv_layout(engine), kv_cache_bytes)), encodings_(engine) {}

  // All is done at once.
  void begin(StepOrder& order, StepOutcome& outcome) override {
    tables_.prepare(order, segments_);
    outcome.failures.assign(segments_.size(), nullptr);
    outcome.logit_failures.clear();
    outcome.picture = {};
    if (order.picture) encodings_.encode(*order.picture, outcome.picture);
    if (!segments_.empty()) forward(order, outcome);
  }
  void finish() override {}

  void forget(RequestId request) override { tables_.forget(request); }
  void drop_picture(uint64_t number) override { encodings_.drop(number); }
  KvState kv_state(RequestId request) const override { return tables_.state(request); }
  int64_t blocks() const override { return tables_.blocks(); }
  int64_t block_bytes() const override { return tables_.block_bytes(); }
  int64_t pixel_bytes() const override { return encodings_.pixel_bytes(); }

 private:
  void forward(StepOrder& order, StepOutcome& outcome);
  void head(const StepOrder& order, StepOutcome& outcome);
  void measure(const StepOrder& order, StepOutcome& outcome);

  const EngineState& engine_;
  RequestTables tables_;
  PictureEncodings encodings_;
  // Of the step under way; memory is kept from step to step.
  std::vector<Segment> segments_;
  DecoderScratch scratch_;
  Buffer<float> rows_;
};

void LocalExecutor::forward(StepOrder& order, StepOutcome& outcome) {
  const Stopwatch watch;
  engine_.parts->weights.begin(ModelPart::text, kManyPasses, engine_.options.weight_limit);
  engine_.decoder.forward(order.hidden.data(), segments_, scratch_, order.hooks, order.piece);
  outcome.row_seconds = watch.seconds();
  for (size_t i = 0; i < segments_.size(); ++i) outcome.failures[i] = segments_[i].failure;
  head(order, outcome);
  measure(order, outcome);
}

void LocalExecutor::head(const StepOrder& order, StepOutcome& outcome) {
  const int64_t width = engine_.decoder.config().hidden_size, vocab = engine_.decoder.config().vocab_size,
                wanted = order.logit_count();
  if (wanted == 0) return;
  rows_.reserve(wanted * width);
  gather_logit_rows(order, order.hidden.data(), width, rows_.data());
  outcome.logits.reserve(wanted * vocab);
  outcome.logit_failures.assign(static_cast<size_t>(wanted), nullptr);
  engine_.decoder.logits(rows_.data(), wanted, outcome.logits.data(), scratch_, order.hooks.while_waiting,
                         outcome.logit_failures);
}

void LocalExecutor::measure(const StepOrder& order, StepOutcome& outcome) {
  const int64_t width = engine_.decoder.config().hidden_size;
  const float* behind = order.hidden.data();
  for (size_t i = 0; i < order.segments.size(); ++i) {
    const SegmentOrder& segment = order.segments[i];
    const int64_t rows = segment.rows.logits;
    behind += segment.rows.count * width;
    if (segment.logits_to == nullptr || rows == 0 || outcome.failures[i]) continue;
    try {
      engine_.decoder.logits(behind - rows * width, rows, segment.logits_to, scratch_,
                             order.hooks.while_waiting);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::numeric) throw;
      outcome.failures[i] = std::current_exception();
    }
  }
}

}  // namespace

KvLayout kv_layout(const EngineState& engine) {
  return {engine.decoder.config(), engine.precision.text.layers, engine.held(),
          engine.options.guard.mode != GuardMode::off};
}

std::unique_ptr<Executor> local_executor(const EngineState& engine, int64_t kv_cache_bytes) {
  return std::make_unique<LocalExecutor>(engine, kv_cache_bytes);
}

}  // namespace fovea
