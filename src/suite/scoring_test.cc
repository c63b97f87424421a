// Goal: an answer is judged as the rules in scoring.h say, on the forms that models write. Method: tables of
// answer, expected answer and verdict, worked out by hand from the rules.
#include "suite/scoring.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace fovea {
namespace {

struct Case {
  const char *answer, *expected;
  bool right;
};

void expect_all(MatchRule rule, const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    EXPECT_EQ(is_right(c.answer, {c.expected}, rule), c.right)
        << name_of(rule) << ": \"" << c.answer << "\" against \"" << c.expected << "\"";
  }
}

TEST(Scoring, Exact) {
  expect_all(MatchRule::exact,
             {{"7", "7", true}, {"7 ", "7", false}, {"Red", "red", false}, {"", "7", false}});
}

TEST(Scoring, Normalized) {
  expect_all(MatchRule::normalized, {{" Red.\n", "red", true},
                                     {"the  red\t fox", "The red fox", true},
                                     {"\"7\"", "7", true},
                                     {"**7**", "7", true},
                                     {"“Zürich”", "zürich", true},
                                     {"Zu\u0308rich", "Z\u00fcrich", true},  // composed and decomposed
                                     {"ÉTÉ", "été", false},                  // only ASCII is folded
                                     {"-7", "7", false},
                                     {"50%", "50", false},
                                     {".5", "5", false},
                                     {"red fox", "redfox", false},
                                     {"seven 7", "7", false},
                                     {"...", "!", false},
                                     {"!", "!", true},
                                     {"", "!", false},
                                     {" \n", " ", false}});
}

TEST(Scoring, Choice) {
  expect_all(MatchRule::choice, {{"B", "B", true},
                                 {"(B)", "B", true},
                                 {"b.", "B", true},
                                 {"The answer is C) seven", "c", true},
                                 {"I think it is B", "B", true},
                                 {"a cat, so b", "B", true},
                                 {"A", "A", true},
                                 {"a", "A", true},
                                 {"A because it is red", "A", true},
                                 {"I", "I", true},
                                 {"Banana", "B", false},
                                 {"it's D'", "D", false},
                                 {"B2", "B", false},
                                 {"7", "B", false},
                                 {"", "B", false}});
}

TEST(Scoring, Number) {
  expect_all(MatchRule::number, {{"7", "7.0", true},
                                 {"There are 1,234 cats.", "1234", true},
                                 {"7 + 5 = 12", "12", true},
                                 {"-3.50", "-3.5", true},
                                 {"−3", "-3", true},
                                 {"3-4", "4", true},
                                 {"007", "7", true},
                                 {"-0", "0", true},
                                 {".5", "0.50", true},
                                 {"1.2e3", "1200", true},
                                 {"12e-1", "1.2", true},
                                 {"1,2,3", "3", true},
                                 {"12,34", "34", true},
                                 {"$7.", "7", true},
                                 {"17", "7", false},
                                 {"7", "-7", false},
                                 {"seven", "7", false},
                                 {"0.30000000000000001", "0.3", false}});
  EXPECT_EQ(last_number("1e99999"), "99999");  // no exponent of five digits: two numbers
  EXPECT_EQ(last_number("no digit"), std::nullopt);
}

TEST(Scoring, Substring) {
  expect_all(MatchRule::substring, {{"It is a Red  Fox!", "red fox", true},
                                    {"17", "7", true},
                                    {"red", "red fox", false},
                                    {"what?!", "?!", true},
                                    {"", "x", false}});
}

TEST(Scoring, AnyOfTheAcceptedAnswers) {
  EXPECT_TRUE(is_right("Seven.", {"7", "seven"}, MatchRule::normalized));
  EXPECT_FALSE(is_right("eight", {"7", "seven"}, MatchRule::normalized));
  EXPECT_FALSE(is_right("7", {}, MatchRule::normalized));
}

TEST(Scoring, MalformedTextOfAModelIsJudgedNotFeared) {
  EXPECT_FALSE(is_right("\xff\xfe\x80", {"7"}, MatchRule::normalized));
  EXPECT_TRUE(is_right("\xff 7", {"7"}, MatchRule::number));
  EXPECT_FALSE(
      is_right("\xff"
               "B",
               {"B"}, MatchRule::choice));
}

TEST(Scoring, AnExpectedAnswerThatCannotBeMetIsRefused) {
  EXPECT_THROW(check_expected(" ", MatchRule::exact), Error);
  EXPECT_THROW(check_expected("seven", MatchRule::number), Error);
  EXPECT_THROW(check_expected("seven", MatchRule::choice), Error);
  EXPECT_NO_THROW(check_expected("!", MatchRule::normalized));
  EXPECT_NO_THROW(check_expected("(c)", MatchRule::choice));
}

TEST(Scoring, RuleNames) {
  EXPECT_EQ(parse_match_rule("normalised"), MatchRule::normalized);
  for (const char* name : {"exact", "normalized", "choice", "number", "substring"}) {
    EXPECT_STREQ(name_of(parse_match_rule(name)), name);
  }
  EXPECT_THROW(parse_match_rule("fuzzy"), Error);
}

}  // namespace
}  // namespace fovea
