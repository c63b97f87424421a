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

void Pipeline::tell(int rank, const Order& order) {
  ranks_.send(rank, kOrder, std::as_bytes(std::span(&order, 1)));
}

void Pipeline::tell_all(const Order& order) {
  for (int rank = 1; rank < ranks_.size(); ++rank) tell(rank, order);
}

void Pipeline::begin(int64_t capacity) { tell_all({Task::begin, capacity}); }
void Pipeline::stop() { tell_all({Task::stop}); }

void Pipeline::forward(const Parts& parts, float* hidden, int64_t count,
                       const std::array<std::span<const int64_t>, 3>& positions, KvCache& cache,
                       DecoderScratch& scratch) {
  positions_.clear();
  for (const auto& axis : positions) positions_.insert(positions_.end(), axis.begin(), axis.end());
  tell_all({Task::forward, cache.tokens(), count});
  run_layers(parts, hidden, count, cache, scratch);
}

// Every rank goes through chunks and stages in the same order, so a send or receive only ever waits for what
// its partner does before it: it ends. That sends wait for the receiver keeps one rank from running far
// ahead.
void Pipeline::run_layers(const Parts& parts, float* hidden, int64_t count, KvCache& cache,
                          DecoderScratch& scratch) {
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
      } else if (self == stage.rank) {
        ranks_.receive(before, kHidden, bytes);
        ranks_.receive(before, kHidden, std::as_writable_bytes(std::span(positions_)));
      }
    }
    before = stage.rank;
    if (self != stage.rank) continue;
    parts.decoder.forward_layers(stage.first, stage.last, hidden, count, {axis(0), axis(1), axis(2)}, cache,
                                 scratch);
  }
  cache.commit(count);
}

void Pipeline::logits(const Parts& parts, const float* hidden, int64_t first, int64_t rows, float* out,
                      DecoderScratch& scratch) {
  for (int rank = 1; rank < ranks_.size(); ++rank) {
    if (rank == map_.head || rank == stages_.back().rank) tell(rank, {Task::logits, first, rows});
  }
  run_head(parts, hidden + first * parts.decoder.config().hidden_size, rows, out, scratch);
}

void Pipeline::run_head(const Parts& parts, const float* hidden, int64_t rows, float* out,
                        DecoderScratch& scratch) {
  const int self = ranks_.rank(), last = stages_.back().rank, head = map_.head;
  const int64_t width = parts.decoder.config().hidden_size, vocab = parts.decoder.config().vocab_size;
  if (last != head) {
    if (self == last) ranks_.send(head, kHidden, bytes_of_floats(hidden, rows * width));
    if (self == head) {
      rows_.reserve(rows * width);
      ranks_.receive(last, kHidden, bytes_of_floats(rows_.data(), rows * width));
      hidden = rows_.data();
    }
  }
  if (self == head) parts.decoder.logits(hidden, rows, out, scratch);
  if (head == 0) return;
  if (self == head) ranks_.send(0, kLogits, bytes_of_floats(std::as_const(out), rows * vocab));
  if (self == 0) ranks_.receive(head, kLogits, bytes_of_floats(out, rows * vocab));
}

Buffer<float> Pipeline::encode(const Parts& parts, const float* patches, const Grid& grid,
                               const ForwardHooks& hooks) {
  if (map_.vision == 0) return parts.vision.encode(patches, grid, hooks);
  tell(map_.vision, {Task::encode, grid.t, grid.h, grid.w});
  ranks_.send(map_.vision, kPatches,
              bytes_of_floats(patches, grid.patches() * parts.vision_config.patch_dim()));
  Buffer<float> embeddings(embedding_values(parts.vision_config, grid));
  ranks_.receive(map_.vision, kEmbeddings, bytes_of_floats(embeddings.data(), embeddings.size()));
  return embeddings;
}

void Pipeline::serve_forward(const Parts& parts, const Order& order) {
  const int64_t first = order.a, count = order.b;
  FOVEA_CHECK(cache_ && count > 0 && first >= 0 && first <= cache_->tokens());
  cache_->truncate(first);
  hidden_.reserve(count * parts.decoder.config().hidden_size);
  run_layers(parts, hidden_.data(), count, *cache_, scratch_);
}

void Pipeline::serve(const Parts& parts) {
  const TextConfig& config = parts.decoder.config();
  while (true) {
    Order order{};
    ranks_.receive(0, kOrder, std::as_writable_bytes(std::span(&order, 1)));
    switch (order.task) {
      case Task::begin:
        cache_.reset();  // before the next is allocated
        cache_.emplace(config, order.a, parts.layers, held());
        break;
      case Task::forward:
        serve_forward(parts, order);
        break;
      case Task::logits:
        if (map_.head == ranks_.rank()) logits_.reserve(order.b * config.vocab_size);
        run_head(parts, hidden_.data() + order.a * config.hidden_size, order.b, logits_.data(), scratch_);
        break;
      case Task::encode: {
        const Grid grid{order.a, order.b, order.c};
        Buffer<float> patches(grid.patches() * parts.vision_config.patch_dim());
        ranks_.receive(0, kPatches, bytes_of_floats(patches.data(), patches.size()));
        const Buffer<float> embeddings = parts.vision.encode(patches.data(), grid);
        ranks_.send(0, kEmbeddings, bytes_of_floats(embeddings.data(), embeddings.size()));
        break;
      }
      case Task::stop:
        return;
    }
  }
}

}  // namespace fovea
