// Goal: every line of a batch becomes a request or a refusal that names it, and a run that was ended anywhere
// goes on without losing or doubling an answer. Method: files written here; the output cut at every byte.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "api/batch_input.h"
#include "api/batch_output.h"
#include "api/chat_response.h"
#include "base/temporary_folder_testing.h"

namespace fovea {
namespace {

using nlohmann::json;

std::string request_line(const std::string& id, const std::string& more = "") {
  return R"({"custom_id": ")" + id +
         R"(", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "Hi"}])" +
         more + "}}\n";
}

class Batch : public testing::Test {
 protected:
  std::vector<BatchLine> read(const std::string& text, BatchRules rules = {}) const {
    folder_.write("in.jsonl", text);
    BatchInput input(in(), std::move(rules));
    std::vector<BatchLine> lines;
    while (auto line = input.next()) lines.push_back(std::move(*line));
    return lines;
  }
  std::filesystem::path in() const { return folder_.path() / "in.jsonl"; }
  std::filesystem::path out() const { return folder_.path() / "out.jsonl"; }
  std::string output() const {
    std::ifstream file(out(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // As `fovea batch` does, but with answers of a few bytes; returns how many were made.
  int run() const {
    BatchOutput written(out(), survey_batch(in(), {}).ids);
    BatchInput input(in(), {});
    int made = 0;
    while (const auto line = input.next()) {
      if (!line->request) {
        written.append(batch_failure(*line, *line->refusal));
      } else if (!written.completed().contains(line->custom_id)) {
        written.append(batch_answer(*line, {{"ok", line->number}}));
        ++made;
      }
    }
    return made;
  }
  std::string resume_error() const {
    try {
      run();
      return "resumed";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
      return error.message();
    }
  }

  const TemporaryFolder folder_;
};

TEST_F(Batch, ReadsRequestsAndPlainRecords) {
  const auto lines =
      read("\xef\xbb\xbf" + request_line("a", R"(, "max_tokens": 3, "odd": 1)") + "\n \r\n" +
           R"({"id": 7, "messages": [{"role": "user", "content": [{"image": "p.png"}]}], "answer": "x"})");
  ASSERT_EQ(lines.size(), 2u);
  ASSERT_TRUE(lines[0].request && lines[1].request);
  EXPECT_EQ(lines[0].number, 1);
  EXPECT_EQ(lines[0].custom_id, "a");
  EXPECT_EQ(lines[0].request->max_tokens, 3);
  EXPECT_EQ(lines[0].request->warnings.size(), 1u);
  EXPECT_EQ(lines[1].number, 4);
  EXPECT_EQ(lines[1].custom_id, "7");
  EXPECT_EQ(lines[1].request->messages[0].content[0].source, (folder_.path() / "p.png").string());
}

TEST_F(Batch, IdsStandForTheLineAndForWhoAnswers) {
  const auto lines = read(request_line("a") + request_line("b"));
  EXPECT_EQ(lines[0].id.size(), std::string("batch_req_0123456789abcdef").size());
  EXPECT_NE(lines[0].id, lines[1].id);
  EXPECT_EQ(read(request_line("a"))[0].id, lines[0].id);
  BatchRules other;
  other.identity = 1;
  EXPECT_NE(read(request_line("a"), other)[0].id, lines[0].id);
}

TEST_F(Batch, RefusesLinesByNameAndGoesOn) {
  const struct {
    std::string line, custom_id, field, words;
    ErrorKind kind = ErrorKind::invalid_argument;
  } cases[] = {
      {"{", "", "", "not valid JSON"},
      {"[]", "", "", "no JSON object"},
      {"{}", "", "", "neither a request nor a record"},
      {R"({"custom_id": "x", "custom_id": "y"})", "", "", "twice"},
      {R"({"body": {}})", "", "custom_id", "is missing"},
      {R"({"custom_id": 5})", "", "custom_id", "not a string"},
      {R"({"custom_id": ")" + std::string(513, 'x') + "\"}", "", "custom_id", "has 513 bytes"},
      {R"({"id": ")" + std::string(513, 'x') + R"(", "messages": []})", "", "id", "has 513 bytes"},
      {R"({"messages": []})", "", "", "no field \"id\""},
      {R"({"id": "p", "messages": []})", "p", "messages", "at least one"},
      {R"({"custom_id": "x"})", "x", "method", "is missing"},
      {R"({"custom_id": "x", "method": "GET"})", "x", "method", "is \"GET\"", ErrorKind::unsupported},
      {R"({"custom_id": "x", "method": "POST", "url": "/v1/embeddings"})", "x", "url", "/v1/embeddings",
       ErrorKind::unsupported},
      {R"({"custom_id": "x", "method": "POST", "url": "/v1/chat/completions"})", "x", "body", "is missing"},
      {R"({"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": 5})", "x", "body",
       "not an object"},
      {request_line("x", R"(, "n": 0)"), "x", "n", "from 1"},
      {request_line("x", R"(, "stream": true)"), "x", "stream", "come whole", ErrorKind::unsupported},
      {request_line("good"), "good", "custom_id", "stands in line 1 already"},
  };
  for (const auto& bad : cases) {
    SCOPED_TRACE(bad.line);
    const auto lines =
        read(request_line("good") + bad.line + (bad.line.back() == '\n' ? "" : "\n") + request_line("after"));
    ASSERT_EQ(lines.size(), 3u);
    EXPECT_TRUE(lines[2].request);
    EXPECT_FALSE(lines[1].request);
    ASSERT_TRUE(lines[1].refusal);
    EXPECT_EQ(lines[1].custom_id, bad.custom_id);
    EXPECT_EQ(lines[1].refusal->field(), bad.field);
    EXPECT_EQ(lines[1].refusal->kind(), bad.kind);
    EXPECT_NE(lines[1].refusal->message().find(bad.words), std::string::npos) << lines[1].refusal->message();
    const auto output = json::parse(json_line(batch_failure(lines[1], *lines[1].refusal)));
    EXPECT_EQ(output.at("custom_id"), bad.custom_id.empty() ? json() : json(bad.custom_id));
    EXPECT_EQ(output.at("response").at("status_code"), 400);
    EXPECT_EQ(output.at("response").at("body").at("error").at("message").get<std::string>().find("line 2: "),
              0u);
  }
}

TEST_F(Batch, LongLinesAreReadPast) {
  BatchRules rules;
  rules.max_line_bytes = 300;
  const auto lines =
      read(request_line("a", ", \"user\": \"" + std::string(300, 'u') + "\"") + request_line("b"), rules);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].refusal->kind(), ErrorKind::exhausted);
  EXPECT_NE(lines[0].refusal->message().find("longer than 300 bytes"), std::string::npos);
  EXPECT_EQ(lines[1].custom_id, "b");
}

TEST_F(Batch, WantsAFile) {
  EXPECT_THROW(BatchInput(folder_.path() / "absent", {}), Error);
  EXPECT_THROW(BatchInput(folder_.path(), {}), Error);
  EXPECT_THROW(BatchInput("/dev/null", {}), Error);
  EXPECT_TRUE(read("").empty());
}

TEST_F(Batch, SurveyCountsAndNames) {
  folder_.write("in.jsonl", request_line("a") + "x\n\n" + request_line("b") + request_line("a"));
  const BatchSurvey survey = survey_batch(in(), {});
  EXPECT_EQ(survey.lines, 4);
  EXPECT_EQ(survey.refusals, 2);
  ASSERT_EQ(survey.ids.size(), 2u);
  EXPECT_EQ(survey.ids.count("a") + survey.ids.count("b"), 2u);
}

TEST_F(Batch, OutputHasTheDocumentedForm) {
  folder_.write("in.jsonl", request_line("a"));
  EXPECT_EQ(run(), 1);
  const std::string id = read(request_line("a"))[0].id;
  EXPECT_EQ(output(), R"({"id":")" + id +
                          R"(","custom_id":"a","response":{"status_code":200,"request_id":")" + id +
                          R"(","body":{"ok":1}},"error":null})" + "\n");
}

TEST_F(Batch, GoesOnWhereverItWasEnded) {
  folder_.write("in.jsonl", request_line("a") + "no JSON\n" + request_line("\\u00e9"));
  ASSERT_EQ(run(), 2);
  const std::string whole = output();
  const auto lines_of = [](const std::string& text) {
    std::multiset<std::string> lines;
    for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1)
      lines.insert(text.substr(at, text.find('\n', at) - at));
    return lines;
  };
  for (size_t cut = 0; cut <= whole.size(); ++cut) {
    SCOPED_TRACE(cut);
    folder_.write("out.jsonl", whole.substr(0, cut));
    std::string kept = whole.substr(0, cut);
    kept.erase(kept.rfind('\n') == kept.npos ? 0 : kept.rfind('\n') + 1);
    const auto refused = static_cast<int>(kept.find("not valid JSON") != kept.npos);
    const auto stood = static_cast<int>(std::count(kept.begin(), kept.end(), '\n')) - refused;
    ASSERT_EQ(run(), 2 - stood);
    ASSERT_EQ(lines_of(output()), lines_of(whole));
  }
  EXPECT_FALSE(std::filesystem::exists(out().string() + ".partial"));
}

TEST_F(Batch, WhatFailedIsTriedAgain) {
  folder_.write("in.jsonl", request_line("a") + request_line("b"));
  const auto lines = read(request_line("a") + request_line("b"));
  {
    BatchOutput written(out(), survey_batch(in(), {}).ids);
    written.append(batch_failure(lines[1], Error(ErrorKind::not_found, "no such file", "check the path")));
    written.append(batch_answer(lines[0], {{"kept", true}}));
  }
  EXPECT_EQ(run(), 1);
  const std::string text = output();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_EQ(text.find("no such file"), text.npos);
  EXPECT_NE(text.find("\"kept\":true"), text.npos);
}

TEST_F(Batch, AnswersOfOthersAreNeverRemoved) {
  folder_.write("in.jsonl", request_line("a"));
  run();
  const std::string before = output();
  folder_.write("in.jsonl", request_line("a", R"(, "n": 2)"));
  EXPECT_NE(resume_error().find("out.jsonl:1 answers \"a\" as another line"), std::string::npos);
  folder_.write("in.jsonl", request_line("b"));
  EXPECT_NE(resume_error().find("out.jsonl:1 answers \"a\", which the input does not ask"),
            std::string::npos);
  EXPECT_EQ(output(), before);
  for (const char* text : {"my notes\n", "{}\n", "[1]\n", "{\"id\": \"x\", \"custom_id\": \"b\"}\n"}) {
    folder_.write("out.jsonl", text);
    EXPECT_NE(resume_error().find("out.jsonl:1 is no line of a batch's output"), std::string::npos) << text;
    EXPECT_EQ(output(), text);
  }
}

TEST_F(Batch, OneProcessWrites) {
  folder_.write("in.jsonl", request_line("a"));
  const BatchOutput first(out(), {});
  EXPECT_NE(resume_error().find("another process is writing"), std::string::npos);
}

TEST_F(Batch, WritesThroughLinksAndToDevices) {
  std::filesystem::create_symlink(folder_.path() / "target.jsonl", out());
  folder_.write("target.jsonl", "half a li");
  folder_.write("in.jsonl", request_line("a"));
  EXPECT_EQ(run(), 1);
  EXPECT_TRUE(std::filesystem::is_symlink(out()));
  EXPECT_EQ(output().find("{\"id\""), 0u);
  BatchOutput device("/dev/null", {});
  device.append({{"a", 1}});
  EXPECT_TRUE(device.completed().empty());
  BatchOutput full("/dev/full", {});
  EXPECT_THROW(full.append({{"a", 1}}), Error);
}

}  // namespace
}  // namespace fovea
