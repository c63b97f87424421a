// What ranks tell each other of steps (ranks_executor.h), as bytes. All ranks are the same program, on
// processors with the same order of bytes; a message that does not fit its reader stops the program. Private
// to runtime.
//
// Every order has a number, and every message of a step a tag that holds it: several steps are under way at
// once, and a rank that has parts before and behind another's sends of one step what another waits for in
// another.
#pragma once

#include <deque>

#include "comm/communicator.h"
#include "runtime/executor.h"

namespace fovea {

// An order as another rank has it, and what is said beside it.
struct ReceivedOrder {
  StepOrder order;  // without hidden states and pixels
  std::vector<uint64_t> dropped_pictures;
  std::vector<std::vector<int64_t>> positions;  // that the order's segments borrow: t, h, w of each
};

std::vector<std::byte> message_of(const StepOrder& order, std::span<const RequestId> ended,
                                  std::span<const uint64_t> dropped_pictures);
void read_message(std::span<const std::byte> bytes, ReceivedOrder& to);

// Errors, or none, of each of some things that both sides know.
std::vector<std::byte> message_of(std::span<const std::exception_ptr> failures);
void read_message(std::span<const std::byte> bytes, std::span<std::exception_ptr> failures);

// Messages of one step. Sends do not wait; what they borrow must stay until they are settled.
class StepMessages {
 public:
  enum class Kind { hidden, rows, logits, failures, pixels, embeddings, picture };
  // So many steps are told apart: fewer are under way.
  static constexpr int64_t kSteps = 32;

  explicit StepMessages(Communicator& ranks) : ranks_(ranks) {}

  // Requires that all is settled.
  void begin(int64_t step) { slot_ = static_cast<int>(step % kSteps); }
  void settle();

  void send(int to, Kind kind, std::span<const float> values);
  void receive(int from, Kind kind, std::span<float> values);
  std::unique_ptr<Transfer> start_receive(int from, Kind kind, std::span<float> values);
  // 8 bytes, and more only if there is a failure.
  void send_failures(int to, std::span<const std::exception_ptr> failures, Kind kind = Kind::failures);
  void receive_failures(int from, std::span<std::exception_ptr> failures, Kind kind = Kind::failures);

 private:
  static constexpr int kFirstTag = 100;
  int tag(Kind kind) const { return kFirstTag + static_cast<int>(kind) * static_cast<int>(kSteps) + slot_; }
  void send(int to, int tag, std::vector<std::byte> bytes);

  Communicator& ranks_;
  int slot_ = 0;
  std::deque<std::vector<std::byte>> sent_;
  std::vector<std::unique_ptr<Transfer>> sends_;
};

// Orders from rank 0 to all others.
class OrderSender {
 public:
  explicit OrderSender(Communicator& ranks) : ranks_(ranks) {}
  OrderSender(const OrderSender&) = delete;

  void open(int64_t blocks);  // a batch engine begins, with so many blocks
  void step(std::vector<std::byte> message);
  // These wait until all have been received.
  void close();    // it ends
  void release();  // there will be no other

 private:
  using Transfers = std::vector<std::unique_ptr<Transfer>>;  // one to each rank

  void tell(int64_t what, std::vector<std::byte> message);
  void send(int tag, std::vector<std::byte> bytes);
  void settle(size_t most);  // until at most so many are on their way

  Communicator& ranks_;
  std::deque<std::pair<std::vector<std::byte>, Transfers>> sent_;
};

struct RankOrder {
  enum class What : int64_t { open, step, close, release };
  What what = What::release;
  int64_t blocks = 0;              // open
  std::vector<std::byte> message;  // step
};

// Waits for the next one.
RankOrder receive_order(Communicator& ranks);

}  // namespace fovea
