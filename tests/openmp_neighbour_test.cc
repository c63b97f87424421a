// Goal: a program that uses OpenMP with a number of threads of its own, as torch does, and fovea do not see
// each other. Method: its number, its regions, its threads' cores and its environment before and after
// fovea's work; fovea's number and answers before and after the program's.
#include <gtest/gtest.h>
#include <omp.h>
#include <sched.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "runtime/engine.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

const fs::path kModel = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden" / "one_image";

std::vector<int32_t> answer(const Engine& engine) {
  GenerationOptions options = engine.default_generation();
  options.sampling.greedy = options.ignore_eos = true;
  options.max_new_tokens = 8;
  const Prompt prompt = engine.prepare(
      messages_from_prompt("What is this?", {(kModel / "inputs" / "image0.png").string()}, {}, {}), {},
      false);
  return engine.generate(prompt, options, {}).token_ids;
}

// What a region of the program's finds: how many threads, and how many cores each of them may use.
struct Region {
  int threads = 0;
  std::multiset<int> cores;
  friend bool operator==(const Region&, const Region&) = default;
};
Region region() {
  Region found;
#pragma omp parallel
  {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
#pragma omp critical
    {
      ++found.threads;
      found.cores.insert(CPU_COUNT(&set));
    }
  }
  return found;
}

TEST(OpenMpNeighbour, NeitherSeesTheOther) {
  const int own = threads();
  omp_set_num_threads(own + 1);
  EXPECT_EQ(threads(), own);
  omp_set_num_threads(3);
  const Region before = region();
  ASSERT_EQ(before.threads, 3);
  const Engine engine = Engine::open(kModel, {}, {});
  const std::vector<int32_t> first = answer(engine);
  EXPECT_EQ(omp_get_max_threads(), 3);
  EXPECT_EQ(region(), before);

  set_threads(2);
  EXPECT_EQ(answer(engine), first);
  EXPECT_EQ(omp_get_max_threads(), 3);
  EXPECT_EQ(region(), before);

  omp_set_num_threads(5);
  EXPECT_EQ(threads(), 2);
  EXPECT_EQ(region().threads, 5);
  EXPECT_EQ(answer(engine), first);
  EXPECT_EQ(threads(), 2);
}

// Each of the program's threads works with an engine of its own, inside a region.
TEST(OpenMpNeighbour, EnginesWithinARegion) {
  omp_set_num_threads(2);
  const Engine a = Engine::open(kModel, {}, {}), b = Engine::open(kModel, {}, {});
  const std::vector<int32_t> expected = answer(a);
  ASSERT_FALSE(expected.empty());
  std::vector<int32_t> found[2];
#pragma omp parallel num_threads(2)
  {
    const int self = omp_get_thread_num();
    found[self] = answer(self == 0 ? a : b);
  }
  EXPECT_EQ(found[0], expected);
  EXPECT_EQ(found[1], expected);
}

}  // namespace
}  // namespace fovea
