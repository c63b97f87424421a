// Ranks: processes that work on one request together. One process is a communicator of size 1, with the same
// calls; several are started by mpirun and talk over MPI (world.h).
//
// Every call throws Error(io) naming both ranks when a message cannot be delivered. A rank that ends takes
// all others with it (world.h), so that nobody waits for ever.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

namespace fovea {

// A message on its way. Its bytes are borrowed until wait() has returned or done() was true.
class Transfer {
 public:
  virtual ~Transfer() = default;
  virtual bool done() = 0;
  virtual void wait() = 0;
};

// Bytes that each rank holds and every rank may read at any time, whatever their holder is doing.
class SharedBytes {
 public:
  // Reads `to.size()` bytes at `offset` of what this rank holds; called from a thread of its own.
  using Read = std::function<void(int64_t offset, std::span<std::byte> to)>;
  // Waits until every rank destroys its own, and serves them meanwhile.
  virtual ~SharedBytes() = default;
  // Fills `to` with bytes at `offset` of what `rank` holds. From any thread, also several at once.
  virtual void fetch(int rank, int64_t offset, std::span<std::byte> to) = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Messages of one sender with one tag (0 to 999) arrive in order. The receiver knows the size.
  virtual std::unique_ptr<Transfer> start_send(int to, int tag, std::span<const std::byte> bytes) = 0;
  virtual std::unique_ptr<Transfer> start_receive(int from, int tag, std::span<std::byte> bytes) = 0;
  void send(int to, int tag, std::span<const std::byte> bytes) { start_send(to, tag, bytes)->wait(); }
  void receive(int from, int tag, std::span<std::byte> bytes) { start_receive(from, tag, bytes)->wait(); }

  // Collective: every rank calls them in the same order, with the same sizes.
  virtual void barrier() = 0;
  virtual void broadcast(int root, std::span<std::byte> bytes) = 0;
  // all: size() pieces of own.size() bytes, in rank order.
  virtual void all_gather(std::span<const std::byte> own, std::span<std::byte> all) = 0;
  // values = v_0 + v_1 + ... over the ranks, added in this order in f32: the same bits on every rank and in
  // every run. Each rank adds up a part, so 2 (size - 1) / size times the values cross the network per rank.
  void sum_in_rank_order(std::span<float> values);
  // The first rank whose value is not that of rank 0, the same answer on every rank. Collective.
  std::optional<int> first_that_differs(uint64_t value);
  // Collective, and so is the destructor of the result.
  virtual std::unique_ptr<SharedBytes> share(SharedBytes::Read read) = 0;
};

}  // namespace fovea
