// Goal: nothing that a file states reaches a terminal as a command, and no message is cut. Method: texts with
// each kind of byte, and the words that stand for it.
#include "base/printable.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"

namespace fovea {
namespace {

using namespace std::string_literals;

TEST(Printable, OrdinaryTextStays) {
  for (const std::string& text : {""s, "a b"s, "Grüße 日本語 😀"s, "two\nlines\tand a tab"s, "~"s}) {
    EXPECT_EQ(printable(text), text);
  }
}

TEST(Printable, ControlCharactersAreSpelledOut) {
  EXPECT_EQ(printable("a\0b"s), "a\\x00b");
  EXPECT_EQ(printable("\x1b[2J\r\x7f\b"), "\\x1b[2J\\x0d\\x7f\\x08");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\\u009b31m");  // the one-character form of ESC [
  EXPECT_EQ(printable("\xc2\xa0"), "\xc2\xa0");
}

TEST(Printable, BytesThatAreNoUtf8AreSpelledOut) {
  EXPECT_EQ(printable("\x9b"
                      "2J\xff"),
            "\\x9b2J\\xff");
  EXPECT_EQ(printable("\xe2\x82"), "\\xe2\\x82");  // cut off
  EXPECT_EQ(printable("\xc3\x1b"), "\\xc3\\x1b");  // ESC where a continuation should be
  EXPECT_EQ(printable("\xc0\x9b"), "\\xc0\\x9b");  // overlong
}

TEST(Printable, AnErrorKeepsItsRemedyWhateverItQuotes) {
  const Error error(ErrorKind::corrupt, "the key \"x\0y\x1b[31m\" is unknown"s, "remove \"\r\"");
  EXPECT_EQ(error.message(), "the key \"x\\x00y\\x1b[31m\" is unknown");
  EXPECT_NE(std::strstr(error.what(), "remedy: remove \"\\x0d\""), nullptr) << error.what();
}

TEST(Printable, AnErrorThatQuotesAMegabyteFitsOnAScreen) {
  const std::string quoted = "x is \"" + std::string(1 << 20, '\x1b') + "\", not a number";
  const Error error(ErrorKind::corrupt, quoted, "write a number");
  EXPECT_TRUE(error.message().starts_with("x is \"\\x1b\\x1b")) << error.message();
  EXPECT_TRUE(error.message().ends_with("\\x1b\", not a number")) << error.message();
  EXPECT_NE(error.message().find(" ... (1045097 bytes left out) ... "), std::string::npos) << error.message();
  EXPECT_LT(error.message().size(), 15000u);  // each of 3500 bytes as four
  EXPECT_TRUE(std::string(error.what()).ends_with("remedy: write a number"));
  const std::string longest(3500, 'a');
  EXPECT_EQ(Error(ErrorKind::corrupt, longest, "").message(), longest);
}

}  // namespace
}  // namespace fovea
