#include "runtime/ranks_executor.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <utility>

#include "base/error.h"
#include "runtime/local_executor.h"
#include "runtime/staged_step.h"

namespace fovea {

namespace {

// What the executors of rank 0 have in common: orders go out with what has ended since the last one.
class OrderingExecutor : public Executor {
 public:
  explicit OrderingExecutor(Communicator& ranks) : orders_(ranks) {}
  ~OrderingExecutor() override {
    if (broken_) return;  // nobody would hear of it
    try {
      orders_.close();
    } catch (const Error&) {  // there is nobody left
    }
  }

  void forget(RequestId request) override { ended_.push_back(request); }
  void drop_picture(uint64_t number) override { dropped_.push_back(number); }

 protected:
  void open(int64_t blocks) { orders_.open(blocks); }
  void tell(const StepOrder& order) {
    orders_.step(message_of(order, ended_, dropped_));
    ended_.clear();
    dropped_.clear();
  }
  // Whatever is thrown belongs to no segment.
  template <typename Work>
  void guarded(Work work) {
    try {
      work();
    } catch (...) {
      broken_ = true;
      throw;
    }
  }

 private:
  OrderSender orders_;
  bool broken_ = false;
  std::vector<RequestId> ended_;
  std::vector<uint64_t> dropped_;
};

// A rank's layout of blocks.
KvLayout layout_of_rank(const EngineState& engine, int rank) {
  return {engine.decoder.config(), engine.precision.text.layers, engine.pipeline->map().held_by(rank), false};
}

// Of keys and values, of the rank that has most of them.
int64_t most_kv_heads(const EngineState& engine) {
  TensorShard shard = engine.options.tensor_parallel;
  int64_t most = 1;
  for (shard.rank = 0; shard.rank < shard.size; ++shard.rank) {
    most = std::max(most, tensor_part(engine.parts->checkpoint.config().text, shard).heads_kv);
  }
  return most;
}

// As many blocks as every rank has room for.
int64_t blocks_of_all(const EngineState& engine, int64_t bytes) {
  int64_t blocks = std::numeric_limits<int64_t>::max();
  for (int rank = 0; rank < engine.pipeline->ranks().size(); ++rank) {
    const KvLayout layout = layout_of_rank(engine, rank);
    if (layout.block_bytes() > 0) blocks = std::min(blocks, blocks_in(layout, bytes));
  }
  return blocks;
}

class PipelineExecutor final : public OrderingExecutor {
 public:
  PipelineExecutor(const EngineState& engine, int64_t kv_cache_bytes)
      : OrderingExecutor(engine.pipeline->ranks()),
        rank_(engine),
        tables_(engine, blocks_of_all(engine, kv_cache_bytes)),
        encodings_(engine) {
    open(tables_.blocks());
    for (int64_t i = 0; i < orders_at_once(); ++i) idle_.push_back(std::make_unique<UnderWay>(rank_));
  }

  // As many as the decoder has ranks: so all of them are busy.
  int64_t orders_at_once() const override {
    std::vector<int> ranks = rank_.map.layers;
    std::sort(ranks.begin(), ranks.end());
    const auto distinct = std::unique(ranks.begin(), ranks.end()) - ranks.begin();
    return std::min<int64_t>(distinct, StepMessages::kSteps - 1);
  }

  void begin(StepOrder& order, StepOutcome& outcome) override {
    guarded([&] {
      FOVEA_CHECK(!idle_.empty());
      under_way_.push_back(std::move(idle_.back()));
      idle_.pop_back();
      UnderWay& step = *under_way_.back();
      step.order = &order;
      step.outcome = &outcome;
      step.since = Stopwatch();
      step.staged.begin(order, outcome, tables_);
      tell(order);
      step.staged.advance(false);
      if (order.picture && rank_.map.vision != 0) step.staged.send_pixels();
      if (order.picture && rank_.map.vision == 0) step.staged.encode(encodings_);
    });
  }
  void finish() override {
    guarded([&] {
      UnderWay& step = *under_way_.front();
      step.staged.advance(true);
      step.staged.conclude();
      step.outcome->row_seconds = step.since.seconds();
      if (step.order->picture && rank_.map.vision != 0) step.staged.receive_picture();
      step.staged.settle();
      idle_.push_back(std::move(under_way_.front()));
      under_way_.pop_front();
    });
  }

  void forget(RequestId request) override {
    OrderingExecutor::forget(request);
    tables_.forget(request);
  }
  void drop_picture(uint64_t number) override {
    OrderingExecutor::drop_picture(number);
    encodings_.drop(number);
  }
  KvState kv_state(RequestId request) const override { return tables_.state(request); }
  int64_t blocks() const override { return tables_.blocks(); }
  int64_t block_bytes() const override { return tables_.block_bytes(); }
  int64_t pixel_bytes() const override { return encodings_.pixel_bytes(); }

 private:
  struct UnderWay {
    explicit UnderWay(RankOfModel& rank) : staged(rank) {}
    StagedStep staged;
    StepOrder* order = nullptr;
    StepOutcome* outcome = nullptr;
    Stopwatch since;
  };

  RankOfModel rank_;
  RequestTables tables_;
  PictureEncodings encodings_;
  std::deque<std::unique_ptr<UnderWay>> under_way_;  // in the order of their beginning
  std::vector<std::unique_ptr<UnderWay>> idle_;
};

// The same rows on all ranks, whose sums meet in every layer.
class TensorExecutor final : public OrderingExecutor {
 public:
  TensorExecutor(const EngineState& engine, Communicator& ranks, int64_t kv_cache_bytes)
      : OrderingExecutor(ranks),
        engine_(engine),
        ranks_(ranks),
        messages_(ranks),
        local_(local_executor(
            engine, kv_cache_bytes / most_kv_heads(engine) * engine.decoder.config().num_key_value_heads)) {
    open(local_->blocks());
  }

  void begin(StepOrder& order, StepOutcome& outcome) override {
    guarded([&] {
      messages_.begin(order.number);
      tell(order);
      const int64_t values = order.row_count() * engine_.decoder.config().hidden_size;
      for (int rank = 1; rank < ranks_.size() && values > 0; ++rank) {
        messages_.send(rank, StepMessages::Kind::hidden,
                       std::as_const(order.hidden).span().first(static_cast<size_t>(values)));
      }
      messages_.settle();  // rows are computed in place
      local_->begin(order, outcome);
    });
  }
  void finish() override { local_->finish(); }

  void forget(RequestId request) override {
    OrderingExecutor::forget(request);
    local_->forget(request);
  }
  void drop_picture(uint64_t number) override { local_->drop_picture(number); }
  KvState kv_state(RequestId request) const override { return local_->kv_state(request); }
  int64_t blocks() const override { return local_->blocks(); }
  int64_t block_bytes() const override { return local_->block_bytes(); }
  int64_t pixel_bytes() const override { return local_->pixel_bytes(); }

 private:
  const EngineState& engine_;
  Communicator& ranks_;
  StepMessages messages_;
  std::unique_ptr<Executor> local_;
};

// ---- other ranks ----

class PipelineFollower {
 public:
  PipelineFollower(const EngineState& engine, int64_t blocks)
      : rank_(engine), tables_(engine, blocks), encodings_(engine), step_(rank_) {}

  void carry_out(ReceivedOrder& received) {
    StepOrder& order = received.order;
    for (const uint64_t number : received.dropped_pictures) encodings_.drop(number);
    step_.begin(order, outcome_, tables_);
    step_.advance(true);
    step_.conclude();
    if (order.picture && rank_.map.vision == rank_.self) step_.encode(encodings_);
    step_.settle();
  }

 private:
  RankOfModel rank_;
  RequestTables tables_;
  PictureEncodings encodings_;
  StagedStep step_;
  StepOutcome outcome_;
};

class TensorFollower {
 public:
  TensorFollower(const EngineState& engine, Communicator& ranks, int64_t blocks)
      : engine_(engine), messages_(ranks), tables_(engine, blocks) {}

  void carry_out(ReceivedOrder& received) {
    StepOrder& order = received.order;
    messages_.begin(order.number);
    tables_.prepare(order, segments_);
    if (segments_.empty()) return;
    const int64_t values = order.row_count() * engine_.decoder.config().hidden_size;
    order.hidden.reserve(values);
    messages_.receive(0, StepMessages::Kind::hidden, order.hidden.span().first(static_cast<size_t>(values)));
    engine_.decoder.forward(order.hidden.data(), segments_, scratch_);
  }

 private:
  const EngineState& engine_;
  StepMessages messages_;
  RequestTables tables_;
  std::vector<Segment> segments_;
  DecoderScratch scratch_;
};

template <typename Follower>
void follow(Communicator& ranks, Follower follower) {
  ReceivedOrder received;
  for (int64_t number = 0;;) {
    const RankOrder order = receive_order(ranks);
    if (order.what == RankOrder::What::close) return;
    FOVEA_CHECK(order.what == RankOrder::What::step);
    read_message(order.message, received);
    FOVEA_CHECK(received.order.number > number);
    number = received.order.number;
    follower.carry_out(received);
  }
}

}  // namespace

int64_t block_bytes_of_ranks(const EngineState& engine) {
  if (!engine.pipeline) {
    const int64_t own = engine.decoder.config().num_key_value_heads;
    return kv_layout(engine).block_bytes() * most_kv_heads(engine) / own;
  }
  int64_t most = 0;
  for (int rank = 0; rank < engine.pipeline->ranks().size(); ++rank) {
    most = std::max(most, layout_of_rank(engine, rank).block_bytes());
  }
  return most;
}

std::unique_ptr<Executor> ranks_executor(const EngineState& engine, int64_t kv_cache_bytes) {
  if (engine.pipeline) {
    engine.pipeline->begin_steps();
    return std::make_unique<PipelineExecutor>(engine, kv_cache_bytes);
  }
  return std::make_unique<TensorExecutor>(engine, *engine.options.ranks, kv_cache_bytes);
}

void serve_steps(const EngineState& engine, Communicator& ranks) {
  while (true) {
    const RankOrder order = receive_order(ranks);
    if (order.what == RankOrder::What::release) return;
    FOVEA_CHECK(order.what == RankOrder::What::open);
    if (engine.pipeline) return follow(ranks, PipelineFollower(engine, order.blocks));
    follow(ranks, TensorFollower(engine, ranks, order.blocks));
  }
}

void release_ranks(Communicator& ranks) { OrderSender(ranks).release(); }

}  // namespace fovea
