// Goal: drift is the relative error of the rows it names, whatever the order of chunks, also when rows are
// thinned out. Method: rows made up here, norms by hand.
#include "audit/layer_trace.h"

#include <gtest/gtest.h>

namespace fovea {
namespace {

std::vector<float> rows_of(int64_t count, int64_t width, float first) {
  std::vector<float> values;
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t i = 0; i < width; ++i) values.push_back(first + static_cast<float>(r));
  }
  return values;
}

TEST(ReferenceRows, ComparesEveryRowWhenAllFit) {
  constexpr int64_t kRows = 10, kWidth = 4;
  ReferenceRows reference;
  reference.prepare(kRows, kWidth, 8, 1 << 20);
  const auto values = rows_of(kRows, kWidth, 1);
  reference.keep(0, values.data(), 6);
  reference.keep(6, values.data() + 6 * kWidth, 4);
  ErrorSum all, answer;
  reference.compare(0, values.data(), kRows, all, answer);
  EXPECT_EQ(all.relative(), 0);
  auto moved = values;
  for (size_t i = 0; i < moved.size(); ++i) moved[i] *= 1.5f;
  ErrorSum moved_all, moved_answer;
  reference.compare(0, moved.data(), 3, moved_all, moved_answer);
  reference.compare(3, moved.data() + 3 * kWidth, 7, moved_all, moved_answer);
  EXPECT_EQ(moved_all.relative(), 0.5);
  EXPECT_EQ(moved_answer.relative(), 0.5);
  EXPECT_EQ(moved_all.reference, kWidth * 385.0);            // 1 + 4 + ... + 100
  EXPECT_EQ(moved_answer.reference, kWidth * (81.0 + 100));  // rows 8 and 9
}

TEST(ReferenceRows, ThinsTheBeginningAndKeepsTheAnswer) {
  constexpr int64_t kRows = 1000, kWidth = 4, kBytes = 100 * kWidth * 4;
  ReferenceRows reference;
  reference.prepare(kRows, kWidth, 990, kBytes);
  const auto values = rows_of(kRows, kWidth, 1);
  reference.keep(0, values.data(), kRows);
  ErrorSum all, answer;
  for (int64_t r = 0; r < kRows; ++r) reference.compare(r, values.data() + r * kWidth, 1, all, answer);
  EXPECT_EQ(all.difference, 0);
  double answers = 0;
  for (double v = 991; v <= 1000; ++v) answers += v * v;
  EXPECT_EQ(answer.reference, kWidth * answers);
  EXPECT_GT(all.reference, answer.reference);
}

TEST(LayerSums, AddAndSurviveJson) {
  LayerSums a;
  a.part = ModelPart::text;
  a.layer = 2;
  a.hidden_all = {1, 4};
  a.heads = {{3, 1, 0, 7.5, 3, 0.3, 3, 0.1}, {3, 0, 0, 2, 3, 0.1, 2, std::nan("")}};
  LayerSums vision = a;
  vision.part = ModelPart::vision;
  std::vector<LayerSums> sums;
  add_layers(sums, {a, vision});
  add_layers(sums, {layer_sums_from(to_json(a))});
  ASSERT_EQ(sums.size(), 2u);
  EXPECT_EQ(sums[0].part, ModelPart::vision);
  EXPECT_EQ(sums[1].heads[0].rows, 6);
  EXPECT_EQ(sums[1].heads[0].kernel_error, 0.6);
  EXPECT_EQ(sums[1].heads[0].largest_score, 7.5);
  EXPECT_TRUE(std::isnan(sums[1].heads[1].predicted_error));
  EXPECT_EQ(sums[1].hidden_all.relative(), 0.5);
  EXPECT_EQ(ErrorSum().relative(), std::nullopt);
}

}  // namespace
}  // namespace fovea
