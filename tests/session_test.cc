// Goal: a session gives, bit for bit, what separate runs give: the free answer of Engine::generate, and along
// given tokens the logits of Engine::evaluate over prompt and tokens. Method: the golden checkpoints;
// equality.
#include "runtime/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

namespace fovea {
namespace {

namespace fs = std::filesystem;

const fs::path kModel = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden" / "one_image";

class SessionTest : public testing::Test {
 protected:
  SessionTest()
      : engine_(Engine::open(kModel, {}, {})),
        prompt_(engine_.prepare(
            messages_from_prompt("What is this?", {(kModel / "inputs" / "image0.png").string()}, {}, {}), {},
            false)),
        vision_(engine_.encode(prompt_, {})),
        options_(engine_.default_generation()) {
    options_.sampling.greedy = true;
    options_.max_new_tokens = 12;
    options_.prefill_chunk = 16;
  }

  // Logits at the positions behind prompt + tokens[0, i), from one run over everything.
  std::vector<std::vector<float>> logits_of_whole_run(const std::vector<int32_t>& tokens) const {
    Prompt whole = engine_.prepare(
        messages_from_prompt("What is this?", {(kModel / "inputs" / "image0.png").string()}, {}, {}), {},
        false);
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
      whole.ids.push_back(tokens[i]);
      for (auto& axis : whole.positions.axis) axis.push_back(whole.positions.next);
      ++whole.positions.next;
    }
    const Evaluation all = engine_.evaluate(whole, 0, {});
    const int64_t vocab = engine_.checkpoint().config().text.vocab_size;
    std::vector<std::vector<float>> rows;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const float* row = all.logits.data() + (static_cast<int64_t>(prompt_.ids.size() + i) - 1) * vocab;
      rows.emplace_back(row, row + vocab);
    }
    return rows;
  }
  void expect_forced(Session& session, const std::vector<int32_t>& tokens) const {
    const Buffer<float> forced = session.forced_logits(tokens);
    const auto whole = logits_of_whole_run(tokens);
    const int64_t vocab = engine_.checkpoint().config().text.vocab_size;
    ASSERT_EQ(forced.size(), static_cast<int64_t>(tokens.size()) * vocab);
    for (size_t i = 0; i < tokens.size(); ++i) {
      const float* row = forced.data() + static_cast<int64_t>(i) * vocab;
      EXPECT_TRUE(std::equal(whole[i].begin(), whole[i].end(), row)) << "row " << i;
    }
  }

  Engine engine_;
  Prompt prompt_;
  Buffer<float> vision_;
  GenerationOptions options_;
};

TEST_F(SessionTest, TheFreeAnswerIsThatOfGenerate) {
  const Answer answer = engine_.generate(prompt_, options_, {});
  Session session(engine_, prompt_, vision_, options_, {});
  int64_t rows = 0;
  const auto tokens = session.continue_greedily({}, [&](std::span<const float>) { ++rows; });
  EXPECT_EQ(tokens, answer.token_ids);
  EXPECT_EQ(rows, static_cast<int64_t>(tokens.size()));
  EXPECT_EQ(session.text(tokens), answer.text);
}

// The time that a decode rate divides by is that of every token behind the first, also of the one that ends
// the answer.
TEST_F(SessionTest, DecodingIsTimedToItsLastToken) {
  struct Slow : LayerObserver {
    void attended(ModelPart, int64_t, const AttentionProblem&) override {}
    void finished(ModelPart part, int64_t, const float*, int64_t rows, int64_t) override {
      if (part == ModelPart::text && rows == 1) std::this_thread::sleep_for(kLayer);
    }
    const std::chrono::milliseconds kLayer{30};
  } slow;
  Observer observer;
  observer.layers = &slow;
  const std::vector<int32_t> ids = engine_.generate(prompt_, options_, {}).token_ids;
  const auto other = std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return id != ids[0]; });
  ASSERT_NE(other, ids.end());
  options_.eos_token_ids = {*other};
  const Answer answer = engine_.generate(prompt_, options_, observer);
  const auto decoded = other - ids.begin();
  ASSERT_EQ(std::ssize(answer.token_ids), decoded + 1);
  EXPECT_EQ(answer.finish_reason, "stop");
  const int64_t layers = engine_.checkpoint().config().text.num_hidden_layers;
  EXPECT_GE(answer.timings.decode_s, 0.030 * static_cast<double>(layers * decoded));
  options_.eos_token_ids = {ids[0]};
  EXPECT_EQ(engine_.generate(prompt_, options_, observer).timings.decode_s, 0);
}

TEST_F(SessionTest, ForcedLogitsAreThoseOfOneRunWhateverCameBefore) {
  const std::vector<int32_t> one = {5, 9, 11, 3}, other = {5, 9, 2, 2, 7};
  Session session(engine_, prompt_, vision_, options_, {});
  expect_forced(session, one);
  expect_forced(session, other);
  const auto free = session.continue_greedily({}, {});
  expect_forced(session, one);
  expect_forced(session, free);
  EXPECT_EQ(session.forced_logits({}).size(), 0);
}

TEST_F(SessionTest, ContinuesBehindAnyBeginning) {
  const Answer answer = engine_.generate(prompt_, options_, {});
  ASSERT_GE(answer.token_ids.size(), 4u);
  Session session(engine_, prompt_, vision_, options_, {});
  session.forced_logits(std::vector<int32_t>{answer.token_ids[0], answer.token_ids[1], 2, 3});
  const std::vector<int32_t> begin(answer.token_ids.begin(), answer.token_ids.begin() + 2);
  EXPECT_EQ(session.continue_greedily(begin, {}), answer.token_ids);
  EXPECT_EQ(session.continue_greedily(answer.token_ids, {}), answer.token_ids);
}

TEST_F(SessionTest, EndsAtEndTokenStopStringAndLimit) {
  Session session(engine_, prompt_, vision_, options_, {});
  const auto end = static_cast<int32_t>(options_.eos_token_ids.at(0));
  EXPECT_FALSE(session.ended({}));
  EXPECT_TRUE(session.ended(std::vector<int32_t>{5, end}));
  EXPECT_TRUE(session.ended(std::vector<int32_t>(12, 5)));
  GenerationOptions stopping = options_;
  const Answer answer = engine_.generate(prompt_, options_, {});
  Session plain(engine_, prompt_, vision_, options_, {});
  stopping.stop = {plain.text(std::vector<int32_t>(answer.token_ids.begin(), answer.token_ids.begin() + 1))};
  ASSERT_FALSE(stopping.stop[0].empty());
  Session stopped(engine_, prompt_, vision_, stopping, {});
  EXPECT_EQ(stopped.continue_greedily({}, {}), engine_.generate(prompt_, stopping, {}).token_ids);
}

}  // namespace
}  // namespace fovea
