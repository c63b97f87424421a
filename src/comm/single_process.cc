// A communicator of size 1: messages to oneself wait in memory.
#include <algorithm>
#include <deque>
#include <map>
#include <vector>

#include "base/error.h"
#include "comm/world.h"

namespace fovea {

namespace {

class SingleProcess final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }

  std::unique_ptr<Transfer> start_send(int to, int tag, std::span<const std::byte> bytes) override {
    FOVEA_CHECK(to == 0);
    waiting_[tag].emplace_back(bytes.begin(), bytes.end());
    return std::make_unique<Sent>();
  }
  std::unique_ptr<Transfer> start_receive(int from, int tag, std::span<std::byte> bytes) override {
    FOVEA_CHECK(from == 0);
    return std::make_unique<Received>(waiting_[tag], bytes);
  }
  void barrier() override {}
  void broadcast(int root, std::span<std::byte>) override { FOVEA_CHECK(root == 0); }
  void all_gather(std::span<const std::byte> own, std::span<std::byte> all) override {
    FOVEA_CHECK(own.size() == all.size());
    std::copy(own.begin(), own.end(), all.begin());
  }
  std::unique_ptr<SharedBytes> share(SharedBytes::Read read) override {
    return std::make_unique<Own>(std::move(read));
  }

 private:
  using Queue = std::deque<std::vector<std::byte>>;

  struct Sent final : Transfer {
    bool done() override { return true; }
    void wait() override {}
  };
  class Received final : public Transfer {
   public:
    Received(Queue& queue, std::span<std::byte> bytes) : queue_(queue), bytes_(bytes) {}
    bool done() override {
      if (done_ || queue_.empty()) return done_;
      FOVEA_CHECK(queue_.front().size() == bytes_.size());
      std::copy(queue_.front().begin(), queue_.front().end(), bytes_.begin());
      queue_.pop_front();
      return done_ = true;
    }
    void wait() override { FOVEA_CHECK(done()); }  // nobody else could send it

   private:
    Queue& queue_;
    std::span<std::byte> bytes_;
    bool done_ = false;
  };
  class Own final : public SharedBytes {
   public:
    explicit Own(Read read) : read_(std::move(read)) {}
    void fetch(int rank, int64_t offset, std::span<std::byte> to) override {
      FOVEA_CHECK(rank == 0);
      read_(offset, to);
    }

   private:
    Read read_;
  };

  std::map<int, Queue> waiting_;
};

}  // namespace

std::unique_ptr<Communicator> single_process() { return std::make_unique<SingleProcess>(); }

}  // namespace fovea
