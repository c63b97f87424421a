// Goal: two engines at work in one process at the same time, each used by a thread of its own, give what each
// gives alone. Method: two golden checkpoints with different attention and precision, whole answers again and
// again on two threads; then two engines of one checkpoint that share its weights (Engine::with). Equality of
// tokens. Under ThreadSanitizer as well (the preset tsan).
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/batch_engine.h"
#include "runtime/engine.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

const fs::path kGoldens = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden";

// A question to an engine, and its answer when nothing else computes.
class Asked {
 public:
  Asked(const Engine& engine, const fs::path& model, const std::string& question)
      : engine_(engine),
        picture_((model / "inputs" / "image0.png").string()),
        question_(question),
        options_(engine.default_generation()) {
    options_.sampling.greedy = options_.ignore_eos = true;
    options_.max_new_tokens = 8;
    options_.prefill_chunk = 16;
    alone_ = tokens();
  }

  std::vector<int32_t> tokens() const { return engine_.generate(prompt(), options_, {}).token_ids; }
  std::vector<int32_t> tokens_of_a_batch() const {
    BatchLimits limits;
    limits.kv_cache_bytes = 64 * BatchEngine::block_bytes(engine_);
    BatchEngine batch(engine_, limits);
    std::vector<int32_t> found;
    for (int i = 0; i < 3; ++i) {
      RequestCallbacks callbacks;
      callbacks.on_answer = [&](Answer answer) { found = answer.token_ids; };
      batch.add(prompt(), options_, std::move(callbacks));
    }
    while (batch.step()) {
    }
    return found;
  }
  const std::vector<int32_t>& alone() const { return alone_; }

 private:
  Prompt prompt() const {
    return engine_.prepare(messages_from_prompt(question_, {picture_}, {}, {}), {}, false);
  }

  const Engine& engine_;
  std::string picture_, question_;
  GenerationOptions options_;
  std::vector<int32_t> alone_;
};

void work_together(const Asked& one, const Asked& other) {
  constexpr int kRounds = 4;
  int wrong = 0;
  std::thread second([&] {
    for (int i = 0; i < kRounds; ++i) wrong += other.tokens() != other.alone();
    wrong += other.tokens_of_a_batch() != other.alone();
  });
  for (int i = 0; i < kRounds; ++i) EXPECT_EQ(one.tokens(), one.alone());
  EXPECT_EQ(one.tokens_of_a_batch(), one.alone());
  second.join();
  EXPECT_EQ(wrong, 0);
}

EngineOptions with_attention(AttentionKind kind, DType dtype) {
  EngineOptions options;
  options.attention = options.vision_attention = kind;
  options.dtype = dtype;
  return options;
}

TEST(TwoEngines, OfTwoCheckpointsAtOnce) {
  const fs::path first = kGoldens / "one_image", second = kGoldens / "two_images";
  const Engine a = Engine::open(first, with_attention(AttentionKind::flash_attention_2, DType::bf16), {});
  const Engine b = Engine::open(second, with_attention(AttentionKind::eager, DType::f32), {});
  work_together({a, first, "What is this?"}, {b, second, "Which colour?"});
}

TEST(TwoEngines, OfOneCheckpointWithSharedWeights) {
  const fs::path model = kGoldens / "one_image";
  const Engine a = Engine::open(model, with_attention(AttentionKind::sdpa, DType::f32), {});
  EngineOptions quantized = with_attention(AttentionKind::flash_attention_2, DType::f32);
  quantized.policy = PrecisionPolicy::parse_text("text.quantization=w8a8");
  const Engine b = a.with(quantized);
  work_together({a, model, "What is this?"}, {b, model, "What is this?"});
}

}  // namespace
}  // namespace fovea
