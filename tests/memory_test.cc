// Goal: the sizes that plans are made of are the sizes that are allocated, and budgets of memory change no
// result. Method: towers of the demo model alone, what malloc says is in use while their last layer ends;
// equality of embeddings.
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "media/token_budget.h"
#include "model/decoder.h"
#include "model/vision_tower.h"
#include "runtime/engine.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = FOVEA_SOURCE_DIR;
const fs::path kDemo = kSource / "models" / "fovea-demo",
               kGolden = kSource / "tests" / "golden" / "two_videos";

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kMallocTells = false;  // the sanitizer's allocator keeps no such statistics
#else
constexpr bool kMallocTells = true;
#endif

int64_t in_use() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
}

EngineOptions options_of(AttentionKind kind) {
  EngineOptions options;
  options.attention = options.vision_attention = kind;
  return options;
}

// Each buffer may be a page larger than asked for; towers hold fewer than this many.
constexpr int64_t kRounding = 32 * 4096;
// Small blocks of others that end in between.
constexpr int64_t kFreedMeanwhile = 4096;

TEST(Memory, VisionTowerHoldsWhatItsFormulaSays) {
  if (!kMallocTells) GTEST_SKIP() << "needs glibc's malloc";
  for (const AttentionKind kind : {AttentionKind::flash_attention_2, AttentionKind::eager}) {
    const Engine engine = Engine::open(kDemo, options_of(kind), {});
    const WeightStore store(engine.checkpoint());
    const VisionTower tower(store, engine.precision().vision);
    const VisionConfig& config = engine.checkpoint().config().vision;
    for (const Grid& grid : {Grid{1, 40, 60}, Grid{1, 60, 70}, Grid{3, 30, 50}}) {
      std::vector<float> patches(static_cast<size_t>(grid.patches() * config.patch_dim()), 0.25f);
      int64_t held = 0;
      ForwardHooks hooks;
      hooks.after_layer = [&] { held = in_use(); };
      const int64_t before = in_use();
      static_cast<void>(tower.encode(patches.data(), grid, hooks));
      const CallMemory memory = VisionTower::memory(config, engine.precision().vision, grid, false);
      // The thread keeps the scratch of the largest projection so far: this call's, or that of a larger grid
      // before.
      EXPECT_GE(held - before, memory.activations - kFreedMeanwhile);
      EXPECT_LE(held - before, memory.activations + memory.products + kRounding);
      EXPECT_GT(memory.merging, memory.activations / 2);
    }
  }
}

TEST(Memory, DecoderAndCacheHoldWhatTheirFormulasSay) {
  if (!kMallocTells) GTEST_SKIP() << "needs glibc's malloc";
  for (const char* policy :
       {"dtype=bf16", "preset=eager-bf16", "text.bias_split=on", "dtype=fp32",
        "text.k_cache=int8,text.v_cache=int8,text.bias_split=on", "preset=balanced", "preset=fast"}) {
    EngineOptions options;
    options.policy = PrecisionPolicy::parse_text(policy);
    const Engine engine = Engine::open(kDemo, options, {});
    const WeightStore store(engine.checkpoint());
    const Decoder decoder(store, engine.precision().text, engine.precision().logits);
    const TextConfig& config = engine.checkpoint().config().text;
    KvCache cache(config, 700, engine.precision().text.layers);
    EXPECT_EQ(KvCache::state_for(config, 700, engine.precision().text.layers).bytes, cache.state().bytes)
        << policy;
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) static_cast<void>(cache.use(i, 0, 700));
    constexpr int64_t kRows = 600;
    std::vector<float> hidden(static_cast<size_t>(kRows * config.hidden_size), 0.1f);
    std::vector<int64_t> places(kRows);
    std::iota(places.begin(), places.end(), 0);
    int64_t held = 0;
    DecoderScratch scratch;
    PassHooks hooks;
    hooks.after_layer = [&] { held = in_use(); };
    const int64_t before = in_use();
    Segment segment{&cache, kRows, {places, places, places}};
    decoder.forward(hidden.data(), {&segment, 1}, scratch, hooks);
    const CallMemory memory = Decoder::memory(config, engine.precision().text, kRows, kRows, false);
    // The caller keeps the scratch of flash and sdpa, the thread that of projections, perhaps from before.
    EXPECT_GE(held - before, memory.activations - kFreedMeanwhile) << policy;
    EXPECT_LE(held - before, memory.activations + memory.attention + memory.products + kRounding) << policy;
  }
}

TEST(Memory, FrameGroupsAtOnceChangeNothing) {
  const std::string video = (kSource / "tests" / "data" / "media" / "video_25fps.mp4").string();
  for (const AttentionKind kind :
       {AttentionKind::flash_attention_2, AttentionKind::sdpa, AttentionKind::eager}) {
    EngineOptions options = options_of(kind);
    const Engine together = Engine::open(kGolden, options, {});
    options.vision_budget_bytes = 1;
    const Engine apart = together.with(options);
    const Prompt prompt =
        together.prepare(messages_from_prompt("What happens?", {}, {video}, std::nullopt), {}, false);
    ASSERT_EQ(prompt.pictures.at(0).grid.t, 3);
    int64_t steps = 0;
    Observer observer;
    observer.progress = [&](std::string_view, int64_t, int64_t total) { steps = total; };
    const Buffer<float> a = together.encode(prompt, observer);
    const int64_t blocks = steps;
    const Buffer<float> b = apart.encode(prompt, observer);
    EXPECT_EQ(steps, 3 * blocks);  // three calls of the tower in place of one
    ASSERT_EQ(a.size(), b.size());
    EXPECT_TRUE(std::equal(a.span().begin(), a.span().end(), b.span().begin())) << name_of(kind);
  }
}

TEST(Memory, ABudgetDecidesHowManyFrameGroups) {
  const Engine engine = Engine::open(kDemo, {}, {});
  const VisionConfig& config = engine.checkpoint().config().vision;
  const LayeredPrecision& vision = engine.precision().vision;
  const Grid grid{20, 30, 40};
  for (const int64_t groups : {1, 2, 7, 19, 20}) {
    const int64_t bytes = VisionTower::memory(config, vision, {groups, 30, 40}, false).peak();
    EXPECT_EQ(frame_groups_at_once(config, vision, grid, bytes, false), groups);
  }
  EXPECT_EQ(frame_groups_at_once(config, vision, grid, 1, false), 1);
  EXPECT_EQ(frame_groups_at_once(config, vision, grid, int64_t{1} << 50, false), 20);
}

}  // namespace
}  // namespace fovea
