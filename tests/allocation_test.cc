// Goal: once a request decodes, a step allocates no memory for numbers, neither a plain one nor one that
// verifies proposals, greedy or drawn; what the scheduler writes its orders in is a few small pieces. Method:
// operator new and aligned_alloc count; between one token of an answer and that ten tokens later there is
// none for numbers and a bounded number of small ones. The model's vocabulary is small, so the sampler is
// also asked alone, with rows of a whole one: it allocates nothing.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <string>

#include "base/splitmix64.h"
#include "runtime/engine.h"

namespace {

std::atomic<int64_t> allocations = 0, of_numbers = 0;

void* counted(size_t alignment, size_t bytes) {
  ++allocations;
  void* memory = nullptr;
  if (posix_memalign(&memory, std::max(alignment, sizeof(void*)), std::max<size_t>(bytes, 1)) != 0)
    return nullptr;
  return memory;
}

}  // namespace

// Out of line: gcc 12 takes an inlined pair for a mismatched one.
[[gnu::noinline]] void* operator new(size_t bytes) {
  constexpr size_t kMostForOrders = 4096;
  if (bytes > kMostForOrders) ++of_numbers;
  if (void* memory = counted(alignof(std::max_align_t), bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
extern "C" void* aligned_alloc(size_t alignment, size_t bytes) {
  ++of_numbers;
  return counted(alignment, bytes);
}

namespace fovea {
namespace {

namespace fs = std::filesystem;

struct Counts {
  int64_t all, of_numbers;
};

// When each piece of the answer is shown, but for those of the answer's text, which doubles now and then: a
// string that takes the same pieces tells when.
std::vector<Counts> counts(const char* policy, int64_t proposals, const SamplingOptions& sampling) {
  EngineOptions opened;
  opened.policy = PrecisionPolicy::parse_text(policy);
  const Engine engine =
      Engine::open(fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden" / "one_image", opened, {});
  const Prompt prompt = engine.prepare(messages_from_prompt("one two, one two", {}, {}, {}), {}, false);
  GenerationOptions options = engine.default_generation();
  options.sampling = sampling;
  options.ignore_eos = true;
  options.max_new_tokens = 60;
  options.prompt_lookup_num_tokens = proposals;
  std::vector<Counts> seen;
  seen.reserve(static_cast<size_t>(options.max_new_tokens));
  Observer observer;
  std::string text;
  int64_t doublings = 0;
  observer.on_text = [&](std::string_view piece) {
    const size_t capacity = text.capacity();
    text += piece;
    if (text.capacity() != capacity) ++doublings;
    seen.push_back({allocations - 2 * doublings, ::of_numbers});
  };
  const Answer answer = engine.generate(prompt, options, observer);
  EXPECT_EQ(answer.speculation.steps > 5, proposals > 0);
  return seen;
}

void expect_small(const Counts& before, const Counts& after, int64_t tokens) {
  constexpr int64_t kPiecesOfAStep = 16;
  EXPECT_EQ(after.of_numbers, before.of_numbers);
  EXPECT_LE(after.all - before.all, tokens * kPiecesOfAStep);
}

TEST(Allocation, ADecodeStepMakesNoneForNumbers) {
  for (const char* policy :
       {"preset=fp32", "preset=sdpa,dtype=fp32", "preset=flash-bf16", "preset=sdpa,dtype=bf16",
        "preset=balanced,dtype=bf16", "preset=fast,dtype=bf16"}) {
    for (const int64_t proposals : {0, 3}) {
      SCOPED_TRACE(fmt::format("{}, proposals {}", policy, proposals));
      const std::vector<Counts> seen = counts(policy, proposals, {.greedy = true});
      ASSERT_GE(seen.size(), 40u);
      EXPECT_GT(seen.front().all, 100) << "positive control";
      EXPECT_GT(seen.front().of_numbers, 10) << "positive control";
      expect_small(seen[20], seen[30], 10);
    }
  }
}

// As published with Qwen2.5-VL 3B and 7B (generation_config.json: first temperature 0.1, later 1e-6, with
// top_k 1 and top_p 0.001), what remains of them where a folder states no top_k, the defaults of Qwen2.5's
// text models, and what a client of OpenAI's API gets.
const SamplingOptions kPublished[] = {
    {.greedy = false, .temperature = 0.1, .top_k = 1, .top_p = 0.001, .repetition_penalty = 1.05, .seed = 1},
    {.greedy = false, .temperature = 1e-6, .top_k = 1, .top_p = 0.001, .repetition_penalty = 1.05, .seed = 2},
    {.greedy = false, .temperature = 1e-6, .top_k = 50, .repetition_penalty = 1.05, .seed = 3},
    {.greedy = false, .temperature = 0.7, .top_k = 20, .top_p = 0.8, .repetition_penalty = 1.05, .seed = 4},
    {.greedy = false, .temperature = 1, .top_k = 0, .top_p = 1, .seed = 5},
    {.greedy = false, .temperature = 1, .top_k = 0, .top_p = 0.9, .seed = 6, .no_repeat_ngram_size = 3}};

// Without proposals: what is drawn repeats itself so seldom that the longest proposal may come late.
TEST(Allocation, ADecodeStepThatSamplesMakesNoneForNumbers) {
  for (const SamplingOptions& sampling : kPublished) {
    SCOPED_TRACE(fmt::format("seed {}", sampling.seed));
    const std::vector<Counts> seen = counts("preset=fp32", 0, sampling);
    ASSERT_GE(seen.size(), 31u);
    expect_small(seen[20], seen[30], 10);
  }
}

TEST(Allocation, ASamplerOfAWholeVocabularyMakesNoneAfterItsFirstTokens) {
  constexpr size_t kVocab = 151936, kTokens = 12;
  SplitMix64 random(1);
  std::vector<std::vector<float>> rows(kTokens, std::vector<float>(kVocab));
  for (auto& row : rows) {
    for (float& logit : row) {
      // The logarithm of a number from (0, 1] falls off as the likely tokens of a model do.
      logit = -2 * std::log(static_cast<float>(random.bits() >> 40) * 0x1p-24f + 0x1p-24f);
    }
  }
  for (const SamplingOptions& sampling : kPublished) {
    const int64_t before = allocations;
    Sampler sampler(sampling);
    std::vector<int32_t> history(4000);
    for (int32_t& id : history) id = static_cast<int32_t>(random.bits() % kVocab);
    history.reserve(history.size() + kTokens);
    int64_t settled = 0;
    for (size_t token = 0; token < kTokens; ++token) {
      history.push_back(sampler.next(rows[token], history));
      if (token == 2) settled = allocations;
    }
    EXPECT_GT(settled, before + 1) << "positive control";
    EXPECT_EQ(allocations, settled) << "seed " << sampling.seed;
  }
}

}  // namespace
}  // namespace fovea
