// Goal: a file of another version is refused by name, and says whether it is the file or the program that is
// too old.
#include "base/format_version.h"

#include <gtest/gtest.h>

#include <regex>

#include "base/error.h"

namespace fovea {
namespace {

std::string refusal(const FileFormat& format, int64_t found) {
  try {
    check_version(format, found, "some/file");
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    return error.what();
  }
}

TEST(FormatVersion, OnlyWhatIsUnderstoodIsRead) {
  constexpr FileFormat kFormat{"list of things", 4, 2, "make it again"};
  for (const int64_t read : {2, 3, 4}) EXPECT_EQ(refusal(kFormat, read), "");
  const std::string newer = refusal(kFormat, 5), older = refusal(kFormat, 1);
  for (const char* word : {"some/file", "a newer fovea", "list of things", "5", "2 to 4", "update fovea"}) {
    EXPECT_NE(newer.find(word), std::string::npos) << word << " in " << newer;
  }
  for (const char* word : {"some/file", "an older fovea", "remedy: make it again"}) {
    EXPECT_NE(older.find(word), std::string::npos) << word << " in " << older;
  }
  EXPECT_NE(refusal(kFormat, -1), "");
}

TEST(FormatVersion, TheProgramHasASemanticVersion) {
  EXPECT_TRUE(std::regex_match(program_version(), std::regex(R"(\d+\.\d+\.\d+)"))) << program_version();
}

}  // namespace
}  // namespace fovea
