// Goal: an answer ends at the first stop string and never shows part of one. Method: every way of cutting a
// text in three pieces gives the same result.
#include "runtime/stop_strings.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace fovea {
namespace {

std::string shown(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopStrings filter(stops);
  std::string result;
  for (const std::string& piece : pieces) result += filter.push(piece);
  return result + filter.finish();
}

TEST(StopStrings, AnyCutGivesTheSameText) {
  const std::string text = "one STO two STOP three";
  for (size_t a = 0; a <= text.size(); ++a) {
    for (size_t b = a; b <= text.size(); ++b) {
      const std::vector<std::string> pieces = {text.substr(0, a), text.substr(a, b - a), text.substr(b)};
      EXPECT_EQ(shown({"STOP"}, pieces), "one STO two ");
      EXPECT_EQ(shown({"STOP", "two"}, pieces), "one STO ");
      EXPECT_EQ(shown({"absent"}, pieces), text);
    }
  }
}

TEST(StopStrings, HoldsBackOnlyWhatCouldBecomeAStop) {
  StopStrings filter({"\n\n"});
  EXPECT_EQ(filter.push("a\n"), "a");
  EXPECT_EQ(filter.push("b"), "\nb");
  EXPECT_FALSE(filter.stopped());
  EXPECT_EQ(filter.push("\n"), "");
  EXPECT_EQ(filter.push("\nc"), "");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.finish(), "");
}

TEST(StopStrings, EmptyIsRefused) { EXPECT_THROW(StopStrings({""}), Error); }

}  // namespace
}  // namespace fovea
