// Goal: the documents hold together. Method: every link of every document is followed, to the heading; of the
// guide, the length of pages, the index, the kinds of blocks, and what is typed but not run, which is listed
// here with the reason.
#include <gtest/gtest.h>

#include <cctype>
#include <map>
#include <set>
#include <string_view>

#include "documents_testing.h"

namespace fovea {
namespace {

using namespace documents;

constexpr size_t kWordsOfPage = 3500, kLinesOfReadme = 90;

std::vector<fs::path> all_documents() {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(kRepository)) {
    if (entry.path().extension() == ".md") found.push_back(entry.path());
  }
  for (const char* folder : {"docs", "models", "python", "tests"}) {
    for (const auto& entry : fs::recursive_directory_iterator(kRepository / folder)) {
      if (entry.path().extension() == ".md") found.push_back(entry.path());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

// The document without its fenced blocks, and without what stands between backticks within a line.
std::string prose_of(const std::string& text) {
  std::string prose;
  std::istringstream lines(text);
  std::string line;
  for (bool fenced = false; std::getline(lines, line);) {
    if (line.starts_with("```")) {
      fenced = !fenced;
    } else if (!fenced) {
      prose += line + "\n";
    }
  }
  bool code = false;
  for (char& c : prose) {
    if (c == '`') {
      code = !code;
    } else if (code && c != '\n') {
      c = ' ';
    }
  }
  return prose;
}

// The names that GitHub gives to the headings of a document; the second of the same name gets "-1".
std::set<std::string> anchors_of(const std::string& text) {
  std::set<std::string> anchors;
  std::map<std::string, int> seen;
  std::istringstream lines(text);
  std::string line;
  for (bool fenced = false; std::getline(lines, line);) {
    if (line.starts_with("```")) fenced = !fenced;
    const size_t marks = line.find_first_not_of('#');
    if (fenced || marks == 0 || marks == std::string::npos || line[marks] != ' ') continue;
    std::string anchor;
    for (const unsigned char c : line.substr(marks + 1)) {
      if (c == ' ') anchor += '-';
      if (std::isalnum(c) || c == '-' || c == '_' || c >= 0x80) anchor += static_cast<char>(std::tolower(c));
    }
    const int count = seen[anchor]++;
    anchors.insert(count == 0 ? anchor : anchor + "-" + std::to_string(count));
  }
  return anchors;
}

// What stands in ](...) in the prose.
std::vector<std::string> links_of(const std::string& text) {
  std::vector<std::string> links;
  const std::string prose = prose_of(text);
  for (size_t at = prose.find("]("); at != std::string::npos; at = prose.find("](", at + 2)) {
    links.push_back(prose.substr(at + 2, prose.find(')', at) - at - 2));
  }
  return links;
}

// Empty: the link leads somewhere.
std::string fault_of(const fs::path& document, const std::string& link) {
  const size_t hash = link.find('#');
  const std::string file = link.substr(0, hash);
  const fs::path target = file.empty() ? document : document.parent_path() / file;
  if (!fs::exists(target)) return "no such file";
  if (hash == std::string::npos) return "";
  return anchors_of(read(target)).contains(link.substr(hash + 1)) ? "" : "no such heading";
}

size_t words_of(const std::string& text) {
  std::istringstream words(text);
  return static_cast<size_t>(
      std::distance(std::istream_iterator<std::string>(words), std::istream_iterator<std::string>()));
}

TEST(Links, LeadSomewhere) {
  size_t followed = 0;
  for (const fs::path& document : all_documents()) {
    for (const std::string& link : links_of(read(document))) {
      if (link.starts_with("http://") || link.starts_with("https://") || link.starts_with("mailto:"))
        continue;
      ++followed;
      EXPECT_EQ(fault_of(document, link), "") << fs::relative(document, kRepository) << ": " << link;
    }
  }
  EXPECT_GE(followed, 150u);
}

TEST(Links, ThatLeadNowhereAreFound) {
  const fs::path readme = kRepository / "README.md";
  EXPECT_EQ(fault_of(readme, "docs/guide/no-such-page.md"), "no such file");
  EXPECT_EQ(fault_of(readme, "docs/guide/faq.md#no-such-question"), "no such heading");
  EXPECT_EQ(fault_of(readme, "docs/guide/memory.md#will-it-fit"), "");
  EXPECT_EQ(links_of("[a](b.md) `[no](c.md)`\n```\n[no](d.md)\n```\n![e](f.svg)\n"),
            (std::vector<std::string>{"b.md", "f.svg"}));
  EXPECT_EQ(anchors_of("# What `--ram` is: a\n## Two\n## Two\n"),
            (std::set<std::string>{"what---ram-is-a", "two", "two-1"}));
}

TEST(Guide, PagesAreNoLongerThanAPersonReads) {
  for (const fs::path& page : guide_pages()) EXPECT_LE(words_of(read(page)), kWordsOfPage) << page.filename();
  const std::string readme = read(kRepository / "README.md");
  EXPECT_LE(static_cast<size_t>(std::count(readme.begin(), readme.end(), '\n')), kLinesOfReadme);
}

TEST(Guide, TheIndexHasEveryPage) {
  std::set<std::string> listed;
  for (const std::string& link : links_of(read(kRepository / "docs" / "guide" / "README.md")))
    listed.insert(link.substr(0, link.find('#')));
  for (const fs::path& page : guide_pages()) {
    if (page.filename() == "README.md") continue;
    EXPECT_TRUE(listed.contains(page.filename())) << page.filename();
  }
}

TEST(Guide, TheCookbookRunsEveryScript) {
  std::string run;
  for (const Block& block : blocks_of(kRepository / "docs" / "guide" / "cookbook.md"))
    for (const std::string& command : block.commands) run += command + "\n";
  for (const auto& script : fs::directory_iterator(kRepository / "docs" / "guide" / "cookbook")) {
    if (script.path().extension() == ".json") continue;
    EXPECT_NE(run.find("cookbook/" + script.path().filename().string()), std::string::npos) << script.path();
  }
}

// What is shown as typed (behind "$ ") and not run by documents_test: it is not in a block marked sh.
TEST(Guide, CommandsThatAreNotRunHaveAReason) {
  constexpr std::pair<std::string_view, const char*> kTyped[] = {
      {"fovea chat ", "is typed by hand; the page has the same from a pipe, which is run"},
      {"fovea serve ", "does not end by itself; the page has a block that starts, asks and ends it"},
      {"docker ", "another program"},
      {"pip ", "needs the network"},
      {"python ", "needs PyTorch; tools/check_python.sh runs the package's tests"},
  };
  const std::set<std::string> kinds = {"sh",   "text",  "json",       "console",    "python", "ini",
                                       "none", "nginx", "dockerfile", "javascript", "cpp",    "cmake"};
  for (const Block& block : all_blocks()) {
    EXPECT_TRUE(kinds.contains(block.kind)) << block.document << ":" << block.line << ": " << block.kind;
    std::istringstream lines(block.text);
    for (std::string line; std::getline(lines, line);) {
      const bool command =
          line.starts_with("fovea ") || line.starts_with("mpirun ") || line.starts_with("make ");
      EXPECT_FALSE(command && block.kind == "none") << block.document << ":" << block.line << ": " << line;
      if (block.kind != "console" || !line.starts_with("$ ")) continue;
      const bool known = std::any_of(std::begin(kTyped), std::end(kTyped), [&](const auto& typed) {
        return line.substr(2).starts_with(typed.first);
      });
      EXPECT_TRUE(known) << block.document << ":" << block.line << ": " << line;
    }
  }
}

}  // namespace
}  // namespace fovea
