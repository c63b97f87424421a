// Ranks that each compute the parts a device map gives them. Rank 0 holds the requests and tells the others
// what to do; hidden states go from rank to rank. Forward calls are orders without an answer: while a rank
// computes one chunk of the prompt, those before it compute the next. Several requests may be under way, each
// on a thread of its own at rank 0 (Turns): while one waits for its logits, the next one's step goes through
// the ranks. Every number is that of one process, bit for bit: each part is computed by the same calls,
// wherever it runs.
//
// Rank 0 posts what it is going to receive before it gives the order: a rank that sends to it never waits for
// rank 0 to wait, so that rank 0 may wait for it.
//
// Messages, by tag (all others of a run's ranks: communicator.h):
//   kOrder      rank 0 to each other: an Order, so small that sending it never waits for a rank that computes
//   kHidden     rank to rank, from each stage to the next (the first gets the embeddings from rank 0):
//               [count, hidden_size] f32, then [3, count] int64 positions (t, h, w); and to the head's rank
//               the rows that logits are wanted of, [rows, hidden_size] f32
//   kLogits     the head's rank to rank 0: [rows, vocab_size] f32
//   kPatches    rank 0 to the vision tower's: [patches, patch_dim] f32
//   kEmbeddings and back: [patches / merge^2, out_hidden_size] f32
//   kOutcome    beside kHidden, kLogits and kEmbeddings: whether a value in them was not finite
//
// A numeric error ends its own request and nobody else's. The rank that finds it goes on with zeros, so that
// every message is sent that somebody waits for, and says so in the outcome beside them; rank 0 throws it
// when it learns of it, with the layer and the node that the finder named. Until a new request begins in its
// place, the finder has the same to say of all that follows. Any other error ends all ranks.
#pragma once

#include <array>
#include <functional>
#include <optional>

#include "base/error.h"
#include "base/grid.h"
#include "base/turns.h"
#include "comm/communicator.h"
#include "model/decoder.h"
#include "model/vision_tower.h"
#include "runtime/device_map.h"

namespace fovea {

// Collective: throws Error(invalid_argument) naming two ranks that opened different checkpoints, would
// compute in different types, or with different kernels. `identity`: what they must agree on
// (Engine::identity).
void require_same(Communicator& ranks, uint64_t identity);

class Pipeline {
 public:
  static constexpr int kOrder = 10, kHidden = 11, kLogits = 12, kPatches = 13, kEmbeddings = 14,
                       kOutcome = 15;

  // `ranks` is borrowed. Throws Error(invalid_argument) when the map does not suit their number.
  Pipeline(DeviceMap map, Communicator& ranks);

  const DeviceMap& map() const { return map_; }
  Communicator& ranks() const { return ranks_; }
  HeldParts held() const { return map_.held_by(ranks_.rank()); }

  // What a rank computes with.
  struct Parts {
    const VisionTower& vision;
    const Decoder& decoder;
    const VisionConfig& vision_config;
    const std::vector<TowerPrecision>& layers;
  };

  // Rank 0, whose threads take turns from now on, one request each; null: one request at a time.
  void share_turns(Turns* turns) { turns_ = turns; }
  // Rank 0. A new request of at most `capacity` tokens: the others make their part of the KV cache, in place
  // of that of the same thread's request before.
  void begin(int64_t capacity);
  // Rank 0. hidden: [count, hidden_size] embeddings of the tokens behind those in `cache`, overwritten. The
  // other ranks' caches follow this one, also when it was truncated. Returns when this rank's layers are
  // done. Throws Error(numeric) of these rows, or in logits() if it is found behind this rank's layers.
  void forward(const Parts& parts, float* hidden, int64_t count,
               const std::array<std::span<const int64_t>, 3>& positions, KvCache& cache,
               DecoderScratch& scratch);
  // Rank 0. Logits [rows, vocab_size] of rows [first, first + rows) of the last forward, whose `hidden` is
  // unchanged since.
  void logits(const Parts& parts, const float* hidden, int64_t first, int64_t rows, float* out,
              DecoderScratch& scratch);
  // Rank 0. As VisionTower::encode.
  Buffer<float> encode(const Parts& parts, const float* patches, const Grid& grid, const ForwardHooks& hooks);
  // Rank 0: the others' serve() calls its `steps`, for a batch engine (ranks_executor.h).
  void begin_steps();
  // Rank 0: the others' serve() returns.
  void stop();

  // Other ranks: carries out rank 0's orders until it says stop.
  void serve(const Parts& parts, const std::function<void()>& steps);

 private:
  enum class Task : int64_t { begin, forward, logits, encode, steps, stop };
  struct Order {
    Task task;
    int64_t a = 0, b = 0,
            c = 0;  // forward: first, count; logits: first, rows; encode: t, h, w; begin: capacity
    int64_t request = 0;
  };

  // A numeric error on its way to rank 0; without words there is none.
  struct Outcome {
    char message[1000] = {}, remedy[1000] = {};

    bool good() const { return message[0] == '\0'; }
    void note(const Error& error);
    void rethrow() const;  // if there is an error
  };
  // Runs compute(), which may end in Error(numeric): the outcome then, and zeros in `values`.
  template <typename Compute>
  static void attempt(Outcome& outcome, std::span<float> values, Compute compute);
  void send_outcome(int to, const Outcome& outcome) const;
  void receive_outcome(int from, Outcome& outcome) const;
  // For when it comes.
  std::unique_ptr<Transfer> start_outcome(int from, Outcome& outcome) const;

  void tell(int rank, Order order);
  void tell_all(const Order& order);
  int64_t request() const { return turns_ != nullptr ? turns_->holder() : 0; }
  // Other requests may have their turn meanwhile.
  void wait(Transfer& transfer);
  // This rank's stages of one chunk, whose positions are in positions_ where the hidden states are.
  void run_layers(const Parts& parts, float* hidden, int64_t count, KvCache& cache, DecoderScratch& scratch,
                  Outcome& outcome);
  // The same of ranks other than 0, with what they have of the rows.
  void serve_logits(const Parts& parts, const Order& order);
  void serve_forward(const Parts& parts, const Order& order);
  void serve_encode(const Parts& parts, const Grid& grid);

  DeviceMap map_;
  std::vector<DeviceMap::Stage> stages_;
  Communicator& ranks_;
  Turns* turns_ = nullptr;
  std::vector<int64_t> positions_;  // of the chunk
  // Of ranks other than 0.
  std::vector<std::optional<KvCache>> caches_;  // of each request
  std::vector<Outcome> outcomes_;               // likewise, of its last chunk
  DecoderScratch scratch_;
  Buffer<float> hidden_, rows_, logits_;
};

}  // namespace fovea
