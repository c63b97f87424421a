#include "runtime/pipeline.h"

#include <algorithm>

#include "base/error.h"

namespace fovea {

namespace {

std::span<const std::byte> bytes_of_floats(const float* values, int64_t count) {
  return std::as_bytes(std::span(values, static_cast<size_t>(count)));
}

std::span<std::byte> bytes_of_floats(float* values, int64_t count) {
  return std::as_writable_bytes(std::span(values, static_cast<size_t>(count)));
}

int64_t embedding_values(const VisionConfig& config, const Grid& grid) {
  return grid.patches() / (config.spatial_merge_size * config.spatial_merge_size) * config.out_hidden_size;
}

}  // namespace

Pipeline::Pipeline(DeviceMap map, Communicator& ranks)
    : map_(std::move(map)), stages_(map_.stages()), ranks_(ranks) {
  map_.require_ranks(ranks_.size());
}

void require_same(Communicator& ranks, uint64_t identity) {
  const std::optional<int> other = ranks.first_that_differs(identity);
  if (!other) return;
  throw Error(ErrorKind::invalid_argument,
              fmt::format("ranks 0 and {} differ in checkpoint, precision, device map or kernels", *other),
              "give every host the same folder and flags; FOVEA_ISA=avx2 makes different processors use the "
              "same kernels");
}

void Pipeline::Outcome::note(const Error& error) {
  const auto copy = [](const std::string& text, auto& to) {
    const size_t count = std::min(text.size(), sizeof to - 1);
    std::copy_n(text.data(), count, to);
    to[count] = '\0';
  };
  copy(error.message(), message);
  copy(error.remedy(), remedy);
}

void Pipeline::Outcome::rethrow() const {
  if (!good()) throw Error(ErrorKind::numeric, message, remedy);
}

template <typename Compute>
void Pipeline::attempt(Outcome& outcome, std::span<float> values, Compute compute) {
  if (outcome.good()) {
    try {
      return compute();
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::numeric) throw;
      outcome.note(error);
    }
  }
  std::fill(values.begin(), values.end(), 0.f);
}

void Pipeline::send_outcome(int to, const Outcome& outcome) const {
  ranks_.send(to, kOutcome, std::as_bytes(std::span(&outcome, 1)));
}

void Pipeline::receive_outcome(int from, Outcome& outcome) const { start_outcome(from, outcome)->wait(); }

std::unique_ptr<Transfer> Pipeline::start_outcome(int from, Outcome& outcome) const {
  return ranks_.start_receive(from, kOutcome, std::as_writable_bytes(std::span(&outcome, 1)));
}

void Pipeline::tell(int rank, Order order) {
  order.request = request();
  ranks_.send(rank, kOrder, std::as_bytes(std::span(&order, 1)));
}

void Pipeline::tell_all(const Order& order) {
  for (int rank = 1; rank < ranks_.size(); ++rank) tell(rank, order);
}

void Pipeline::wait(Transfer& transfer) {
  if (turns_ == nullptr) return transfer.wait();
  const int64_t worker = turns_->holder();
  turns_->give();
  try {
    transfer.wait();
  } catch (...) {
    turns_->take(worker);
    throw;
  }
  turns_->take(worker);
}

void Pipeline::begin(int64_t capacity) { tell_all({Task::begin, capacity}); }
void Pipeline::begin_steps() { tell_all({Task::steps}); }
void Pipeline::stop() { tell_all({Task::stop}); }

void Pipeline::forward(const Parts& parts, float* hidden, int64_t count,
                       const std::array<std::span<const int64_t>, 3>& positions, KvCache& cache,
                       DecoderScratch& scratch) {
  positions_.clear();
  for (const auto& axis : positions) positions_.insert(positions_.end(), axis.begin(), axis.end());
  tell_all({Task::forward, cache.tokens(), count});
  Outcome outcome;
  run_layers(parts, hidden, count, cache, scratch, outcome);
  outcome.rethrow();
}

// Every rank goes through chunks and stages in the same order, so a send or receive only ever waits for what
// its partner does before it: it ends. That sends wait for the receiver keeps one rank from running far
// ahead.
void Pipeline::run_layers(const Parts& parts, float* hidden, int64_t count, KvCache& cache,
                          DecoderScratch& scratch, Outcome& outcome) {
  const int self = ranks_.rank();
  positions_.resize(static_cast<size_t>(3 * count));
  const auto axis = [&](int64_t i) {
    return std::span<const int64_t>(positions_)
        .subspan(static_cast<size_t>(i * count), static_cast<size_t>(count));
  };
  const auto bytes = bytes_of_floats(hidden, count * parts.decoder.config().hidden_size);
  int before = 0;  // who has the hidden states: at first the embeddings
  for (const DeviceMap::Stage& stage : stages_) {
    if (before != stage.rank) {
      if (self == before) {
        ranks_.send(stage.rank, kHidden, bytes);
        ranks_.send(stage.rank, kHidden, std::as_bytes(std::span(positions_)));
        send_outcome(stage.rank, outcome);
      } else if (self == stage.rank) {
        ranks_.receive(before, kHidden, bytes);
        ranks_.receive(before, kHidden, std::as_writable_bytes(std::span(positions_)));
        Outcome before_us;
        receive_outcome(before, before_us);
        if (outcome.good()) outcome = before_us;
      }
    }
    before = stage.rank;
    if (self != stage.rank) continue;
    const auto values = static_cast<size_t>(count * parts.decoder.config().hidden_size);
    attempt(outcome, {hidden, values}, [&] {
      Segment segment{&cache, count, {axis(0), axis(1), axis(2)}};
      parts.decoder.forward_layers(stage.first, stage.last, hidden, {&segment, 1}, scratch);
      rethrow_failure({&segment, 1});
    });
  }
  cache.commit(count);
}

void Pipeline::logits(const Parts& parts, const float* hidden, int64_t first, int64_t rows, float* out,
                      DecoderScratch& scratch) {
  const int last = stages_.back().rank, head = map_.head;
  const int64_t width = parts.decoder.config().hidden_size, vocab = parts.decoder.config().vocab_size;
  const float* own = hidden + first * width;
  Buffer<float> of_last(head == 0 && last != 0 ? rows * width : 0);
  std::unique_ptr<Transfer> answer, said;
  Outcome outcome;
  if (head != 0) {
    answer = ranks_.start_receive(head, kLogits, bytes_of_floats(out, rows * vocab));
    said = start_outcome(head, outcome);
  }
  if (of_last.size() > 0) {
    answer = ranks_.start_receive(last, kHidden, bytes_of_floats(of_last.data(), rows * width));
    said = start_outcome(last, outcome);
    own = of_last.data();
  }
  for (int rank = 1; rank < ranks_.size(); ++rank) {
    if (rank == head || rank == last) tell(rank, {Task::logits, first, rows});
  }
  if (last == 0 && head != 0) {
    ranks_.send(head, kHidden, bytes_of_floats(own, rows * width));
    send_outcome(head, {});  // else forward() would have thrown it
  }
  if (answer) {
    wait(*answer);
    wait(*said);
  }
  outcome.rethrow();
  if (head == 0) parts.decoder.logits(own, rows, out, scratch);
}

void Pipeline::serve_logits(const Parts& parts, const Order& order) {
  const int self = ranks_.rank(), last = stages_.back().rank, head = map_.head;
  const int64_t width = parts.decoder.config().hidden_size, rows = order.b,
                count = rows * parts.decoder.config().vocab_size;
  const float* hidden = hidden_.data() + order.a * width;
  Outcome outcome = outcomes_[static_cast<size_t>(order.request)];
  if (self != head) {
    ranks_.send(head, kHidden, bytes_of_floats(hidden, rows * width));
    return send_outcome(head, outcome);
  }
  if (last != head) {
    rows_.reserve(rows * width);
    ranks_.receive(last, kHidden, bytes_of_floats(rows_.data(), rows * width));
    receive_outcome(last, outcome);
    hidden = rows_.data();
  }
  logits_.reserve(count);
  attempt(outcome, {logits_.data(), static_cast<size_t>(count)},
          [&] { parts.decoder.logits(hidden, rows, logits_.data(), scratch_); });
  ranks_.send(0, kLogits, bytes_of_floats(std::as_const(logits_).data(), count));
  send_outcome(0, outcome);
}

Buffer<float> Pipeline::encode(const Parts& parts, const float* patches, const Grid& grid,
                               const ForwardHooks& hooks) {
  if (map_.vision == 0) return parts.vision.encode(patches, grid, hooks);
  Buffer<float> embeddings(embedding_values(parts.vision_config, grid));
  Outcome outcome;
  const auto answer =
      ranks_.start_receive(map_.vision, kEmbeddings, bytes_of_floats(embeddings.data(), embeddings.size()));
  const auto said = start_outcome(map_.vision, outcome);
  tell(map_.vision, {Task::encode, grid.t, grid.h, grid.w});
  ranks_.send(map_.vision, kPatches,
              bytes_of_floats(patches, grid.patches() * parts.vision_config.patch_dim()));
  wait(*answer);
  wait(*said);
  outcome.rethrow();
  return embeddings;
}

void Pipeline::serve_encode(const Parts& parts, const Grid& grid) {
  Buffer<float> patches(grid.patches() * parts.vision_config.patch_dim()),
      embeddings(embedding_values(parts.vision_config, grid));
  ranks_.receive(0, kPatches, bytes_of_floats(patches.data(), patches.size()));
  Outcome outcome;
  attempt(outcome, embeddings.span(), [&] { embeddings = parts.vision.encode(patches.data(), grid); });
  ranks_.send(0, kEmbeddings, bytes_of_floats(std::as_const(embeddings).data(), embeddings.size()));
  send_outcome(0, outcome);
}

void Pipeline::serve_forward(const Parts& parts, const Order& order) {
  const int64_t first = order.a, count = order.b;
  std::optional<KvCache>& cache = caches_[static_cast<size_t>(order.request)];
  FOVEA_CHECK(cache && count > 0 && first >= 0 && first <= cache->tokens());
  cache->truncate(first);
  hidden_.reserve(count * parts.decoder.config().hidden_size);
  run_layers(parts, hidden_.data(), count, *cache, scratch_, outcomes_[static_cast<size_t>(order.request)]);
}

void Pipeline::serve(const Parts& parts, const std::function<void()>& steps) {
  while (true) {
    Order order{};
    ranks_.receive(0, kOrder, std::as_writable_bytes(std::span(&order, 1)));
    const auto request = static_cast<size_t>(order.request);
    if (request >= caches_.size()) {
      caches_.resize(request + 1);
      outcomes_.resize(request + 1);
    }
    switch (order.task) {
      case Task::begin:
        caches_[request].reset();  // before the next is allocated
        outcomes_[request] = {};
        caches_[request].emplace(parts.decoder.config(), order.a, parts.layers, held());
        break;
      case Task::forward:
        serve_forward(parts, order);
        break;
      case Task::logits:
        serve_logits(parts, order);
        break;
      case Task::encode:
        serve_encode(parts, {order.a, order.b, order.c});
        break;
      case Task::steps:
        steps();
        break;
      case Task::stop:
        return;
    }
  }
}

}  // namespace fovea
