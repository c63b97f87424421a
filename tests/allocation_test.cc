// Goal: once a request decodes, a step allocates nothing, neither a plain one nor one that verifies
// proposals. Method: operator new and aligned_alloc count; the count at one token of an answer equals that
// ten tokens later.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <new>

#include "runtime/engine.h"

namespace {

std::atomic<int64_t> allocations = 0;

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
  if (void* memory = counted(alignof(std::max_align_t), bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
extern "C" void* aligned_alloc(size_t alignment, size_t bytes) { return counted(alignment, bytes); }

namespace fovea {
namespace {

namespace fs = std::filesystem;

// The count of allocations when each piece of the answer is shown.
std::vector<int64_t> counts(const char* policy, int64_t proposals) {
  EngineOptions opened;
  opened.policy = PrecisionPolicy::parse_text(policy);
  const Engine engine =
      Engine::open(fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden" / "one_image", opened, {});
  const Prompt prompt = engine.prepare(messages_from_prompt("one two, one two", {}, {}, {}), {}, false);
  GenerationOptions options = engine.default_generation();
  options.sampling = {.greedy = true};
  options.ignore_eos = true;
  options.max_new_tokens = 60;
  options.prompt_lookup_num_tokens = proposals;
  std::vector<int64_t> seen;
  seen.reserve(static_cast<size_t>(options.max_new_tokens));
  Observer observer;
  observer.on_text = [&](std::string_view) { seen.push_back(allocations); };
  const Answer answer = engine.generate(prompt, options, observer);
  EXPECT_EQ(answer.speculation.steps > 5, proposals > 0);
  return seen;
}

TEST(Allocation, ADecodeStepMakesNone) {
  for (const char* policy :
       {"preset=fp32", "preset=sdpa,dtype=fp32", "preset=flash-bf16", "preset=sdpa,dtype=bf16",
        "preset=balanced,dtype=bf16", "preset=fast,dtype=bf16"}) {
    for (const int64_t proposals : {0, 3}) {
      const std::vector<int64_t> seen = counts(policy, proposals);
      ASSERT_GE(seen.size(), 40u);
      EXPECT_GT(seen.front(), 100) << "positive control";
      EXPECT_EQ(seen[30], seen[20]) << policy << ", proposals " << proposals;
    }
  }
}

}  // namespace
}  // namespace fovea
