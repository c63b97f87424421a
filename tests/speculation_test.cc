// Goal: speculation never changes an answer: tokens, text, streamed pieces and reason of ending are those of
// plain decoding, whatever is proposed. Method: the golden checkpoints and the trained model, greedy and
// sampled, with proposals forced after every match, right ones, wrong ones and mixed ones; equality. Counts
// where they are known.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/splitmix64.h"
#include "checkpoint/safetensors.h"
#include "policy/presets.h"
#include "runtime/engine.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

const fs::path kGoldens = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden";
const fs::path kOneImage = kGoldens / "one_image";

struct Told {
  Answer answer;
  std::vector<std::string> pieces;
};

Told ask(const Engine& engine, const Prompt& prompt, const GenerationOptions& options) {
  Told told;
  Observer observer;
  observer.on_text = [&](std::string_view piece) { told.pieces.emplace_back(piece); };
  observer.progress = [&](std::string_view stage, int64_t done, int64_t total) {
    if (stage == "prefill") {
      EXPECT_LE(done, total);
      EXPECT_TRUE(told.pieces.empty()) << "progress of prefill while decoding";
    }
  };
  told.answer = engine.generate(prompt, options, observer);
  return told;
}

void expect_same(const Told& plain, const Told& other) {
  EXPECT_EQ(other.answer.token_ids, plain.answer.token_ids);
  EXPECT_EQ(other.answer.text, plain.answer.text);
  EXPECT_EQ(other.answer.finish_reason, plain.answer.finish_reason);
  EXPECT_EQ(other.pieces, plain.pieces);
  const Speculation& s = other.answer.speculation;
  EXPECT_LE(s.accepted, s.proposed);
  EXPECT_LE(s.steps, s.proposed);
  EXPECT_LE(s.accepted, other.answer.timings.generated_tokens);
}

GenerationOptions plain_options(const Engine& engine, int64_t tokens) {
  GenerationOptions options = engine.default_generation();
  options.sampling.greedy = options.ignore_eos = true;
  options.max_new_tokens = tokens;
  options.prompt_lookup_num_tokens = 0;
  return options;
}

GenerationOptions forced(GenerationOptions options, int64_t count, ProposeFn propose = {}) {
  options.prompt_lookup_num_tokens = count;
  options.propose = std::move(propose);
  return options;
}

// Proposes what stands in `answer` at this place; an id is replaced by another with probability 1 / wrong_of.
ProposeFn proposer(const Prompt& prompt, std::vector<int32_t> answer, uint64_t wrong_of) {
  return [begin = prompt.ids.size(), answer = std::move(answer), wrong_of, random = SplitMix64(9)](
             std::span<const int32_t> ids, int64_t most) mutable {
    std::vector<int32_t> draft;
    for (size_t i = ids.size() - begin; i < answer.size() && std::ssize(draft) < most; ++i)
      draft.push_back(wrong_of > 0 && random.bits() % wrong_of == 0 ? 5 : answer[i]);
    return draft;
  };
}

Prompt prompt_of(const Engine& engine, const std::string& question, bool image = true) {
  std::vector<std::string> images;
  if (image) images.push_back((kOneImage / "inputs" / "image0.png").string());
  return engine.prepare(messages_from_prompt(question, images, {}, {}), {}, false);
}

const char* const kRepeats = "one two three, one two three, one two three. What is one two?";

// One row verified against many, in every way of computing attention that there is.
TEST(Speculation, ChangesNoGreedyTokenUnderAnyPreset) {
  const Engine base = Engine::open(kOneImage, {}, {});
  const Prompt prompt = prompt_of(base, kRepeats);
  for (const Preset& preset : presets()) {
    SCOPED_TRACE(preset.name);
    EngineOptions options;
    options.policy.emplace().set_preset(preset.name);
    const Engine engine = base.with(options);
    const Told plain = ask(engine, prompt, plain_options(engine, 16));
    for (const int64_t count : {1, 9}) {
      expect_same(plain, ask(engine, prompt, forced(plain_options(engine, 16), count)));
      expect_same(plain,
                  ask(engine, prompt,
                      forced(plain_options(engine, 16), count, proposer(prompt, plain.answer.token_ids, 4))));
    }
  }
}

// Every row of a verified draft is judged by the history that it would have had.
TEST(Speculation, WhatMustNotRepeatDoesNotWithOrWithoutIt) {
  const Engine engine = Engine::open(kOneImage, {}, {});
  const Prompt prompt = prompt_of(engine, kRepeats);
  for (const bool greedy : {true, false}) {
    GenerationOptions options = plain_options(engine, 24);
    options.sampling.greedy = greedy;
    options.sampling.no_repeat_ngram_size = 1;
    const Told plain = ask(engine, prompt, options);
    std::vector<int32_t> all = prompt.ids;
    for (const int32_t id : plain.answer.token_ids) {
      EXPECT_EQ(std::find(all.begin(), all.end(), id), all.end());
      all.push_back(id);
    }
    expect_same(plain, ask(engine, prompt, forced(options, 9)));
    expect_same(plain, ask(engine, prompt, forced(options, 5, proposer(prompt, plain.answer.token_ids, 4))));
    options.prefill_chunk = 7;
    expect_same(plain, ask(engine, prompt, options));
  }
}

TEST(Speculation, ChangesNoTokenOfAnyModelGreedyOrSampled) {
  std::vector<fs::path> models{fs::path(FOVEA_SOURCE_DIR) / "models" / "fovea-demo"};
  for (const auto& golden : fs::directory_iterator(kGoldens)) {
    if (golden.is_directory()) models.push_back(golden.path());
  }
  for (const fs::path& model : models) {
    SCOPED_TRACE(model);
    const Engine engine = Engine::open(model, {}, {});
    const Prompt prompt = prompt_of(engine, kRepeats);
    for (const double temperature : {0., 1.5}) {
      GenerationOptions options = plain_options(engine, 64);
      options.sampling = {.greedy = temperature == 0,
                          .temperature = temperature,
                          .top_k = 20,
                          .top_p = .9,
                          .repetition_penalty = temperature == 1.5 ? 1.3 : 1.,
                          .seed = 11};
      const Told plain = ask(engine, prompt, options);
      EXPECT_EQ(plain.answer.speculation.proposed, 0);
      GenerationOptions automatic = options;
      automatic.prompt_lookup_num_tokens.reset();
      expect_same(plain, ask(engine, prompt, automatic));
      expect_same(plain, ask(engine, prompt, forced(options, 5)));
      expect_same(plain,
                  ask(engine, prompt, forced(options, 7, proposer(prompt, plain.answer.token_ids, 3))));
    }
  }
}

class SpeculationTest : public testing::Test {
 protected:
  SpeculationTest()
      : engine_(Engine::open(kOneImage, {}, {})),
        prompt_(prompt_of(engine_, kRepeats)),
        options_(plain_options(engine_, 40)),
        plain_(ask(engine_, prompt_, options_)) {}

  ProposeFn right() const { return proposer(prompt_, plain_.answer.token_ids, 0); }

  Engine engine_;
  Prompt prompt_;
  GenerationOptions options_;
  Told plain_;
};

// 39 tokens behind the first, in steps of up to 8: the last one needs no more than 7 rows.
TEST_F(SpeculationTest, RightProposalsAreAllAccepted) {
  const Told told = ask(engine_, prompt_, forced(options_, 7, right()));
  expect_same(plain_, told);
  EXPECT_EQ(told.answer.speculation.steps, 5);
  EXPECT_EQ(told.answer.speculation.proposed, 4 * 7 + 6);
  EXPECT_EQ(told.answer.speculation.accepted, 4 * 7 + 6);
}

TEST_F(SpeculationTest, WrongProposalsAreAllRejected) {
  const auto wrong = [&](std::span<const int32_t> ids, int64_t most) {
    const int32_t next = plain_.answer.token_ids.at(ids.size() - prompt_.ids.size());
    return std::vector<int32_t>(static_cast<size_t>(most), next == 5 ? 6 : 5);
  };
  const Told told = ask(engine_, prompt_, forced(options_, 6, wrong));
  expect_same(plain_, told);
  EXPECT_EQ(told.answer.speculation.steps, 38);
  EXPECT_EQ(told.answer.speculation.accepted, 0);
}

TEST_F(SpeculationTest, EndsAtAnEndTokenInTheMiddleOfARun) {
  for (size_t at = 0; at < 20; ++at) {
    GenerationOptions options = options_;
    options.ignore_eos = false;
    options.eos_token_ids = {plain_.answer.token_ids[at]};
    const Told plain = ask(engine_, prompt_, options);
    EXPECT_EQ(plain.answer.finish_reason, "stop");
    expect_same(plain, ask(engine_, prompt_, forced(options, 9, right())));
    expect_same(plain, ask(engine_, prompt_, forced(options, 3)));
  }
}

TEST_F(SpeculationTest, EndsAtAStopStringInTheMiddleOfARun) {
  const std::string text = plain_.answer.text;
  int64_t stopped = 0;
  for (size_t at = 0; at + 3 <= text.size(); at += 5) {
    GenerationOptions options = options_;
    options.stop = {text.substr(at, 3)};
    const Told plain = ask(engine_, prompt_, options);
    stopped += plain.answer.finish_reason == "stop";
    expect_same(plain, ask(engine_, prompt_, forced(options, 9, right())));
  }
  EXPECT_GT(stopped, 3);
}

TEST_F(SpeculationTest, KeepsTheLengthLimit) {
  for (int64_t tokens = 0; tokens < 12; ++tokens) {
    const GenerationOptions options = plain_options(engine_, tokens);
    const Told plain = ask(engine_, prompt_, options),
               told = ask(engine_, prompt_, forced(options, 5, right()));
    expect_same(plain, told);
    EXPECT_EQ(told.answer.timings.generated_tokens, tokens);
  }
}

TEST_F(SpeculationTest, KeepsTheContextLimit) {
  const int64_t context = engine_.checkpoint().config().text.max_position_embeddings, left = 7;
  Prompt prompt;
  for (int64_t i = 0; i < context - left; ++i) prompt.ids.push_back(static_cast<int32_t>(10 + i % 5));
  prompt.positions = mrope_positions(prompt.ids, {}, engine_.checkpoint().config());
  const Told plain = ask(engine_, prompt, options_);
  EXPECT_EQ(plain.answer.timings.generated_tokens, left);
  const Told told = ask(engine_, prompt, forced(options_, 5, proposer(prompt, plain.answer.token_ids, 0)));
  expect_same(plain, told);
  EXPECT_EQ(told.answer.speculation.accepted, left - 2);
}

// The tokens of a small chunk are verified together all the same, and cancelling works between them.
TEST_F(SpeculationTest, KnowsChunksAndCancelling) {
  GenerationOptions options = forced(options_, 7, right());
  options.prefill_chunk = 1;
  const Told told = ask(engine_, prompt_, options);
  expect_same(plain_, told);
  EXPECT_EQ(told.answer.speculation.steps, 5);
  std::atomic<bool> cancel = false;
  Observer observer;
  observer.cancel = &cancel;
  observer.on_text = [&](std::string_view) { cancel = true; };
  const Answer cut = engine_.generate(prompt_, options, observer);
  EXPECT_EQ(cut.finish_reason, "cancelled");
  EXPECT_LT(cut.token_ids.size(), 40u);
  EXPECT_TRUE(std::equal(cut.token_ids.begin(), cut.token_ids.end(), plain_.answer.token_ids.begin()));
}

TEST_F(SpeculationTest, LeavesWhoCountsRowsAlone) {
  struct Counter : LayerObserver {
    int64_t rows = 0;
    void attended(ModelPart, int64_t, const AttentionProblem&) override {}
    void finished(ModelPart part, int64_t layer, const float*, int64_t count, int64_t) override {
      if (part == ModelPart::text && layer == 0) rows += count;
    }
  } counter;
  Observer observer;
  observer.layers = &counter;
  GenerationOptions automatic = options_;
  automatic.prompt_lookup_num_tokens.reset();
  const Answer watched = engine_.generate(prompt_, automatic, observer);
  EXPECT_EQ(watched.token_ids, plain_.answer.token_ids);
  EXPECT_EQ(counter.rows, static_cast<int64_t>(prompt_.ids.size()) + 39);
  EXPECT_THROW(engine_.generate(prompt_, forced(options_, 3), observer), Error);

  EngineOptions guarded;
  guarded.guard.mode = GuardMode::warn;
  const Engine guard = engine_.with(guarded);
  const Answer counted = guard.generate(prompt_, automatic, {});
  EXPECT_EQ(counted.speculation.proposed, 0);
  EXPECT_EQ(counted.guard.text, guard.generate(prompt_, options_, {}).guard.text);
  EXPECT_THROW(guard.generate(prompt_, forced(options_, 3), {}), Error);

  GenerationOptions uncached = automatic;
  uncached.use_kv_cache = false;
  uncached.max_new_tokens = 3;
  EXPECT_EQ(engine_.generate(prompt_, uncached, {}).speculation.proposed, 0);
  uncached.prompt_lookup_num_tokens = 3;
  EXPECT_THROW(engine_.generate(prompt_, uncached, {}), Error);
  EXPECT_THROW(engine_.generate(prompt_, forced(options_, -1), {}), Error);
}

// A copy of the golden whose head is not its embedding, with an infinite embedding of token `id`.
class InfiniteToken {
 public:
  explicit InfiniteToken(int32_t id) {
    std::string pattern = (fs::temp_directory_path() / "fovea-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) std::abort();
    folder_ = pattern;
    for (const auto& entry : fs::directory_iterator(kGoldens / "video_and_images")) {
      if (entry.is_regular_file()) fs::copy_file(entry.path(), folder_ / entry.path().filename());
    }
    const SafetensorsFile stored = SafetensorsFile::open(folder_ / "model.safetensors");
    const StoredTensor& last = stored.tensors().back();
    for (const StoredTensor& tensor : stored.tensors()) {
      if (!tensor.name.ends_with("embed_tokens.weight")) continue;
      const std::vector<uint16_t> row(static_cast<size_t>(tensor.shape.at(1)), 0x7f80);  // bf16
      std::fstream file(folder_ / "model.safetensors", std::ios::binary | std::ios::in | std::ios::out);
      file.seekp(stored.bytes() - (last.offset + last.bytes) + tensor.offset + id * std::ssize(row) * 2);
      file.write(reinterpret_cast<const char*>(row.data()), std::ssize(row) * 2);
    }
  }
  InfiniteToken(const InfiniteToken&) = delete;
  ~InfiniteToken() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  const fs::path& folder() const { return folder_; }

 private:
  fs::path folder_;
};

// A proposal that breaks the model must not break an answer that never takes it.
TEST(Speculation, SurvivesProposalsThatAreNotFinite) {
  constexpr int32_t kBroken = 7;
  const InfiniteToken model(kBroken);
  const Engine engine = Engine::open(model.folder(), {}, {});
  const Prompt prompt = prompt_of(engine, "hello", false);
  const Told plain = ask(engine, prompt, plain_options(engine, 12));
  ASSERT_EQ(std::count(plain.answer.token_ids.begin(), plain.answer.token_ids.end(), kBroken), 0);
  int64_t proposed = 0;
  const auto broken = [&](std::span<const int32_t>, int64_t) {
    return ++proposed % 2 == 0 ? std::vector<int32_t>{} : std::vector<int32_t>{kBroken};
  };
  const Told told = ask(engine, prompt, forced(plain_options(engine, 12), 3, broken));
  expect_same(plain, told);
  EXPECT_GT(proposed, 5);
  EXPECT_EQ(told.answer.speculation.steps, 0);
  Prompt control = prompt_of(engine, "hello", false);
  control.ids.back() = kBroken;
  EXPECT_THROW(engine.generate(control, plain_options(engine, 1), {}), Error) << "positive control";
}

// Where the answer repeats itself, lookup finds it.
TEST(Speculation, IsAcceptedOnTextThatRepeatsItself) {
  const Engine engine = Engine::open(kOneImage, {}, {});
  const Prompt prompt = prompt_of(engine, kRepeats);
  GenerationOptions options = plain_options(engine, 80);
  const Told plain = ask(engine, prompt, options), told = ask(engine, prompt, forced(options, 5));
  expect_same(plain, told);
  EXPECT_GT(told.answer.speculation.accepted, 0);
}

}  // namespace
}  // namespace fovea
