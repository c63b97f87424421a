// Goal: a good line of a suite is read whole, a bad one is reported with its place, its id and a remedy, and
// never stops the others. Method: files written here, one fault a line.
#include "suite/reader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

class SuiteReader : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "fovea-suite-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    write("red.png", "not read here");
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  static std::string record(const std::string& id, const std::string& more) {
    return R"({"id": ")" + id + R"(", "messages": [{"role": "user", "content": "Which?"}])" + more + "}\n";
  }
  // The problem that one line of text causes, beside one good line.
  SuiteProblem problem_of(const std::string& line) const {
    write("suite.jsonl", record("good", R"(, "answer": "7")") + line + "\n");
    const Suite suite = read_suite(folder_ / "suite.jsonl");
    EXPECT_EQ(suite.items.size(), 1u) << line;
    EXPECT_EQ(suite.lines, 2) << line;
    if (suite.problems.size() != 1) {
      ADD_FAILURE() << suite.problems.size() << " problems for " << line;
      return {};
    }
    EXPECT_EQ(suite.problems[0].line, 2);
    EXPECT_EQ(suite.problems[0].file, (folder_ / "suite.jsonl").string());
    EXPECT_FALSE(suite.problems[0].remedy.empty());
    return suite.problems[0];
  }
  void expect_problem(const std::string& line, const std::string& id, const std::string& word) const {
    const SuiteProblem problem = problem_of(line);
    EXPECT_EQ(problem.id, id) << line;
    EXPECT_NE(problem.message.find(word), std::string::npos) << problem.message;
  }

  fs::path folder_;
};

TEST_F(SuiteReader, ReadsEveryFieldAndFindsPicturesBesideTheFile) {
  write("suite.jsonl",
        R"({"id": "a", "messages": [{"role": "user", "content": [{"type": "image", "image": "red.png"}, )"
        R"({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, )"
        R"({"type": "text", "text": "Which?"}]}], "answer": ["7", "seven"], "match": "normalised", )"
        R"("tags": {"kind": "easy", "n": 3}, "note": 1})"
        "\n\n" +
            record("b", R"(, "answer": "x", "tags": ["hard"])"));
  const Suite suite = read_suite(folder_);
  EXPECT_TRUE(suite.problems.empty());
  EXPECT_EQ(suite.lines, 2);
  ASSERT_EQ(suite.items.size(), 2u);
  const SuiteItem& a = suite.items[0];
  EXPECT_EQ(a.id, "a");
  EXPECT_EQ(a.match, MatchRule::normalized);
  EXPECT_EQ(a.answers, (std::vector<std::string>{"7", "seven"}));
  EXPECT_EQ(a.tags, (std::vector<std::pair<std::string, std::string>>{{"kind", "easy"}, {"n", "3"}}));
  ASSERT_EQ(a.messages.size(), 1u);
  ASSERT_EQ(a.messages[0].content.size(), 3u);
  EXPECT_EQ(a.messages[0].content[0].source, (folder_ / "red.png").string());
  EXPECT_EQ(a.messages[0].content[1].source, "data:image/png;base64,AAAA");
  EXPECT_EQ(suite.items[1].line, 3);
  EXPECT_EQ(suite.items[1].tags, (std::vector<std::pair<std::string, std::string>>{{"hard", ""}}));
}

TEST_F(SuiteReader, ABadLineIsReportedAndSkipped) {
  expect_problem("{\"id\": \"x\", ", "", "JSON");
  expect_problem("[1]", "", "not an object");
  expect_problem(R"({"messages": [], "answer": "7"})", "", "id");
  expect_problem(R"({"id": "x", "answer": "7"})", "x", "messages");
  expect_problem(R"({"id": "x", "messages": [], "answer": "7"})", "x", "message");
  expect_problem(record("x", ""), "x", "answer");
  expect_problem(record("x", R"(, "answer": 7)"), "x", "number");
  expect_problem(record("x", R"(, "answer": {"a": 1})"), "x", "object");
  expect_problem(record("x", R"(, "answer": [])"), "x", "empty");
  expect_problem(record("x", R"(, "answer": ["7", null])"), "x", "null");
  expect_problem(record("x", R"(, "answer": " ")"), "x", "empty");
  expect_problem(record("x", R"(, "answer": "seven", "match": "number")"), "x", "no number");
  expect_problem(record("x", R"(, "answer": "7", "match": "fuzzy")"), "x", "fuzzy");
  expect_problem(record("x", R"(, "answer": "7", "match": 3)"), "x", "match");
  expect_problem(record("x", R"(, "answer": "7", "tags": "t")"), "x", "tags");
  expect_problem(record("good", R"(, "answer": "7")"), "good", "already");
  expect_problem(R"({"id": "x", "answer": "7", "messages": [{"role": "user", "content": )"
                 R"([{"type": "image", "image": "blue.png"}]}]})",
                 "x", "blue.png");
  expect_problem(R"({"id": "x", "answer": "7", "messages": )" + std::string(5000, '['), "", "nested");
  expect_problem("\xff\xfe", "", "JSON");
}

TEST_F(SuiteReader, ALineBeyondTheLimitIsAProblemNotMemory) {
  const std::string good = record("good", R"(, "answer": "7")");
  write("suite.jsonl", record("long", R"(, "answer": "7", "x": ")" + std::string(1000, 'x') + "\"") + good);
  const Suite suite = read_suite(folder_, 500);
  ASSERT_EQ(suite.problems.size(), 1u);
  EXPECT_EQ(suite.problems[0].line, 1);
  ASSERT_EQ(suite.items.size(), 1u);
  EXPECT_EQ(suite.items[0].id, "good");
}

TEST_F(SuiteReader, AFolderMeansSuiteJsonlOrEveryFileOrTheSuitesInIt) {
  for (const char* name : {"second", "first"}) {
    std::filesystem::create_directory(folder_ / name);
    write(std::string(name) + "/suite.jsonl", record(name, R"(, "answer": "7")"));
  }
  Suite both = read_suite(folder_);
  ASSERT_EQ(both.items.size(), 2u);
  EXPECT_EQ(both.items[0].id, "first");
  write("b.jsonl", record("b", R"(, "answer": "7")"));
  write("a.jsonl", "\xef\xbb\xbf" + record("a", R"(, "answer": "7")"));
  Suite suite = read_suite(folder_);
  ASSERT_EQ(suite.items.size(), 2u);
  EXPECT_EQ(suite.items[0].id, "a");
  write("suite.jsonl", record("s", R"(, "answer": "7")"));
  suite = read_suite(folder_);
  ASSERT_EQ(suite.items.size(), 1u);
  EXPECT_EQ(suite.items[0].id, "s");
}

TEST_F(SuiteReader, NothingUsableIsAnError) {
  EXPECT_THROW(read_suite(folder_), Error);
  EXPECT_THROW(read_suite(folder_ / "missing.jsonl"), Error);
  write("suite.jsonl", "\n");
  EXPECT_THROW(read_suite(folder_), Error);
  write("suite.jsonl", "broken\n");
  try {
    read_suite(folder_);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_NE(error.message().find("suite.jsonl:1"), std::string::npos) << error.message();
  }
}

}  // namespace
}  // namespace fovea
