// Random schedules of requests on a batch engine, each compared with the same request alone, bit for bit: for
// tests of one process and of several ranks.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>

#include "base/parallel.h"
#include "runtime/batch_engine.h"

namespace fovea::batch_testing {

inline const std::filesystem::path kSource = FOVEA_SOURCE_DIR;
inline const std::filesystem::path kDemo = kSource / "models" / "fovea-demo";

// What came of a request.
struct Told {
  Answer answer;
  std::vector<float> logits;  // every row, one behind the other
  std::string streamed, failure;
  bool over = false;
};

inline RequestCallbacks listen(Told& told) {
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

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
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
  // `alone`: a model of one process that computes what this one does over several ranks.
  explicit Model(const std::string& policy, const EngineOptions& options = {}, Model* alone = nullptr)
      : engine_(open(policy, options)), whole_(alone) {}

  const Engine& engine() const { return engine_; }
  bool over_ranks() const { return engine_.options().split || engine_.options().ranks != nullptr; }

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
    if (whole_ != nullptr) return whole_->alone(c);
    const auto [at, fresh] = alone_.try_emplace(c);
    if (!fresh) return at->second;
    BatchEngine batch(engine_, limits(64));
    batch.add(prompt(c), options(c), listen(at->second));
    while (batch.step()) {
    }
    EXPECT_TRUE(at->second.over && at->second.failure.empty()) << at->second.failure;
    if (over_ranks()) return at->second;
    const Answer answer = engine_.generate(prompt(c), options(c), {});
    EXPECT_EQ(at->second.answer.token_ids, answer.token_ids);
    EXPECT_EQ(at->second.answer.text, answer.text);
    EXPECT_EQ(at->second.answer.finish_reason, answer.finish_reason);
    EXPECT_EQ(at->second.streamed, answer.text);
    return at->second;
  }

 private:
  static Engine open(const std::string& policy, EngineOptions options) {
    options.policy = PrecisionPolicy::parse_text(policy);
    return Engine::open(kDemo, options, {});
  }

  Engine engine_;
  Model* whole_;
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
    const int own_threads = below(3) == 0 ? 1 + static_cast<int>(below(4)) : 1;
    // Ranks that are threads of this process have pools of their own.
    if (!model_.over_ranks()) set_threads(own_threads);
    BatchLimits limits = model_.limits(5 + below(4));
    limits.max_num_seqs = 3 + below(4);
    limits.max_num_batched_tokens = below(3) == 0 ? 2 + below(14) : 16 + below(200);
    limits.vision_cache_bytes = below(2) == 0 ? 0 : int64_t{1} << 20;
    limits.step_seconds = below(2) == 0 ? 1e-9 : 0.5;  // pictures in the smallest slices
    BatchMetrics metrics;
    {
      BatchEngine batch(model_.engine(), limits);
      const int64_t count = 5 + below(5);
      for (int64_t step = 0; step < 30000; ++step) {
        while (std::ssize(told_) < count && below(3) == 0) arrive(batch);
        if (below(crowded_ ? 100 : 10) == 0) cancel_one(batch, seen);
        if (!batch.step() && std::ssize(told_) == count) break;
      }
      metrics = batch.metrics();
    }
    if (!model_.over_ranks()) set_threads(threads_before);
    compare();
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
    const bool own_drafts = below(2) == 0;  // no token depends on it
    const int64_t drafts = below(6);
    if (own_drafts && !model_.over_ranks()) options.prompt_lookup_num_tokens = drafts;
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
    // Between steps it ends at once; over ranks a step may be under way.
    EXPECT_TRUE(live.told.over || model_.over_ranks());
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

}  // namespace fovea::batch_testing
