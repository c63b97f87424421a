// Goal: UTF-8 repair, NFC, byte spelling and cutting are exact. Method: published examples, exhaustive small
// inputs and laws (a text is the sum of its pieces; NFC is idempotent); the golden corpus compares them with
// the reference.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "text/byte_level.h"
#include "text/nfc.h"
#include "text/reference_unicode.h"
#include "text/split_pattern.h"
#include "text/utf8.h"

namespace fovea {
namespace {

std::string utf8(char32_t code_point) {
  std::string text;
  append_utf8(text, code_point);
  return text;
}

TEST(Utf8, EveryCodePointRoundTripsAndItsPrefixesAreTails) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const std::string text = utf8(c);
    size_t length = 0;
    ASSERT_EQ(decode_utf8(text, length), c);
    ASSERT_EQ(length, text.size());
    ASSERT_EQ(incomplete_utf8_tail(text), 0u);
    for (size_t part = 1; part < text.size(); ++part)
      ASSERT_EQ(incomplete_utf8_tail(std::string("x").append(text, 0, part)), part);
  }
}

TEST(Utf8, ReplacesMaximalSubpartsAsTheUnicodeStandardShows) {
  const std::string r = "\ufffd";
  EXPECT_EQ(replace_malformed_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            r + r + r + r + r + r + r + r + "A");  // table 3-8
  EXPECT_EQ(replace_malformed_utf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            r + r + r + r + r + r + r + r + "A");  // table 3-9
  EXPECT_EQ(replace_malformed_utf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            r + r + r + r + r + "A" + r + r + "B");  // 3-10
  EXPECT_EQ(replace_malformed_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"),
            r + r + r + r + "A");  // table 3-11
  EXPECT_EQ(replace_malformed_utf8("a\xE2\x82"), "a" + r);
  EXPECT_EQ(replace_malformed_utf8(""), "");
}

TEST(Nfc, ComposesReordersAndKeepsExclusions) {
  EXPECT_EQ(nfc("e\u0301"), "\u00e9");
  EXPECT_EQ(nfc("\u212b\u2126"), "\u00c5\u03a9");    // singletons
  EXPECT_EQ(nfc("q\u0307\u0323"), "q\u0323\u0307");  // canonical order
  EXPECT_EQ(nfc("\u1e0b\u0323"), "\u1e0d\u0307");    // UAX #15, figure 5
  EXPECT_EQ(nfc("\u0958"), "\u0915\u093c");          // composition exclusion
  EXPECT_EQ(nfc("\u1112\u1161\u11ab"), "\ud55c");    // Hangul
  EXPECT_EQ(nfc("\ufb01"), "\ufb01");                // compatibility forms stay
  EXPECT_EQ(nfc("\U0001d15e"), "\U0001d157\U0001d165");
}

TEST(Nfc, IsIdempotentOnEveryCodePoint) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const std::string once = nfc(fmt::format("e{}\u0301\u0316", utf8(c)));
    ASSERT_EQ(nfc(once), once) << static_cast<uint32_t>(c);
  }
}

TEST(Nfc, CharactersNewerThanTheReferenceStandStill) {
  EXPECT_EQ(nfc("\u0301\u0898\u0316"), "\u0301\u0898\u0316");      // a mark of Unicode 14
  EXPECT_EQ(nfc("\U00011935\U00011930"), "\U00011935\U00011930");  // composes since Unicode 13
  EXPECT_EQ(nfc("e\u0301\u0898\u0316\u0301"), "\u00e9\u0898\u0316\u0301");
}

TEST(ByteLevel, SpellingsAreDistinctAndInvert) {
  std::set<char32_t> seen;
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t spelling = spelling_of_byte(static_cast<uint8_t>(byte));
    EXPECT_TRUE(seen.insert(spelling).second);
    EXPECT_EQ(bytes_of_spelling(utf8(spelling)), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(spelling_of_byte(' '), U'\u0120');
  EXPECT_EQ(bytes_of_spelling("a b"), "a b");  // a space spells nothing, so the entry is its own text
  EXPECT_EQ(bytes_of_spelling("\u5b57"), "\u5b57");
}

std::vector<std::string> pieces(const std::string& expression, std::string_view text) {
  std::vector<std::string> result;
  SplitPattern(expression).for_each_piece(text, [&](std::string_view piece) { result.emplace_back(piece); });
  return result;
}

using Pieces = std::vector<std::string>;

TEST(SplitPattern, MatchesAndGapsAreThePieces) {
  EXPECT_EQ(pieces("b+", "abbcb"), (Pieces{"a", "bb", "c", "b"}));
  EXPECT_EQ(pieces("x", "abc"), Pieces{"abc"});
  EXPECT_EQ(pieces("x", ""), Pieces{});
  EXPECT_EQ(pieces("b*", "\u00e9bb\u00e9"),
            (Pieces{"\u00e9", "bb", "\u00e9"}));  // empty matches make no pieces
}

TEST(SplitPattern, UnicodeClassesAndCaseFoldingHold) {
  EXPECT_EQ(pieces("(?i:'s)|\\p{L}+|\\p{N}|\\s+", "x\u5b57'\u017f\u0664\u00a0\u3000y"),
            (Pieces{"x\u5b57", "'\u017f", "\u0664", "\u00a0\u3000", "y"}));
}

TEST(SplitPattern, ClassesAreTheReferencesWhateverPcre2Knows) {
  EXPECT_EQ(pieces("\\s+", " \u180e "), (Pieces{" ", "\u180e", " "}));  // no white space since Unicode 6.3
  EXPECT_EQ(pieces("\\p{N}", "\U0001d2c0\U0001d2c1"), (Pieces{"\U0001d2c0", "\U0001d2c1"}));  // Unicode 15
  EXPECT_EQ(pieces("\\p{L}+", "a\U00031350b"), Pieces{"a\U00031350b"});                       // Unicode 15
  EXPECT_EQ(pieces("\\p{L}+", "a\U000323b0b"), (Pieces{"a", "\U000323b0", "b"}));             // Unicode 17
}

TEST(ReferenceUnicode, StandInsKeepEveryLength) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const std::string text = utf8(c) + "a", copy = with_reference_classes(text);
    ASSERT_EQ(copy.size(), text.size()) << static_cast<uint32_t>(c);
    ASSERT_EQ(replace_malformed_utf8(copy), copy) << static_cast<uint32_t>(c);
  }
}

}  // namespace
}  // namespace fovea
