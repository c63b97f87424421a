// A step on its way through a model whose parts lie on several ranks, as each of them sees it. Private to
// runtime.
//
// Hidden states go from stage to stage, then the rows whose logits are wanted to the head's rank, and what it
// makes of them to rank 0. Beside them goes which segments have failed, with their errors: their rows are
// zeros from there on, so that every message is sent that somebody waits for, and the ranks behind leave them
// out. A step without logits ends at the last layers' rank, who then tells rank 0 which segments have failed.
//
// Every rank takes steps, and the stages of a step, in the same order, and rank 0 receives whenever it has
// nothing to begin: so of all that is under way the first stage of the first step can go on, and nobody waits
// for ever.
#pragma once

#include "runtime/picture_encodings.h"
#include "runtime/request_tables.h"
#include "runtime/step_messages.h"

namespace fovea {

// What a rank computes with, whichever step it is at.
struct RankOfModel {
  explicit RankOfModel(const EngineState& engine_)
      : engine(engine_),
        ranks(engine_.pipeline->ranks()),
        map(engine_.pipeline->map()),
        stages(map.stages()),
        self(ranks.rank()) {}

  // Who sends rank 0 what came of a step's rows.
  int last_of(const StepOrder& order) const {
    return order.logit_count() > 0 ? map.head : stages.back().rank;
  }

  const EngineState& engine;
  Communicator& ranks;
  const DeviceMap& map;
  std::vector<DeviceMap::Stage> stages;
  int self;
  DecoderScratch scratch;
};

// One at a time of them uses a RankOfModel; memory is kept from step to step.
class StagedStep {
 public:
  explicit StagedStep(RankOfModel& rank) : rank_(rank), messages_(rank.ranks), pixels_(rank.ranks) {}

  // Takes a step up. At rank 0 order.hidden has the embeddings; elsewhere it is made. Both are borrowed until
  // settle() has returned. Rank 0 posts what it is going to receive, and gives the order behind that, so that
  // who sends it never waits for rank 0.
  void begin(StepOrder& order, StepOutcome& outcome, RequestTables& tables);
  // This rank's stages, until they are done, or, without `may_wait`, another rank's stage comes before the
  // next.
  void advance(bool may_wait);
  // Behind the last stage: the head's part, and the results to rank 0 or from there.
  void conclude();
  // The slice of a picture, if there is one: by the rank that has the tower, for rank 0.
  void send_pixels();
  void encode(PictureEncodings& encodings);
  void receive_picture();
  // All messages of this step have been received.
  void settle() {
    messages_.settle();
    pixels_.settle();
  }

 private:
  using Kind = StepMessages::Kind;

  int64_t width() const { return rank_.engine.decoder.config().hidden_size; }
  int64_t vocab() const { return rank_.engine.decoder.config().vocab_size; }
  std::span<float> hidden() {
    return order_->hidden.span().first(static_cast<size_t>(order_->row_count() * width()));
  }
  std::span<float> rows() { return rows_.span().first(static_cast<size_t>(order_->logit_count() * width())); }
  std::span<float> logits() {
    return outcome_->logits.span().first(static_cast<size_t>(order_->logit_count() * vocab()));
  }
  int64_t pixel_values() const;
  int64_t embedding_values() const;
  void post();
  void compute(const DeviceMap::Stage& stage);
  void end_stages();
  void head();

  RankOfModel& rank_;
  StepMessages messages_;
  StepMessages pixels_;  // apart, for they are received behind the rows, which must not wait for them
  StepOrder* order_ = nullptr;
  StepOutcome* outcome_ = nullptr;
  size_t stage_ = 0;
  bool ended_ = false;  // its stages here
  float picture_seconds_ = 0;
  std::vector<Segment> segments_;
  Buffer<float> rows_;
  std::unique_ptr<Transfer> awaited_;  // logits, or rows for the head, at rank 0
};

}  // namespace fovea
