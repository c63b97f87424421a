// What a batch engine holds; private to batch_engine.cc, the life of requests, and batch_step.cc, what
// becomes of them in a step.
#pragma once

#include <algorithm>
#include <memory>
#include <unordered_map>
#include <vector>

#include "runtime/batch_request.h"
#include "runtime/draft_share.h"
#include "runtime/local_executor.h"
#include "runtime/pace.h"

namespace fovea {

class BatchEngine::State {
 public:
  State(const EngineState& engine, const BatchLimits& limits, int64_t piece, const Observer& follower)
      : engine_(engine),
        config_(engine.parts->checkpoint.config()),
        executor_(local_executor(engine, limits.kv_cache_bytes)),
        digest_(limits.digest),
        step_seconds_(limits.step_seconds),
        most_rows_(std::max<int64_t>(limits.max_num_batched_tokens, 2)),
        piece_(piece),
        follower_(follower),
        vision_(limits.vision_cache_bytes),
        scheduler_({limits.max_num_seqs, std::max<int64_t>(limits.max_num_batched_tokens, 2),
                    limits.max_queue, kNoLimit},
                   executor_->blocks(), kPageTokens) {}

  RequestId add(BatchJob job);
  std::vector<RequestId> add(Prompt prompt, std::vector<AnswerChoice> choices, uint64_t cache_space);
  void require_room(int64_t prompt_tokens, const GenerationOptions& options) const;
  void cancel(RequestId id);
  bool step();
  BatchMetrics metrics() const;
  std::optional<RequestState> state(RequestId id) const { return scheduler_.state(id); }

 private:
  static constexpr int64_t kNoLimit = int64_t{1} << 40;
  using Requests = std::unordered_map<RequestId, std::unique_ptr<BatchRequest>>;

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
  void fill_order(Step step);
  SegmentOrder segment_order(StepSegment segment);
  void embed();
  int64_t piece() const;
  PassHooks hooks();
  std::span<const float> logits_of(size_t row) const {
    const auto vocab = static_cast<size_t>(config_.text.vocab_size);
    return {outcome_.logits.data() + row * vocab, vocab};
  }
  bool interrupted() const { return follower_.cancel != nullptr && follower_.cancel->load(); }
  Picture take_pixels(const VisionSlice& slice);
  // Another choice of the prompt has had the pixels, and failed.
  bool is_lost(const VisionSlice& slice) {
    return slice.first == 0 && request(slice.request).shown->failure != nullptr;
  }
  void take_picture(const VisionSlice& slice, StepResults& results);
  void hand_out(uint64_t number, Buffer<float> embeddings);
  void carry_out(StepResults& results);
  void give_up(StepResults& results);
  std::vector<size_t> take_rows(const std::vector<size_t>& places, StepResults& results);
  void verify_plainly(std::vector<size_t> places, StepResults& results);
  void sample();
  bool take_segment(size_t segment, size_t row, SegmentResult& result);
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
  // Of the step under way; memory is kept from step to step.
  StepOrder order_;
  StepOutcome outcome_;
  std::vector<BatchRequest*> announcing_;
  std::vector<std::vector<double>> chances_;
  std::vector<BatchRequest*> samplers_;  // of each segment whose logits came; null where none is sampled
  std::vector<size_t> first_rows_;       // of logits, of each segment
  std::vector<int32_t> sampled_;         // of each segment's first row
};

}  // namespace fovea
