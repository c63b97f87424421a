// Goal: over a pipeline of ranks and with tensor parallelism a request gets the tokens and the logits it gets
// alone, bit for bit, whatever happens around it; what goes wrong with it ends it alone, and what goes wrong
// with a rank ends all. Method: ranks that are threads of this process; random schedules as in
// batch_engine_test on maps with the head, the last layers and the tower here and there, compared with one
// process (with tensor parallelism, whose sums have an order of their own, with the same ranks); a model that
// overflows.
#include <gtest/gtest.h>
#include <unistd.h>

#include "batch_schedules_testing.h"
#include "overflowing_model_testing.h"
#include "threads_as_ranks_testing.h"

namespace fovea {
namespace {

using namespace batch_testing;
using fovea::testing::run_ranks;

// How ranks share the model.
struct Way {
  const char* name;
  int ranks;
  const char* map;  // empty: tensor parallel
};

const Way kWays[] = {{"RankZeroFirst", 2, "vision=0,text.0-1=0,text.2=1,head=1"},
                     {"RankZeroLast", 2, "vision=1,text=1,head=0"},
                     {"ThereAndBack", 2, "vision=1,text.0=1,text.1-2=0,head=1"},
                     {"ThreeInTurn", 3, "vision=2,text.0=0,text.1=1,text.2=2,head=2"},
                     {"ThreeMixed", 3, "vision=0,text.0=2,text.1=0,text.2=1,head=2"},
                     {"Tensor2", 2, ""},
                     {"Tensor3", 3, ""}};

EngineOptions shared_by(const Way& way, Communicator& ranks, const Context& context) {
  EngineOptions options;
  options.context = context;
  if (*way.map == '\0') {
    options.tensor_parallel = {ranks.rank(), ranks.size(),
                               [&ranks](std::span<float> values) { ranks.sum_in_rank_order(values); }};
    options.ranks = &ranks;
  } else {
    options.split = [&, map = std::string(way.map)](const Checkpoint& checkpoint) {
      return SplitModel{DeviceMap::parse(map, checkpoint.config().text.num_hidden_layers), &ranks};
    };
  }
  return options;
}

// Rank 0 asks, the others serve.
void with_ranks(const Way& way, const std::string& policy, Model* alone,
                const std::function<void(Model&)>& ask) {
  run_ranks(way.ranks, [&](Communicator& ranks, const Context& context) {
    const EngineOptions options = shared_by(way, ranks, context);
    Model model(policy, options, *way.map == '\0' ? nullptr : alone);
    if (ranks.rank() > 0) return model.engine().serve();
    try {
      ask(model);
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
      throw;
    }
    model.engine().release_ranks();
  });
}

// 12 schedules for each of seven ways, half of them in each type.
TEST(RankSchedules, ChangeNoBit) {
  Seen seen;
  for (const char* policy : {"dtype=fp32", "dtype=bf16"}) {
    Model alone(policy);
    for (const Way& way : kWays) {
      SCOPED_TRACE(std::string(policy) + " " + way.name);
      with_ranks(way, policy, &alone, [&](Model& model) {
        for (uint64_t seed = 0; seed < 6; ++seed) {
          SCOPED_TRACE(seed);
          Schedule(model, 7000 + 100 * static_cast<uint64_t>(&way - kWays) + seed).run(seen);
          if (::testing::Test::HasFailure()) return;
        }
      });
      if (HasFailure()) return;
    }
  }
  EXPECT_EQ(seen.schedules, 84);
  EXPECT_GE(seen.preempted, 5);
  EXPECT_GE(seen.evicted, 5);
  EXPECT_GE(seen.copied, 5);
  EXPECT_GE(seen.hit, 20);
  EXPECT_GE(seen.picture_hit, 5);
  int cancelled = 0;
  for (const auto& [state, times] : seen.cancelled_in) cancelled += times;
  EXPECT_GE(cancelled, 20);
}

// One batch engine after the other on the same ranks, and one that is left with steps under way.
TEST(RankSchedules, ABatchEngineMayGoAtAnyTime) {
  const Case c{"one two three four five six seven", {"jpeg_420.jpg"}, 0, true, 30};
  Model alone("dtype=bf16");
  for (const Way& way : kWays) {
    SCOPED_TRACE(way.name);
    with_ranks(way, "dtype=bf16", &alone, [&](Model& model) {
      for (const int steps : {1, 4, 200}) {
        std::vector<Told> told(4);
        BatchEngine batch(model.engine(), model.limits(20));
        for (Told& one : told) batch.add(model.prompt(c), model.options(c), listen(one));
        for (int i = 0; i < steps && batch.step(); ++i) {
        }
        for (const Told& one : told) {
          EXPECT_EQ(one.over, steps == 200);
          EXPECT_EQ(one.answer.token_ids.size(), one.over ? 30u : 0u);
        }
      }
    });
  }
}

std::filesystem::path overflowing_model(const std::function<void(Bf16Tensors&)>& change) {
  std::string pattern = (std::filesystem::temp_directory_path() / "fovea-test-XXXXXX").string();
  EXPECT_NE(mkdtemp(pattern.data()), nullptr);
  write_changed_demo(std::filesystem::path(pattern) / "model", change);
  return pattern;
}

struct Both {
  Told good, bad;
};

// A request that overflows in mid-prompt beside one that does not.
Both ask_both(const Engine& engine) {
  Both both;
  const std::string words = "The red box is in the garden near the green house. ";
  BatchLimits limits;
  limits.kv_cache_bytes = 40 * BatchEngine::block_bytes(engine);
  limits.max_num_batched_tokens = 16;
  BatchEngine batch(engine, limits);
  for (const bool bad : {false, true}) {
    const std::string text = bad ? words + "What ~ is it? " + words : "What is it? " + words;
    GenerationOptions options = engine.default_generation();
    options.choose_greedy();
    options.ignore_eos = true;
    options.max_new_tokens = 12;
    batch.add(engine.prepare(messages_from_prompt(text, {}, {}, {}), {}, false), options,
              listen(bad ? both.bad : both.good));
  }
  while (batch.step()) {
  }
  return both;
}

TEST(RankSchedules, ANumericErrorEndsItsOwnRequest) {
  for (const char* layer : {"0", "2"}) {
    const std::filesystem::path folder = overflowing_model(
        [&](Bf16Tensors& tensors) { overflow_mlp(tensors, "~", 256, std::string("model.layers.") + layer); });
    const std::string place = std::string("decoder layer ") + layer;
    EngineOptions plain;
    plain.dtype = DType::f16;
    const Both expected = ask_both(Engine::open(folder / "model", plain, {}));
    EXPECT_EQ(expected.good.failure, "");
    EXPECT_NE(expected.bad.failure.find(place), std::string::npos) << expected.bad.failure;
    for (const Way& way : kWays) {
      SCOPED_TRACE(way.name);
      run_ranks(way.ranks, [&](Communicator& ranks, const Context& context) {
        EngineOptions options = shared_by(way, ranks, context);
        options.dtype = DType::f16;
        const Engine engine = Engine::open(folder / "model", options, {});
        if (ranks.rank() > 0) return engine.serve();
        const Both both = ask_both(engine);
        EXPECT_EQ(both.bad.failure, expected.bad.failure);
        EXPECT_EQ(both.good.failure, "");
        EXPECT_EQ(both.good.answer.token_ids.size(), 12u);
        if (*way.map != '\0') {
          EXPECT_EQ(both.good.answer.token_ids, expected.good.answer.token_ids);
          EXPECT_TRUE(same_bits(both.good.logits, expected.good.logits));
        }
        engine.release_ranks();
      });
    }
    std::filesystem::remove_all(folder);
  }
}

// A rank that has no memory for what it is to receive, from some message on.
class Mortal final : public Communicator {
 public:
  Mortal(Communicator& whole, int receives) : whole_(whole), left_(receives) {}
  int rank() const override { return whole_.rank(); }
  int size() const override { return whole_.size(); }
  std::unique_ptr<Transfer> start_send(int to, int tag, std::span<const std::byte> bytes) override {
    return whole_.start_send(to, tag, bytes);
  }
  std::unique_ptr<Transfer> start_receive(int from, int tag, std::span<std::byte> bytes) override {
    if (left_-- == 0) throw Error(ErrorKind::exhausted, "no memory", "none");
    return whole_.start_receive(from, tag, bytes);
  }
  void barrier() override { whole_.barrier(); }
  void broadcast(int root, std::span<std::byte> bytes) override { whole_.broadcast(root, bytes); }
  void all_gather(std::span<const std::byte> own, std::span<std::byte> all) override {
    whole_.all_gather(own, all);
  }
  std::unique_ptr<SharedBytes> share(SharedBytes::Read read) override {
    return whole_.share(std::move(read));
  }

 private:
  Communicator& whole_;
  int left_;
};

// A rank that goes in mid-step: all requests end, named, and the engine says so from then on.
TEST(RankSchedules, ALostRankEndsAllRequests) {
  const Case c{"one two three", {}, 0, true, 300};
  for (const Way& way : kWays) {
    SCOPED_TRACE(way.name);
    std::vector<Told> told(3);
    const auto body = [&](Communicator& ranks, const Context& context) {
      Mortal mortal(ranks, ranks.rank() == way.ranks - 1 ? 50 : -1);
      Model model("dtype=bf16", shared_by(way, mortal, context));
      if (ranks.rank() > 0) return model.engine().serve();
      BatchEngine batch(model.engine(), model.limits(20));
      for (Told& one : told) batch.add(model.prompt(c), model.options(c), listen(one));
      const auto work = [&] {
        while (batch.step()) {
        }
      };
      EXPECT_THROW(work(), Error);
      for (const Told& one : told) {
        EXPECT_TRUE(one.over);
        EXPECT_NE(one.failure.find("a rank has failed"), std::string::npos) << one.failure;
      }
      EXPECT_THROW(batch.step(), Error);
      Told late;
      EXPECT_THROW(batch.add(model.prompt(c), model.options(c), listen(late)), Error);
    };
    EXPECT_THROW(run_ranks(way.ranks, body), Error);
  }
}

}  // namespace
}  // namespace fovea
