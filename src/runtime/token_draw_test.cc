// Goal: a draw that does not sort gives the id of the one that does, also where a goal falls on the edge
// between two ids. Method: top_p and the random number are chosen as the very quotients that put it there, so
// that the last bit of a sum decides; the reference sorts.
#include "runtime/token_draw.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "runtime/sampler_reference_testing.h"

namespace fovea {
namespace {

class Numbers : public SplitMix64 {
 public:
  using SplitMix64::SplitMix64;
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
};

int32_t draw(std::span<const float> logits, const SamplingOptions& options, double random) {
  LogitBlocks blocks;
  blocks.read(logits);
  return TokenDraw(options.temperature, options.top_k, options.top_p).draw(blocks, random);
}

// A head of a few ids with most of the mass and a tail that is too long to be sorted at once.
std::vector<float> head_and_tail(Numbers& numbers, size_t head, size_t ids) {
  std::vector<float> logits(ids);
  for (float& logit : logits) logit = static_cast<float>(numbers.uniform() * 8 - 18);
  for (size_t i = 0; i < head; ++i) {
    logits[numbers.bits() % ids] = static_cast<float>(numbers.uniform() * 3);
  }
  return logits;
}

// Edges and places beside them, on either side of where a sum in another order leaves doubt (some 2^-36.5).
TEST(TokenDraw, EdgesAreDecidedByTheDefinition) {
  constexpr size_t kHead = 12;
  for (uint64_t seed = 0; seed < 15; ++seed) {
    Numbers numbers(seed);
    const auto logits = head_and_tail(numbers, kHead, 2500 + seed);
    const auto [order, mass, total] = sorted_masses(logits, 1, 0);
    double sum = 0;
    for (size_t i = 0; i < kHead; ++i) {
      sum += mass[i];
      for (const double beside : {0.0, -0x1p-38, 0x1p-38, -0x1p-35, 0x1p-35}) {
        const double part = std::min(sum / total * (1 + beside), 1 - 0x1p-53), nearly = 1 - 0x1p-30;
        SamplingOptions options = {.greedy = false, .top_k = 0, .top_p = part};
        EXPECT_EQ(draw(logits, options, nearly), reference_draw(logits, options, nearly))
            << "seed " << seed << ", top_p up to " << i << ", beside it " << beside;
        options.top_p = 1;
        EXPECT_EQ(draw(logits, options, part), reference_draw(logits, options, part))
            << "seed " << seed << ", drawn at " << i << ", beside it " << beside;
      }
    }
  }
}

TEST(TokenDraw, TheEndsOfTheRandomNumbersAndOfTopP) {
  Numbers numbers(1);
  const auto scattered = head_and_tail(numbers, 5, 4000);
  for (const auto& logits : {scattered, std::vector<float>(4000, -3.f), std::vector<float>{2.f}}) {
    for (const double random : {0.0, 0x1p-53, 0.5, 1 - 0x1p-53}) {
      for (const double top_p : {0.0, 1e-300, 0.5, 1 - 0x1p-53, 1.0}) {
        for (const double temperature : {1e-310, 1e-6, 1.0, 1e6, 1e308}) {
          const SamplingOptions options = {
              .greedy = false, .temperature = temperature, .top_k = 0, .top_p = top_p};
          EXPECT_EQ(draw(logits, options, random), reference_draw(logits, options, random))
              << logits.size() << " ids, random " << random << ", top_p " << top_p << ", temperature "
              << temperature;
        }
      }
    }
  }
}

}  // namespace
}  // namespace fovea
