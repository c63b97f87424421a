// What a batch engine holds; private to batch_engine.cc, the life of requests, and batch_step.cc, what
// becomes of them in a step. As many steps are under way as the executor takes, for different requests.
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "runtime/batch_request.h"
#include "runtime/draft_share.h"
#include "runtime/executor.h"
#include "runtime/pace.h"

namespace fovea {

class BatchEngine::State {
 public:
  // `piece`: 0 where several ranks compute.
  State(const EngineState& engine, std::unique_ptr<Executor> executor, const BatchLimits& limits,
        int64_t piece, const Observer& follower)
      : engine_(engine),
        config_(engine.parts->checkpoint.config()),
        executor_(std::move(executor)),
        digest_(limits.digest),
        step_seconds_(limits.step_seconds),
        most_rows_(std::max<int64_t>(limits.max_num_batched_tokens, 2)),
        piece_(piece),
        follower_(follower),
        vision_(limits.vision_cache_bytes),
        scheduler_({limits.max_num_seqs, std::max<int64_t>(limits.max_num_batched_tokens, 2),
                    limits.max_queue, kNoLimit},
                   executor_->blocks(), kPageTokens) {
    scheduler_.set_steps_at_once(executor_->orders_at_once());
  }
  // Other ranks are waited for, who are at work on what nobody wants any more.
  ~State() {
    try {
      for (size_t i = 0; i < under_way_.size() && !broken_; ++i) executor_->finish();
    } catch (const Error&) {  // there is nobody left to tell
    }
    executor_.reset();  // before what messages under way are received into
  }

  RequestId add(BatchJob job);
  std::vector<RequestId> add(Prompt prompt, std::vector<AnswerChoice> choices, uint64_t cache_space);
  void require_room(int64_t prompt_tokens, const GenerationOptions& options) const;
  void cancel(RequestId id);
  bool step();
  BatchMetrics metrics() const;
  std::optional<RequestState> state(RequestId id) const {
    return requests_.contains(id) ? scheduler_.state(id) : std::nullopt;
  }

 private:
  static constexpr int64_t kNoLimit = int64_t{1} << 40;
  using Requests = std::unordered_map<RequestId, std::unique_ptr<BatchRequest>>;
  struct StepUnderWay {
    StepOrder order;
    StepOutcome outcome;
    std::optional<VisionSlice> slice;
    bool given_up = false;  // whoever follows the engine wanted it to stop
    Stopwatch since;
  };

  BatchRequest& request(RequestId id) { return *requests_.at(id); }
  bool is_wanted(uint64_t picture) const {
    return std::any_of(requests_.begin(), requests_.end(), [&](const auto& live) {
      const auto& all = live.second->pictures;
      return std::any_of(all.begin(), all.end(), [&](const PlacedPicture& p) { return p.number == picture; });
    });
  }
  int64_t longest_answer(int64_t prompt_tokens, const GenerationOptions& options) const;
  void arrive(std::unique_ptr<BatchRequest> live, Request order);
  void show(BatchRequest& request, Request& order);
  // Whether whole prompts go layer by layer: what comes from disk is passed once for all of their rows.
  bool layer_by_layer() const;
  void set_pace();
  void propose();
  bool begin_step();
  void finish_step();
  void end_all();
  void fill(StepOrder& order, Step step);
  SegmentOrder segment_order(StepSegment segment);
  void embed(StepOrder& order);
  int64_t piece(const StepOrder& order) const;
  PassHooks hooks(const StepOrder& order);
  std::span<const float> logits_of(const StepUnderWay& step, size_t row) const {
    const auto vocab = static_cast<size_t>(config_.text.vocab_size);
    return {step.outcome.logits.data() + row * vocab, vocab};
  }
  bool interrupted() const { return follower_.cancel != nullptr && follower_.cancel->load(); }
  PictureOrder picture_order(const VisionSlice& slice);
  // Another choice of the prompt has had the pixels, and failed.
  bool is_lost(const VisionSlice& slice) {
    return slice.first == 0 && request(slice.request).shown->failure != nullptr;
  }
  void take_picture(StepUnderWay& step, StepResults& results);
  void hand_out(uint64_t number, Buffer<float> embeddings);
  void take(StepUnderWay& step, StepResults& results);
  void give_up(StepResults& results);
  std::vector<size_t> take_rows(StepUnderWay& step, const std::vector<size_t>& places, StepResults& results);
  void verify_plainly(StepUnderWay& step, std::vector<size_t> places, StepResults& results);
  void sample(StepUnderWay& step);
  bool take_segment(StepUnderWay& step, size_t segment, size_t row, SegmentResult& result);
  void report(const BatchRequest& request, const StepSegment& segment);
  void end(const Ending& ending);

  const EngineState& engine_;
  const ModelConfig& config_;
  std::unique_ptr<Executor> executor_;
  Digest (*digest_)(const Picture&);
  double step_seconds_;
  int64_t most_rows_, piece_;
  Observer follower_;
  VisionCache vision_;
  Scheduler scheduler_;
  Requests requests_;
  Pace pace_;
  StepTimes decode_times_;
  RequestId next_id_ = 1;
  BatchMetrics counts_;
  // In the order of their beginning; the memory of those that are finished is used again.
  std::deque<std::unique_ptr<StepUnderWay>> under_way_, idle_;
  std::exception_ptr broken_;  // what ended the executor
  std::vector<BatchRequest*> announcing_;
  std::vector<std::vector<double>> chances_;
  // Of the step whose logits came.
  std::vector<BatchRequest*> samplers_;  // of each segment whose logits came; null where none is sampled
  std::vector<size_t> first_rows_;       // of logits, of each segment
  std::vector<int32_t> sampled_;         // of each segment's first row
};

}  // namespace fovea
