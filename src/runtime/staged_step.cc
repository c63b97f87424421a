#include "runtime/staged_step.h"

#include <algorithm>

#include "base/error.h"

namespace fovea {

int64_t StagedStep::pixel_values() const {
  return order_->picture->grid.patches() * rank_.engine.parts->checkpoint.config().vision.patch_dim();
}

int64_t StagedStep::embedding_values() const {
  const VisionConfig& config = rank_.engine.parts->checkpoint.config().vision;
  return order_->picture->grid.patches() / (config.spatial_merge_size * config.spatial_merge_size) *
         config.out_hidden_size;
}

void StagedStep::begin(StepOrder& order, StepOutcome& outcome, RequestTables& tables) {
  messages_.begin(order.number);
  pixels_.begin(order.number);
  order_ = &order;
  outcome_ = &outcome;
  stage_ = 0;
  ended_ = order.segments.empty();
  tables.prepare(order, segments_);
  outcome.failures.assign(segments_.size(), nullptr);
  outcome.logit_failures.assign(static_cast<size_t>(order.logit_count()), nullptr);
  outcome.picture = {};
  if (rank_.self != 0) {
    order.hidden.reserve(order.row_count() * width());
  } else if (order.logit_count() > 0) {
    post();
  }
}

void StagedStep::post() {
  const int last = rank_.stages.back().rank, head = rank_.map.head;
  if (head != 0) {
    outcome_->logits.reserve(order_->logit_count() * vocab());
    awaited_ = messages_.start_receive(head, Kind::logits, logits());
  } else if (last != 0) {
    rows_.reserve(order_->logit_count() * width());
    awaited_ = messages_.start_receive(last, Kind::rows, rows());
  }
}

void StagedStep::advance(bool may_wait) {
  for (; !ended_ && stage_ < rank_.stages.size(); ++stage_) {
    const DeviceMap::Stage& stage = rank_.stages[stage_];
    const int before = stage_ == 0 ? 0 : rank_.stages[stage_ - 1].rank;  // at first the embeddings
    if (before == rank_.self && stage.rank != rank_.self) {
      messages_.send(stage.rank, Kind::hidden, hidden());
      messages_.send_failures(stage.rank, outcome_->failures);
    }
    if (stage.rank != rank_.self) continue;
    if (before != rank_.self) {
      if (!may_wait) return;
      messages_.settle();  // the hidden states are overwritten
      messages_.receive(before, Kind::hidden, hidden());
      messages_.receive_failures(before, outcome_->failures);
    }
    compute(stage);
  }
  if (!ended_) end_stages();
}

void StagedStep::compute(const DeviceMap::Stage& stage) {
  for (size_t i = 0; i < segments_.size(); ++i) segments_[i].failure = outcome_->failures[i];
  rank_.engine.decoder.forward_layers(stage.first, stage.last, order_->hidden.data(), segments_,
                                      rank_.scratch);
  for (size_t i = 0; i < segments_.size(); ++i) outcome_->failures[i] = segments_[i].failure;
}

void StagedStep::end_stages() {
  ended_ = true;
  for (const Segment& segment : segments_) {
    if (!segment.failure) segment.cache->commit(segment.count);
  }
  const int head = rank_.map.head;
  if (rank_.self != rank_.stages.back().rank || order_->logit_count() == 0) return;
  rows_.reserve(order_->logit_count() * width());
  gather_logit_rows(*order_, order_->hidden.data(), width(), rows_.data());
  if (head == rank_.self) return;
  messages_.send(head, Kind::rows, rows());
  messages_.send_failures(head, outcome_->failures);
}

void StagedStep::head() {
  const int last = rank_.stages.back().rank;
  if (last != rank_.self) {
    rows_.reserve(order_->logit_count() * width());
    if (!awaited_) awaited_ = messages_.start_receive(last, Kind::rows, rows());
    std::exchange(awaited_, nullptr)->wait();
    messages_.receive_failures(last, outcome_->failures);
  }
  outcome_->logits.reserve(order_->logit_count() * vocab());
  rank_.engine.decoder.logits(rows_.data(), order_->logit_count(), outcome_->logits.data(), rank_.scratch, {},
                              outcome_->logit_failures);
}

void StagedStep::conclude() {
  if (order_->segments.empty()) return;
  const bool wanted = order_->logit_count() > 0;
  if (wanted && rank_.self == rank_.map.head) head();
  const int last = rank_.last_of(*order_);
  if (rank_.self == last && last != 0) {
    if (wanted) messages_.send(0, Kind::logits, logits());
    messages_.send_failures(0, outcome_->failures);
    messages_.send_failures(0, outcome_->logit_failures);
  } else if (rank_.self == 0 && last != 0) {
    if (awaited_) std::exchange(awaited_, nullptr)->wait();
    messages_.receive_failures(last, outcome_->failures);
    messages_.receive_failures(last, outcome_->logit_failures);
  }
}

void StagedStep::send_pixels() {
  if (order_->picture->first > 0) return;
  pixels_.send(rank_.map.vision, Kind::pixels, order_->picture->picture.patches.span());
}

void StagedStep::encode(PictureEncodings& encodings) {
  PictureOrder& order = *order_->picture;
  PictureOutcome& outcome = outcome_->picture;
  if (rank_.self != 0 && order.first == 0) {
    order.picture.grid = order.grid;
    order.picture.patches.resize(pixel_values());
    messages_.receive(0, Kind::pixels, order.picture.patches.span());
  }
  encodings.encode(order, outcome);
  if (rank_.self == 0) return;
  picture_seconds_ = static_cast<float>(outcome.seconds);
  messages_.send(0, Kind::picture, std::span(&picture_seconds_, 1));
  messages_.send_failures(0, std::span(&outcome.failure, 1), Kind::picture);
  if (!order.ends()) return;
  if (outcome.failure) {
    outcome.embeddings.emplace(embedding_values());
    std::fill_n(outcome.embeddings->data(), embedding_values(), 0.f);
  }
  messages_.send(0, Kind::embeddings, outcome.embeddings->span());
}

void StagedStep::receive_picture() {
  PictureOutcome& outcome = outcome_->picture;
  messages_.receive(rank_.map.vision, Kind::picture, std::span(&picture_seconds_, 1));
  outcome.seconds = picture_seconds_;
  messages_.receive_failures(rank_.map.vision, std::span(&outcome.failure, 1), Kind::picture);
  if (!order_->picture->ends()) return;
  outcome.embeddings.emplace(embedding_values());
  messages_.receive(rank_.map.vision, Kind::embeddings, outcome.embeddings->span());
}

}  // namespace fovea
