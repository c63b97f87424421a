// Goal: `fovea batch` answers each line as `fovea run` answers it alone, says of each failure what it is, and
// goes on where it was ended. Method: the program on the small model, files with good and bad lines.

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "command_line_testing.h"

namespace fovea {
namespace {

using nlohmann::json;

class BatchCommand : public CommandLineTest {
 protected:
  static constexpr const char* kDemo = FOVEA_SOURCE_DIR "/models/fovea-demo";

  static json line(const std::string& id, json content, json more = json::object()) {
    json body = {{"messages", {{{"role", "user"}, {"content", std::move(content)}}}}, {"max_tokens", 12}};
    body.update(more);
    return {{"custom_id", id}, {"method", "POST"}, {"url", "/v1/chat/completions"}, {"body", body}};
  }
  static json with_picture(const std::string& text) {
    return {{{"type", "image_url"}, {"image_url", {{"url", kPicture}}}}, {{"type", "text"}, {"text", text}}};
  }
  void write_lines(const std::vector<json>& lines) const {
    std::string text;
    for (const json& one : lines) text += one.dump() + "\n";
    write(folder_ / "in.jsonl", text);
  }
  std::string batch(const std::string& more = "") const {
    return fmt::format("batch -m {0} -i {1}/in.jsonl -o {1}/out.jsonl {2}", kDemo, folder_.string(), more);
  }
  std::map<std::string, json> answers() const {
    std::map<std::string, json> found;
    std::istringstream text(read(folder_ / "out.jsonl"));
    for (std::string one; std::getline(text, one);) {
      const json parsed = json::parse(one);
      const std::string id = parsed["custom_id"].is_null() ? "" : parsed["custom_id"].get<std::string>();
      EXPECT_TRUE(found.emplace(id, parsed).second) << id;
    }
    return found;
  }
  static std::string content(const json& answer, size_t choice = 0) {
    return answer["response"]["body"]["choices"][choice]["message"]["content"];
  }
};

TEST_F(BatchCommand, AnswersEachLineAsRunDoes) {
  write_lines({line("a", "What is it?"), line("b", with_picture("What is it?")),
               line("c", with_picture("What is it?")),
               line("d", "Which colour?",
                    {{"temperature", 2.0}, {"top_k", 0}, {"top_p", 1}, {"seed", 5}, {"n", 2}})});
  const Outcome done = run(batch("--max-num-seqs 3"));
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_NE(done.err.find("4 of 4 lines, 0 failed"), std::string::npos) << done.err;
  const auto found = answers();
  ASSERT_EQ(found.size(), 4u);
  const auto asked = [&](const std::string& flags) {
    return json::parse(run(fmt::format("run -m {} -n 12 --json {}", kDemo, flags)).out)["text"]
        .get<std::string>();
  };
  EXPECT_EQ(content(found.at("a")), asked("'What is it?'"));
  EXPECT_EQ(content(found.at("b")), asked(fmt::format("--image {} 'What is it?'", kPicture)));
  EXPECT_EQ(content(found.at("c")), content(found.at("b")));
  const std::string sampled = "'Which colour?' --temperature 2 --top-k 0 --top-p 1 --seed ";
  EXPECT_EQ(content(found.at("d"), 0), asked(sampled + "5"));
  EXPECT_EQ(content(found.at("d"), 1), asked(sampled + "6"));
  const json& usage = found.at("c")["response"]["body"]["usage"];
  EXPECT_GT(found.at("c")["response"]["body"]["usage"]["prompt_tokens_details"]["cached_tokens"], 30);
  EXPECT_EQ(usage["total_tokens"], usage["prompt_tokens"].get<int>() + usage["completion_tokens"].get<int>());
}

TEST_F(BatchCommand, SaysOfEachFailureWhatItIs) {
  write_lines({line("good", "hello"), line("penalty", "hello", {{"use_beam_search", true}}),
               line("file", {{{"type", "image_url"}, {"image_url", {{"url", "/nowhere.png"}}}}}),
               line("good", "twice"), line("long", "hello", {{"max_tokens", 100000}})});
  const Outcome done = run(batch("--kv-cache-memory 1M"));
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_NE(done.err.find("4 lines failed"), std::string::npos) << done.err;
  const std::string out = read(folder_ / "out.jsonl");
  for (const char* words :
       {"use_beam_search is true", "/nowhere.png: no such file", "stands in line 1 already", "KV cache of"}) {
    EXPECT_NE(out.find(words), std::string::npos) << words << "\n" << out;
  }
}

TEST_F(BatchCommand, LogprobsAreOfTheTokensThatWereTaken) {
  write_lines({line("a", "hello", {{"logprobs", true}, {"top_logprobs", 3}, {"temperature", 0}})});
  ASSERT_EQ(run(batch()).exit_code, 0);
  const json body = answers().at("a")["response"]["body"];
  const json& tokens = body["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(tokens.size(), body["usage"]["completion_tokens"].get<size_t>());
  for (const json& token : tokens) {
    ASSERT_EQ(token["top_logprobs"].size(), 3u);
    EXPECT_EQ(token["top_logprobs"][0]["token"], token["token"]);  // greedy, and nothing is penalised
    EXPECT_LE(token["logprob"], 0);
  }
}

TEST_F(BatchCommand, GoesOnWhereItEnded) {
  std::vector<json> lines;
  for (int i = 0; i < 12; ++i) {
    lines.push_back(line(std::to_string(i), "count to " + std::to_string(i),
                         {{"ignore_eos", true}, {"max_tokens", 600}}));
  }
  write_lines(lines);
  ASSERT_EQ(run(batch("--max-num-seqs 2")).exit_code, 0);
  const auto whole = answers();
  std::filesystem::remove(folder_ / "out.jsonl");
  // Ctrl-C as soon as something stands in the output.
  const std::string watch = fmt::format(
      "sh -c '\"$@\" & child=$!; until [ -s {0}/out.jsonl ]; do sleep 0.01; done; kill -INT $child; wait "
      "$child' sh",
      folder_.string());
  const Outcome ended = run(batch("--max-num-seqs 2"), watch);
  const size_t before = answers().size();
  EXPECT_GE(before, 1u);
  if (ended.exit_code != 0) {  // it may have been quicker
    EXPECT_EQ(ended.exit_code, 130) << ended.err;
    EXPECT_NE(ended.err.find("goes on where this one ended"), std::string::npos) << ended.err;
  }
  // And as a kill leaves it: half a line.
  const std::string out = read(folder_ / "out.jsonl");
  write(folder_ / "out.jsonl", out.substr(0, out.size() - 20));
  ASSERT_EQ(run(batch("--max-num-seqs 2")).exit_code, 0);
  const auto resumed = answers();
  ASSERT_EQ(resumed.size(), whole.size());
  for (const auto& [id, answer] : whole) EXPECT_EQ(content(resumed.at(id)), content(answer)) << id;
}

TEST_F(BatchCommand, RecordsOfASuiteAreLinesToo) {
  const std::string suite = (folder_ / "suite").string();
  ASSERT_EQ(
      run("suite make --kind mixed --count 6 --tokens 30-60 --images 2 --seed 8 --out " + suite).exit_code,
      0);
  const Outcome done =
      run(fmt::format("batch -m {} -i {}/suite.jsonl -o {}/out.jsonl", kDemo, suite, folder_.string()));
  EXPECT_EQ(done.exit_code, 0) << done.err;
  for (const auto& [id, answer] : answers()) EXPECT_EQ(answer["response"]["status_code"], 200) << answer;
  EXPECT_EQ(answers().size(), 6u);
}

}  // namespace
}  // namespace fovea
