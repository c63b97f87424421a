// Goal: messages, collectives and shared bytes do what communicator.h says, for every number of ranks.
// Method: the same tests in one process (ctest's comm tests) and as 2, 3 and 4 ranks (comm.ranks_N); every
// rank checks what it received against what the others must have sent.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/splitmix64.h"
#include "comm/world.h"

namespace fovea {
namespace {

struct EndOfWorld : testing::Environment {
  void TearDown() override { finish_world(); }
};
const auto* const kEnd = testing::AddGlobalTestEnvironment(new EndOfWorld);

std::vector<std::byte> pattern(uint64_t seed, size_t size) {
  SplitMix64 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.bits());
  return bytes;
}

TEST(Communicator, HasTheLaunchersRankAndSize) {
  EXPECT_EQ(world().rank(), launch().rank);
  EXPECT_EQ(world().size(), launch().size);
  EXPECT_EQ(name_of_rank().empty(), world().size() == 1);
}

TEST(Communicator, MessagesArriveInOrderFromEverybodyToEverybody) {
  Communicator& c = world();
  std::vector<std::unique_ptr<Transfer>> sends;
  const auto seed = [](int from, int to, int tag, int i) {
    return static_cast<uint64_t>(((from * 8 + to) * 8 + tag) * 8 + i);
  };
  const size_t sizes[] = {0, 1, 100'000, 17};
  std::vector<std::vector<std::byte>> kept;
  for (int to = 0; to < c.size(); ++to) {
    for (int tag = 0; tag < 2; ++tag) {
      for (int i = 0; i < 4; ++i) {
        kept.push_back(pattern(seed(c.rank(), to, tag, i), sizes[i]));
        sends.push_back(c.start_send(to, tag, kept.back()));
      }
    }
  }
  for (int tag = 1; tag >= 0; --tag) {
    for (int from = 0; from < c.size(); ++from) {
      for (int i = 0; i < 4; ++i) {
        std::vector<std::byte> got(sizes[i]);
        c.receive(from, tag, got);
        EXPECT_EQ(got, pattern(seed(from, c.rank(), tag, i), sizes[i])) << from << " " << tag << " " << i;
      }
    }
  }
  for (const auto& send : sends) send->wait();
}

TEST(Communicator, BroadcastsAndGathers) {
  Communicator& c = world();
  for (int root = 0; root < c.size(); ++root) {
    std::vector<std::byte> bytes = c.rank() == root ? pattern(7, 1000) : std::vector<std::byte>(1000);
    c.broadcast(root, bytes);
    EXPECT_EQ(bytes, pattern(7, 1000));
  }
  const std::vector<std::byte> own = pattern(static_cast<uint64_t>(c.rank()), 333);
  std::vector<std::byte> all(333 * static_cast<size_t>(c.size()));
  c.all_gather(own, all);
  for (int r = 0; r < c.size(); ++r) {
    EXPECT_TRUE(std::ranges::equal(pattern(static_cast<uint64_t>(r), 333),
                                   std::span(all).subspan(333u * static_cast<size_t>(r), 333)));
  }
}

// Values of very different size, so that another order of addition gives other bits.
std::vector<float> addends(int rank, size_t count) {
  SplitMix64 random(static_cast<uint64_t>(rank) + 99);
  std::vector<float> values(count);
  for (float& value : values) {
    value = std::ldexp(static_cast<float>(random.bits() >> 40), static_cast<int>(random.bits() % 40) - 40);
  }
  return values;
}

TEST(Communicator, SumsInRankOrder) {
  Communicator& c = world();
  for (const size_t count : {size_t{1}, size_t{2}, size_t{1000}, size_t{4099}}) {
    std::vector<float> expected = addends(0, count);
    for (int r = 1; r < c.size(); ++r) {
      const std::vector<float> more = addends(r, count);
      for (size_t i = 0; i < count; ++i) expected[i] += more[i];
    }
    std::vector<float> values = addends(c.rank(), count);
    c.sum_in_rank_order(values);
    EXPECT_EQ(std::memcmp(values.data(), expected.data(), count * sizeof(float)), 0) << count;
  }
}

// Ranks read from each other while their own main thread sleeps or reads too, two threads each.
TEST(Communicator, BytesAreFetchedWhateverTheirHolderDoes) {
  Communicator& c = world();
  constexpr size_t kSize = 1 << 20;
  const std::vector<std::byte> own = pattern(static_cast<uint64_t>(c.rank()) + 5, kSize);
  const auto shared = c.share([&](int64_t offset, std::span<std::byte> to) {
    std::copy_n(own.data() + offset, to.size(), to.data());
  });
  const auto read_all = [&](size_t first) {
    for (int r = 0; r < c.size(); ++r) {
      const std::vector<std::byte> wanted = pattern(static_cast<uint64_t>(r) + 5, kSize);
      std::vector<std::byte> got(kSize - first);
      shared->fetch(r, static_cast<int64_t>(first), got);
      EXPECT_TRUE(std::ranges::equal(got, std::span(wanted).subspan(first))) << r;
    }
  };
  if (c.rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(200));
  std::thread other([&] { read_all(12'345); });
  read_all(0);
  other.join();
}

TEST(Launch, UnderstandsLaunchersAndRefusesNonsense) {
  if (launch().size > 1) GTEST_SKIP() << "this process has a real launcher";
  setenv("PMI_RANK", "2", 1);
  setenv("PMI_SIZE", "5", 1);
  EXPECT_EQ(launch().rank, 2);
  EXPECT_EQ(launch().size, 5);
  EXPECT_EQ(name_of_rank().substr(0, 20), "rank 2 of 5 on host ");
  setenv("PMI_SIZE", "five", 1);
  EXPECT_THROW(launch(), Error);
  unsetenv("PMI_RANK");
  unsetenv("PMI_SIZE");
  EXPECT_EQ(launch().size, 1);
}

}  // namespace
}  // namespace fovea
