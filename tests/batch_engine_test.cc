// Goal: whatever happens around a request, its tokens and every row of its logits are those it gets alone,
// bit for bit. Method: random schedules on the demo model: arrivals while others run, prompts that share
// their beginnings, pictures that are shared or not, few blocks, small steps, cancelled and failing company,
// 1 to 4 threads. What must happen often enough (preemption, a copied block, eviction, a found prefix, a
// cancel in each state) is counted over all schedules.
#include "runtime/batch_engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>

#include "base/parallel.h"
#include "base/scratch_file_testing.h"
#include "checkpoint/weight_groups.h"

namespace fovea {
namespace {

const std::filesystem::path kSource = FOVEA_SOURCE_DIR;
const std::filesystem::path kDemo = kSource / "models" / "fovea-demo";

// What came of a request.
struct Told {
  Answer answer;
  std::vector<float> logits;  // every row, one behind the other
  std::string streamed, failure;
  bool over = false;
};

RequestCallbacks listen(Told& told) {
  return {.on_text = [&](std::string_view piece) { told.streamed += piece; },
          .on_token =
              [&](int32_t, std::span<const float> row) {
                told.logits.insert(told.logits.end(), row.begin(), row.end());
              },
          .on_answer =
              [&](Answer answer) {
                told.answer = std::move(answer);
                told.over = true;
              },
          .on_failure =
              [&](const std::exception_ptr& failure) {
                told.over = true;
                try {
                  std::rethrow_exception(failure);
                } catch (const Error& error) {
                  told.failure = error.what();
                }
              }};
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// A request's words and pictures; equal cases are equal requests.
struct Case {
  std::string text;
  std::vector<std::string> pictures;
  uint64_t seed = 0;
  bool greedy = true;
  int64_t tokens = 1;

  auto operator<=>(const Case&) const = default;
};

class Model {
 public:
  explicit Model(const std::string& policy) : engine_(open(policy)) {}

  const Engine& engine() const { return engine_; }

  Prompt prompt(const Case& c) const {
    Message message{"user", {}, {}};
    for (const std::string& picture : c.pictures) {
      ContentPart part;
      part.type = ContentPart::Type::image;
      part.source = (kSource / "tests" / "data" / "media" / picture).string();
      part.resized_height = part.resized_width = 112;
      message.content.push_back(part);
    }
    ContentPart words;
    words.text = c.text;
    message.content.push_back(words);
    return engine_.prepare({message}, {}, false);
  }
  GenerationOptions options(const Case& c) const {
    GenerationOptions options = engine_.default_generation();
    options.sampling.greedy = c.greedy;
    options.sampling.temperature = 1.5;
    options.sampling.top_k = 50;
    options.sampling.seed = c.seed;
    options.sampling.repetition_penalty = 1.05;
    options.max_new_tokens = c.tokens;
    options.ignore_eos = c.tokens > 2;
    return options;
  }
  BatchLimits limits(int64_t blocks) const {
    BatchLimits limits;
    limits.kv_cache_bytes = blocks * BatchEngine::block_bytes(engine_);
    return limits;
  }
  // The request with the engine to itself, each case once.
  const Told& alone(const Case& c) {
    const auto [at, fresh] = alone_.try_emplace(c);
    if (!fresh) return at->second;
    BatchEngine batch(engine_, limits(64));
    batch.add(prompt(c), options(c), listen(at->second));
    while (batch.step()) {
    }
    EXPECT_TRUE(at->second.over && at->second.failure.empty()) << at->second.failure;
    const Answer answer = engine_.generate(prompt(c), options(c), {});
    EXPECT_EQ(at->second.answer.token_ids, answer.token_ids);
    EXPECT_EQ(at->second.answer.text, answer.text);
    EXPECT_EQ(at->second.answer.finish_reason, answer.finish_reason);
    EXPECT_EQ(at->second.streamed, answer.text);
    return at->second;
  }

 private:
  static Engine open(const std::string& policy) {
    EngineOptions options;
    options.policy = PrecisionPolicy::parse_text(policy);
    return Engine::open(kDemo, options, {});
  }

  Engine engine_;
  std::map<Case, Told> alone_;
};

// What all schedules together saw.
struct Seen {
  int schedules = 0, preempted = 0, evicted = 0, copied = 0, hit = 0, picture_hit = 0, accepted = 0;
  std::map<RequestState, int> cancelled_in;
};

class Schedule {
 public:
  // Every third one is crowded: long answers that share nothing, in few blocks.
  Schedule(Model& model, uint64_t seed) : model_(model), random_(seed), crowded_(seed % 3 == 0) {}

  void run(Seen& seen) {
    const int threads_before = threads();
    set_threads(below(3) == 0 ? 1 + static_cast<int>(below(4)) : 1);
    BatchLimits limits = model_.limits(5 + below(4));
    limits.max_num_seqs = 3 + below(4);
    limits.max_num_batched_tokens = below(3) == 0 ? 2 + below(14) : 16 + below(200);
    limits.vision_cache_bytes = below(2) == 0 ? 0 : int64_t{1} << 20;
    limits.step_seconds = below(2) == 0 ? 1e-9 : 0.5;  // pictures in the smallest slices
    BatchEngine batch(model_.engine(), limits);
    const int64_t count = 5 + below(5);
    for (int64_t step = 0; step < 30000; ++step) {
      while (std::ssize(told_) < count && below(3) == 0) arrive(batch);
      if (below(crowded_ ? 100 : 10) == 0) cancel_one(batch, seen);
      if (!batch.step() && std::ssize(told_) == count) break;
    }
    set_threads(threads_before);
    compare();
    const BatchMetrics metrics = batch.metrics();
    EXPECT_EQ(metrics.schedule.used_blocks, 0);
    ++seen.schedules;
    seen.preempted += metrics.schedule.preemptions > 0;
    seen.evicted += metrics.schedule.blocks.evictions > 0;
    seen.copied += metrics.schedule.blocks.copies > 0;
    seen.hit += metrics.schedule.blocks.hits > 0;
    seen.picture_hit += metrics.picture_hits > 0;
    seen.accepted += std::any_of(told_.begin(), told_.end(),
                                 [](const auto& live) { return live->told.answer.speculation.accepted > 0; });
  }

 private:
  struct Live {
    Case what;
    RequestId id = 0;
    Told told;
    bool cancelled = false;
  };

  int64_t below(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }

  // Few different words and pictures, so that much is shared; a number in front of them shares nothing.
  Case random_case() {
    static const char* const kPictures[] = {"jpeg_420.jpg", "jpeg_422.jpg", "bmp_24.bmp"};
    Case c;
    if (below(2) == 0) c.pictures.emplace_back(kPictures[below(3)]);
    if (below(8) == 0 || crowded_) c.text = std::to_string(below(crowded_ ? 10 : 2)) + " ";
    const int64_t words = std::array{2, 2, 30, 45, 60}[static_cast<size_t>(below(5))];
    for (int64_t i = 0; i < words; ++i) c.text += i % 7 == 0 ? "how many dots " : "red ";
    c.seed = static_cast<uint64_t>(below(3));
    c.greedy = c.seed == 0;
    c.tokens = crowded_ ? 150 : below(2) == 0 ? 40 : 2;
    return c;
  }

  void arrive(BatchEngine& batch) {
    Case c = random_case();
    if (!told_.empty() && !crowded_ && below(3) == 0) c = told_.back()->what;  // a twin
    told_.push_back(std::make_unique<Live>());
    Live& live = *told_.back();
    live.what = c;
    GenerationOptions options = model_.options(c);
    if (below(2) == 0) options.prompt_lookup_num_tokens = below(6);  // no token depends on it
    try {
      live.id = batch.add(model_.prompt(c), options, listen(live.told));
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::exhausted) << error.what();
      live.told.over = live.cancelled = true;  // larger than all blocks
    }
  }

  void cancel_one(BatchEngine& batch, Seen& seen) {
    if (told_.empty()) return;
    Live& live = *told_[static_cast<size_t>(below(std::ssize(told_)))];
    const std::optional<RequestState> state = live.told.over ? std::nullopt : batch.state(live.id);
    if (!state) return;
    ++seen.cancelled_in[*state];
    live.cancelled = true;
    batch.cancel(live.id);
    EXPECT_TRUE(live.told.over);  // between steps it ends at once
  }

  void compare() {
    for (const auto& live : told_) {
      ASSERT_TRUE(live->told.over);
      EXPECT_EQ(live->told.failure, "");
      if (live->told.answer.token_ids.empty() && live->cancelled) continue;
      const Told& alone = model_.alone(live->what);
      const auto& ids = live->told.answer.token_ids;
      ASSERT_LE(ids.size(), alone.answer.token_ids.size());
      EXPECT_TRUE(std::equal(ids.begin(), ids.end(), alone.answer.token_ids.begin()));
      EXPECT_TRUE(same_bits(live->told.logits, std::span(alone.logits).first(live->told.logits.size())));
      if (live->cancelled) continue;
      EXPECT_EQ(ids, alone.answer.token_ids);
      EXPECT_EQ(live->told.answer.text, alone.answer.text);
      EXPECT_EQ(live->told.answer.finish_reason, alone.answer.finish_reason);
      EXPECT_EQ(live->told.streamed, alone.streamed);
      EXPECT_EQ(live->told.logits.size(), alone.logits.size());
    }
  }

  Model& model_;
  std::mt19937_64 random_;
  bool crowded_;
  std::vector<std::unique_ptr<Live>> told_;
};

class EverySchedule : public testing::TestWithParam<const char*> {};

// 72 schedules for each of seven policies: what is counted below is at least 50 in all of them together.
TEST_P(EverySchedule, ChangesNoBit) {
  Seen seen;
  Model model(GetParam());
  for (uint64_t seed = 0; seed < 72; ++seed) {
    SCOPED_TRACE(seed);
    Schedule(model, 1000 * std::string_view(GetParam()).size() + seed).run(seen);
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
  EXPECT_GE(seen.preempted, 8);
  EXPECT_GE(seen.evicted, 8);
  EXPECT_GE(seen.copied, 8);
  EXPECT_GE(seen.hit, 8);
  EXPECT_GE(seen.picture_hit, 8);
  EXPECT_GE(seen.accepted, 8);
  for (const RequestState state : {RequestState::queued, RequestState::prefill, RequestState::decode}) {
    EXPECT_GE(seen.cancelled_in[state], 8) << static_cast<int>(state);
  }
}

INSTANTIATE_TEST_SUITE_P(BatchEngine, EverySchedule,
                         testing::Values("dtype=fp32", "dtype=bf16", "preset=eager-bf16", "preset=balanced",
                                         "preset=fast", "text.bias_split=on",
                                         "text.k_cache=int8,text.v_cache=int8"));

// A second request over what a first one brought: nothing but its own last tokens is computed.
TEST(BatchEngine, WhatIsKnownIsNotComputedAgain) {
  Model model("dtype=bf16");
  BatchEngine batch(model.engine(), model.limits(64));
  Case c{"what is red here, and where does it stand?", {"jpeg_420.jpg", "bmp_24.bmp"}, 0, true, 4};
  for (int i = 0; i < 3; ++i) {
    const BatchMetrics before = batch.metrics();
    Told told;
    const auto prompt_tokens = std::ssize(model.prompt(c).ids);
    batch.add(model.prompt(c), model.options(c), listen(told));
    while (batch.step()) {
    }
    EXPECT_EQ(told.answer.token_ids, model.alone(c).answer.token_ids);
    const BatchMetrics after = batch.metrics();
    EXPECT_EQ(after.pictures_encoded - before.pictures_encoded, i == 0 ? 2 : 0);
    EXPECT_EQ(after.rows - before.rows, (i == 0 ? prompt_tokens : 1) + c.tokens - 1) << i;
  }
}

// Fifty requests over the same text that arrive at once: it is computed once.
TEST(BatchEngine, TwinsWaitForEachOther) {
  Model model("dtype=bf16");
  BatchLimits limits = model.limits(400);
  limits.max_num_seqs = 50;
  BatchEngine batch(model.engine(), limits);
  std::vector<Told> told(50);
  std::string text;
  for (int i = 0; i < 100; ++i) text += "a red circle ";
  int64_t prompt_tokens = 0, own_tokens = 0;
  for (size_t i = 0; i < told.size(); ++i) {
    const Case c{text + std::to_string(i), {}, 0, true, 2};
    Prompt prompt = model.prompt(c);
    prompt_tokens = std::ssize(prompt.ids);
    batch.add(std::move(prompt), model.options(c), listen(told[i]));
  }
  while (batch.step()) {
  }
  for (size_t i = 0; i < told.size(); ++i) {
    EXPECT_EQ(told[i].answer.token_ids,
              model.alone({text + std::to_string(i), {}, 0, true, 2}).answer.token_ids);
  }
  own_tokens = batch.metrics().rows - prompt_tokens;
  EXPECT_LT(own_tokens, 50 * 64);  // at most a block each, of several hundred tokens
  EXPECT_GT(prompt_tokens, 256);
}

// While somebody's picture is encoded, somebody else's tokens come.
TEST(BatchEngine, NobodyWaitsForAPicture) {
  Model model("dtype=bf16");
  BatchLimits limits = model.limits(64);
  limits.step_seconds = 1e-9;
  BatchEngine batch(model.engine(), limits);
  const Case talker{"tell me", {}, 0, true, 400}, shower{"what is it?", {"jpeg_420.jpg"}, 0, true, 3};
  Told first, second;
  batch.add(model.prompt(talker), model.options(talker), listen(first));
  while (first.logits.empty()) batch.step();
  const size_t before = first.logits.size();
  batch.add(model.prompt(shower), model.options(shower), listen(second));
  while (second.logits.empty()) batch.step();
  const size_t vocab = model.alone(shower).logits.size() / model.alone(shower).answer.token_ids.size();
  EXPECT_GE((first.logits.size() - before) / vocab, 10u);
  while (batch.step()) {
  }
  EXPECT_TRUE(same_bits(first.logits, model.alone(talker).logits));
  EXPECT_TRUE(same_bits(second.logits, model.alone(shower).logits));
}

// What comes from disk, weights or keys and values, is passed once for all requests of a step.
struct FromDisk {
  explicit FromDisk(const EngineOptions& options) : engine(Engine::open(kDemo, options, {})) {}

  // Cases that share nothing, all at once.
  std::vector<Told> answers(Model& model, std::span<const Case> cases) const {
    std::vector<Told> told(cases.size());
    BatchEngine batch(engine, model.limits(64));
    for (size_t i = 0; i < cases.size(); ++i) {
      batch.add(model.prompt(cases[i]), model.options(cases[i]), listen(told[i]));
    }
    while (batch.step()) {
    }
    return told;
  }
  Engine engine;
};

std::vector<Case> unequal_cases() {
  std::vector<Case> cases;
  for (int i = 0; i < 4; ++i) {
    Case c{std::to_string(i) + " how many red dots are there?", {}, 0, true, 30};
    if (i == 1) c.pictures = {"jpeg_420.jpg"};
    if (i == 2) c.pictures = {"bmp_24.bmp", "jpeg_422.jpg"};
    cases.push_back(c);
  }
  return cases;
}

TEST(BatchEngine, StreamsWeightsOnceForAllRequestsOfAStep) {
  Model model("dtype=bf16");
  const WeightGroups groups(model.engine().checkpoint());
  EngineOptions options;
  options.policy = PrecisionPolicy::parse_text("dtype=bf16");
  options.weight_limit =
      WeightLimit{least_residency(groups, groups.vision()), least_residency(groups, groups.text())};
  const FromDisk disk(options);
  const std::vector<Case> cases = unequal_cases();
  const std::vector<Told> told = disk.answers(model, cases);
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_TRUE(same_bits(told[i].logits, model.alone(cases[i]).logits)) << i;
    EXPECT_EQ(told[i].answer.token_ids, model.alone(cases[i]).answer.token_ids) << i;
  }
  const int64_t together = disk.engine.stream_state().fetched_bytes;
  for (const Case& c : cases) disk.answers(model, {&c, 1});
  const int64_t apart = disk.engine.stream_state().fetched_bytes - together;
  EXPECT_GT(together, 0);
  EXPECT_LT(together, apart * 2 / 3);
}

TEST(BatchEngine, KeepsKeysAndValuesOfEachRequestOnDisk) {
  if (!disk_here()) GTEST_SKIP() << "the working folder lies in memory";
  Model model("dtype=bf16");
  EngineOptions options;
  options.policy = PrecisionPolicy::parse_text("dtype=bf16");
  options.kv_offload = KvOffload{".", 0};
  const FromDisk disk(options);
  const std::vector<Case> cases = unequal_cases();
  const std::vector<Told> told = disk.answers(model, cases);
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_TRUE(same_bits(told[i].logits, model.alone(cases[i]).logits)) << i;
    EXPECT_EQ(told[i].answer.kv_cache.layers_on_disk, 3);
    EXPECT_GT(told[i].answer.kv_cache.written_bytes, 0);
  }
}

// Pictures of equal shape have equal pads. What tells them apart is their digest: with one that cannot, the
// second request gets the first one's keys, and this test sees it.
TEST(BatchEngine, PicturesOfEqualShapeAreNotEqual) {
  Model model("dtype=bf16");
  const Case first{"what is it?", {"jpeg_420.jpg"}, 0, true, 3},
      second{"what is it?", {"bmp_24.bmp"}, 0, true, 3};
  ASSERT_EQ(model.prompt(first).ids, model.prompt(second).ids);
  ASSERT_FALSE(same_bits(model.alone(first).logits, model.alone(second).logits));
  for (const bool blind : {false, true}) {
    BatchLimits limits = model.limits(64);
    if (blind) limits.digest = [](const Picture&) { return Digest{}; };
    BatchEngine batch(model.engine(), limits);
    for (const Case& c : {first, second}) {
      Told told;
      batch.add(model.prompt(c), model.options(c), listen(told));
      while (batch.step()) {
      }
      EXPECT_EQ(same_bits(told.logits, model.alone(c).logits), !blind || c == first);
    }
  }
}

TEST(BatchEngine, WhatCannotBeIsRefusedByName) {
  Model model("dtype=bf16");
  const Case c{"one two three", {}, 0, true, 3};
  BatchEngine batch(model.engine(), model.limits(1));
  Case huge = c;
  huge.tokens = 200;
  Told told;
  EXPECT_THROW(batch.add(model.prompt(huge), model.options(huge), listen(told)), Error);
  BatchLimits none = model.limits(1);
  none.kv_cache_bytes = 1;
  EXPECT_THROW(BatchEngine(model.engine(), none), Error);
  Case nothing = c;
  nothing.tokens = 0;
  batch.add(model.prompt(nothing), model.options(nothing), listen(told));
  EXPECT_TRUE(told.over);
  EXPECT_EQ(told.answer.finish_reason, "length");
}

}  // namespace
}  // namespace fovea
