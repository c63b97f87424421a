// Ranks that are threads of one process, for tests: the messages of communicator.h without MPI. As with MPI a
// small message is sent at once and a large one when it is received, so that who sends in the wrong order
// waits for ever; then, or when a rank throws, all ranks get an Error.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "comm/communicator.h"
#include "kernels/context.h"

namespace fovea::testing {

class ThreadWorld {
 public:
  explicit ThreadWorld(int size) : size_(size), gathered_(static_cast<size_t>(size)) {}
  int size() const { return size_; }
  std::unique_ptr<Communicator> rank(int rank);

  void fail() {
    const std::lock_guard lock(mutex_);
    failed_ = true;
    changed_.notify_all();
  }

 private:
  friend class ThreadRank;
  static constexpr size_t kSmall = 2048;
  static constexpr auto kHang = std::chrono::seconds(60);

  struct Part {  // of a message: what is sent, or where it is wanted
    std::span<const std::byte> from;
    std::span<std::byte> to;
    std::vector<std::byte> kept;  // a small one's bytes
    bool done = false;
  };
  struct Channel {
    std::deque<std::shared_ptr<Part>> sends, receives;
  };

  void match(Channel& channel) {
    while (!channel.sends.empty() && !channel.receives.empty()) {
      Part &send = *channel.sends.front(), &receive = *channel.receives.front();
      const auto from = send.done ? std::span<const std::byte>(send.kept) : send.from;
      FOVEA_CHECK(from.size() == receive.to.size());
      if (!from.empty()) std::memcpy(receive.to.data(), from.data(), from.size());
      send.done = receive.done = true;
      channel.sends.pop_front();
      channel.receives.pop_front();
    }
    changed_.notify_all();
  }
  template <typename Done>
  void wait(std::unique_lock<std::mutex>& lock, const std::string& what, Done done) {
    const bool hangs = !changed_.wait_for(lock, kHang, [&] { return failed_ || done(); });
    if (done()) return;
    failed_ = true;
    changed_.notify_all();
    if (hangs) ADD_FAILURE() << what << " never comes";
    throw Error(ErrorKind::io, "a rank has failed while another waits: " + what, "none");
  }

  int size_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool failed_ = false;
  std::map<std::tuple<int, int, int>, Channel> channels_;  // from, to, tag
  std::vector<std::vector<std::byte>> gathered_;
  int64_t arrived_ = 0;
};

class ThreadRank final : public Communicator {
 public:
  ThreadRank(ThreadWorld& world, int rank) : world_(world), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return world_.size_; }

  std::unique_ptr<Transfer> start_send(int to, int tag, std::span<const std::byte> bytes) override {
    auto part = std::make_shared<ThreadWorld::Part>();
    part->from = bytes;
    if (bytes.size() <= ThreadWorld::kSmall) {
      part->kept.assign(bytes.begin(), bytes.end());
      part->done = true;
    }
    const std::lock_guard lock(world_.mutex_);
    ThreadWorld::Channel& channel = world_.channels_[{rank_, to, tag}];
    channel.sends.push_back(part);
    world_.match(channel);
    return std::make_unique<Waiting>(world_, channel.sends, part,
                                     fmt::format("{}'s to {}, {}", rank_, to, tag));
  }
  std::unique_ptr<Transfer> start_receive(int from, int tag, std::span<std::byte> bytes) override {
    auto part = std::make_shared<ThreadWorld::Part>();
    part->to = bytes;
    const std::lock_guard lock(world_.mutex_);
    ThreadWorld::Channel& channel = world_.channels_[{from, rank_, tag}];
    channel.receives.push_back(part);
    world_.match(channel);
    return std::make_unique<Waiting>(world_, channel.receives, part,
                                     fmt::format("{} from {}, {}", rank_, from, tag));
  }
  void barrier() override {
    std::unique_lock lock(world_.mutex_);
    const int64_t round = world_.arrived_++ / size();
    world_.changed_.notify_all();
    world_.wait(lock, "a barrier", [&] { return world_.arrived_ >= (round + 1) * size(); });
  }
  void broadcast(int, std::span<std::byte>) override { FOVEA_CHECK(!"not needed here"); }
  void all_gather(std::span<const std::byte> own, std::span<std::byte> all) override {
    {
      const std::lock_guard lock(world_.mutex_);
      world_.gathered_[static_cast<size_t>(rank_)].assign(own.begin(), own.end());
    }
    barrier();
    {
      const std::lock_guard lock(world_.mutex_);
      for (size_t r = 0; r < world_.gathered_.size(); ++r) {
        std::memcpy(all.data() + r * own.size(), world_.gathered_[r].data(), own.size());
      }
    }
    barrier();
  }
  std::unique_ptr<SharedBytes> share(SharedBytes::Read) override {
    FOVEA_CHECK(!"not needed here");
    return nullptr;
  }

 private:
  class Waiting final : public Transfer {
   public:
    using Parts = std::deque<std::shared_ptr<ThreadWorld::Part>>;
    Waiting(ThreadWorld& world, Parts& queue, std::shared_ptr<ThreadWorld::Part> part, std::string what)
        : world_(world), queue_(queue), part_(std::move(part)), what_(std::move(what)) {}
    // Who ends in an error takes its memory along.
    ~Waiting() override {
      const std::lock_guard lock(world_.mutex_);
      if (!part_->done) std::erase(queue_, part_);
    }
    bool done() override {
      const std::lock_guard lock(world_.mutex_);
      return part_->done;
    }
    void wait() override {
      std::unique_lock lock(world_.mutex_);
      world_.wait(lock, what_, [&] { return part_->done; });
    }

   private:
    ThreadWorld& world_;
    Parts& queue_;
    std::shared_ptr<ThreadWorld::Part> part_;
    std::string what_;
  };

  ThreadWorld& world_;
  int rank_;
};

inline std::unique_ptr<Communicator> ThreadWorld::rank(int rank) {
  return std::make_unique<ThreadRank>(*this, rank);
}

// Calls body(rank, context) on a thread for each of `size` ranks, which compute with one or two threads of
// their own. Rethrows the error of the first rank that has one of its own; the others got one because of it.
inline void run_ranks(int size, const std::function<void(Communicator&, const Context&)>& body) {
  ThreadWorld world(size);
  std::mutex mutex;
  std::exception_ptr first;
  {
    std::vector<std::jthread> ranks;
    for (int r = 0; r < size; ++r) {
      ranks.emplace_back([&, r] {
        ThreadPool pool(1 + r % 2);
        try {
          body(*world.rank(r), {&pool, &kernels()});
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (!first) first = std::current_exception();
          world.fail();
        }
      });
    }
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace fovea::testing
