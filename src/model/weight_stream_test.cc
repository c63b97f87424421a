// Goal: a group's bytes are right whenever it is acquired, what stays is fetched once, failures and ends come
// through. Method: a source that writes the group's number everywhere and counts, can be slow, and can fail.
#include "model/weight_stream.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "base/error.h"

namespace fovea {
namespace {

const Checkpoint& demo() {
  static const Checkpoint checkpoint = Checkpoint::open(std::string(FOVEA_SOURCE_DIR) + "/models/fovea-demo");
  return checkpoint;
}
const WeightGroups& groups() {
  static const WeightGroups all(demo());
  return all;
}

struct Behaviour {
  std::map<std::string, int> fetched;
  std::string fails;  // name of the group that cannot be read
  bool slow = false;  // until abandoned
};

class NumberSource : public WeightSource {
 public:
  explicit NumberSource(Behaviour& behaviour) : behaviour_(behaviour) {}
  void fetch(const WeightGroup& group, char* to, const std::atomic<bool>& abandon) override {
    ++behaviour_.fetched[group.name];
    if (group.name == behaviour_.fails) throw Error(ErrorKind::io, "cannot read " + group.name, "buy a disk");
    while (behaviour_.slow && !abandon) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::fill_n(to, group.bytes, static_cast<char>(&group - groups().all().data()));
  }
  void read(const TensorInfo&, int64_t, int64_t, char*) override {}

 private:
  Behaviour& behaviour_;
};

void pass(WeightStream& stream, const GroupRange& range) {
  for (int64_t g = range.first; g < range.last; ++g) {
    const char* memory = stream.acquire(g, {});
    EXPECT_EQ(memory[0], static_cast<char>(g));
    EXPECT_EQ(memory[groups()[g].bytes - 1], static_cast<char>(g));
    stream.release();
  }
}

TEST(WeightStream, KeepsSomeAndStreamsTheOthers) {
  const GroupRange text = groups().text();
  const int64_t most = groups().total(text), least = least_residency(groups(), text);
  for (const int64_t bytes : {least, (least + most) / 2, most}) {
    Behaviour behaviour;
    {
      WeightStream stream(groups(), std::make_unique<NumberSource>(behaviour));
      stream.begin(text, bytes, true);
      for (int i = 0; i < 5; ++i) pass(stream, text);
      const StreamState state = stream.state();
      EXPECT_LE(state.kept_bytes + state.buffer_bytes, bytes);
      EXPECT_EQ(state.kept_bytes + state.streamed_bytes, most);
    }
    const Residency chosen =
        choose_residency(groups(), text, std::vector<bool>(groups().all().size()), bytes);
    for (int64_t g = text.first; g < text.last; ++g) {
      const int count = behaviour.fetched[groups()[g].name];
      if (chosen.kept[static_cast<size_t>(g)]) {
        EXPECT_EQ(count, 1);
      } else {
        EXPECT_GE(count, 5);
        EXPECT_LE(count, 6);  // the first ones are read ahead for a sixth pass
      }
    }
  }
}

TEST(WeightStream, TowersTakeTurnsAndOrdersMayChange) {
  Behaviour behaviour;
  WeightStream stream(groups(), std::make_unique<NumberSource>(behaviour));
  for (int i = 0; i < 3; ++i) {
    stream.begin(groups().vision(), least_residency(groups(), groups().vision()), i == 1);
    pass(stream, groups().vision());
    stream.begin(groups().text(), least_residency(groups(), groups().text()) + i * 1000, true);
    pass(stream, groups().text());
    const GroupRange text = groups().text();
    for (int64_t g = text.last - 1; g >= text.first; --g) pass(stream, {g, g + 1});  // nobody expects that
    pass(stream, text);
  }
  EXPECT_THROW(stream.begin(groups().text(), 1, true), Error);
}

TEST(WeightStream, AFailureReachesWhoWaitsAndIsTriedAgain) {
  Behaviour behaviour;
  behaviour.fails = groups()[groups().layer(1)].name;
  WeightStream stream(groups(), std::make_unique<NumberSource>(behaviour));
  const GroupRange text = groups().text();
  stream.begin(text, least_residency(groups(), text), true);
  pass(stream, {text.first, text.first + 1});
  EXPECT_THROW(stream.acquire(groups().layer(1), {}), Error);
  behaviour.fails.clear();  // the reader waits
  stream.begin(text, least_residency(groups(), text) + 1, true);
  pass(stream, text);
}

TEST(WeightStream, AWaitCanBeEndedAndSoCanTheStream) {
  Behaviour behaviour;
  behaviour.slow = true;
  const auto start = std::chrono::steady_clock::now();
  {
    WeightStream stream(groups(), std::make_unique<NumberSource>(behaviour));
    stream.begin(groups().text(), least_residency(groups(), groups().text()), true);
    int calls = 0;
    EXPECT_THROW(stream.acquire(groups().layer(0),
                                [&] {
                                  if (++calls == 2) throw Error(ErrorKind::io, "enough", "wait longer");
                                }),
                 Error);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
}

}  // namespace
}  // namespace fovea
