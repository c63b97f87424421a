// Goal: the index finds what a search through all tokens finds, announces no placeholder, and continues
// periods. Method: random tokens of a small alphabet against that search; equality.
#include "runtime/prompt_lookup.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/splitmix64.h"

namespace fovea {
namespace {

constexpr int32_t kPad = 7;

std::vector<int32_t> announced(const PromptLookup& lookup, int64_t most) {
  std::vector<int32_t> ids{1, 2, 3};  // contents are replaced
  lookup.announce(most, ids);
  return ids;
}

struct Found {
  int64_t length = 0;
  size_t behind = 0;
};

// The longest n-gram without placeholder at the end, at its latest earlier place that a word follows.
Found search(const std::vector<int32_t>& ids) {
  for (size_t n = PromptLookup::kLongest; n >= PromptLookup::kShortest; --n) {
    if (ids.size() < n || std::count(ids.end() - static_cast<ptrdiff_t>(n), ids.end(), kPad) > 0) continue;
    for (size_t end = ids.size() - 1; end >= n; --end) {
      if (!std::equal(ids.end() - static_cast<ptrdiff_t>(n), ids.end(),
                      ids.begin() + static_cast<ptrdiff_t>(end - n)))
        continue;
      if (ids[end] == kPad) break;  // only the latest place counts
      return {static_cast<int64_t>(n), end};
    }
  }
  return {};
}

TEST(PromptLookup, FindsWhatASearchFinds) {
  SplitMix64 random(5);
  for (const uint64_t alphabet : {2u, 4u, 8u, 40u}) {
    PromptLookup lookup(600, {kPad});
    std::vector<int32_t> ids;
    while (ids.size() < 600) {
      for (uint64_t i = 0; i <= random.bits() % 3 && ids.size() < 600; ++i)
        ids.push_back(static_cast<int32_t>(random.bits() % alphabet));
      lookup.extend(ids);
      const Found found = search(ids);
      ASSERT_EQ(lookup.match(), found.length) << ids.size();
      std::vector<int32_t> expected, copy = ids;
      for (size_t i = found.behind; found.length > 0 && expected.size() < 9 && copy[i] != kPad; ++i) {
        expected.push_back(copy[i]);
        copy.push_back(copy[i]);
      }
      ASSERT_EQ(announced(lookup, 9), expected) << ids.size();
      if (found.length > 0) {
        ASSERT_EQ(lookup.next(), expected[0]);
      }
    }
  }
}

TEST(PromptLookup, PrefersTheLongestAndThenTheLatest) {
  PromptLookup lookup(64, {kPad});
  std::vector<int32_t> ids{1, 2, 3, 10, 2, 3, 11, 1, 2, 3};
  lookup.extend(ids);
  EXPECT_EQ(lookup.match(), 3);
  EXPECT_EQ(announced(lookup, 2), (std::vector<int32_t>{10, 2}));
  ids = {1, 2, 10, 1, 2, 11, 1, 2};
  PromptLookup other(64, {kPad});
  other.extend(ids);
  EXPECT_EQ(other.match(), 2);
  EXPECT_EQ(announced(other, 1), (std::vector<int32_t>{11}));
}

TEST(PromptLookup, ContinuesAPeriod) {
  PromptLookup lookup(64, {kPad});
  lookup.extend(std::vector<int32_t>{4, 5, 6, 4, 5, 6});
  EXPECT_EQ(announced(lookup, 7), (std::vector<int32_t>{4, 5, 6, 4, 5, 6, 4}));
}

TEST(PromptLookup, NeverAnnouncesAPlaceholderNorMatchesOne) {
  PromptLookup lookup(64, {kPad});
  lookup.extend(std::vector<int32_t>{1, 2, 3, kPad, kPad, 9, 1, 2});
  EXPECT_EQ(announced(lookup, 5), (std::vector<int32_t>{3}));
  lookup.extend(std::vector<int32_t>{1, 2, 3, kPad, kPad, 9, 1, 2, 3});
  EXPECT_EQ(lookup.match(), 0);
  lookup.extend(std::vector<int32_t>{1, 2, 3, kPad, kPad, 9, 1, 2, 3, kPad, kPad});
  EXPECT_EQ(lookup.match(), 0);
  EXPECT_EQ(announced(lookup, 5), std::vector<int32_t>());
}

}  // namespace
}  // namespace fovea
