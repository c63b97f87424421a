// Goal: `fovea eval` and `fovea audit` keep their contract on suites as people write them: bad items are
// named and skipped, the run goes on, the totals say so; output files are complete; exit codes. Method: the
// built program on a golden checkpoint.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>

#include "command_line_testing.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class AuditCommand : public CommandLineTest {
 protected:
  void SetUp() override {
    CommandLineTest::SetUp();
    fs::copy_file(kPicture, folder_ / "red.png");
  }

  json read_json(const char* name) const { return json::parse(read(folder_ / name)); }
  void write(const char* name, const std::string& text) const {
    CommandLineTest::write(folder_ / name, text);
  }
  static std::string line(const std::string& id, const std::string& image, const std::string& answer) {
    return fmt::format(
        R"({{"id": "{}", "messages": [{{"role": "user", "content": [{{"type": "image", "image": "{}"}}, )"
        R"({{"type": "text", "text": "Which?"}}]}}], "answer": {}, "tags": {{"kind": "t"}}}})"
        "\n",
        id, image, answer);
  }

  Outcome run(const std::string& arguments) const {
    return CommandLineTest::run(arguments, fmt::format("cd {} &&", folder_.string()));
  }
  std::string eval(const std::string& more) const {
    return fmt::format("eval -m {} --max-new-tokens 2 {}", kTiny, more);
  }
  std::string audit(const std::string& more) const {
    return fmt::format("audit -m {} --max-new-tokens 2 {}", kTiny, more);
  }
  void expect_error(const std::string& arguments, const std::vector<std::string>& words) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 1) << arguments << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find("remedy: "), std::string::npos) << outcome.err;
    for (const std::string& word : words) {
      EXPECT_NE(outcome.err.find(word), std::string::npos) << arguments << ": no '" << word << "' in\n"
                                                           << outcome.err;
    }
  }
};

TEST_F(AuditCommand, EvalNamesEveryBadItemAndGoesOn) {
  write("bad.png", "no picture");
  write("s.jsonl", line("good", "red.png", "\"7\"") + "broken\n" + line("lost", "blue.png", "\"7\"") +
                       line("typed", "red.png", "7") + line("damaged", "bad.png", "\"7\"") +
                       line("good", "red.png", "\"7\"") + line("fine", "red.png", "[\"7\", \"8\"]"));
  const Outcome outcome = run(eval("--suite s.jsonl --json o.json"));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json result = read_json("o.json");
  EXPECT_EQ(result["suite"]["items"], 7);
  EXPECT_EQ(result["suite"]["used"], 2);
  EXPECT_EQ(result["suite"]["skipped"], 5);
  std::vector<int> lines;
  for (const auto& problem : result["suite"]["problems"]) {
    lines.push_back(problem["line"].get<int>());
    EXPECT_FALSE(problem["remedy"].get<std::string>().empty());
  }
  std::sort(lines.begin(), lines.end());
  EXPECT_EQ(lines, (std::vector<int>{2, 3, 4, 5, 6}));
  for (const char* word : {"5 skipped", "blue.png", "bad.png", "not a string", "JSON", "remedy"}) {
    EXPECT_NE(outcome.out.find(word), std::string::npos) << word << " in\n" << outcome.out;
  }
  ASSERT_EQ(result["configurations"].size(), 1u);
  const json& one = result["configurations"][0];
  EXPECT_EQ(one["count"], 2);
  EXPECT_EQ(one["items"][0]["images"], 1);
  EXPECT_GT(one["items"][0]["context"], 0);
}

TEST_F(AuditCommand, EvalTakesTheFlagsOfRun) {
  write("s.jsonl", line("a", "red.png", "\"7\""));
  for (const char* flags : {"", "--attn eager --dtype bf16", "--preset eager-qkv-fp32",
                            "--precision \"preset=eager-bf16,text.scores=fp32\"", "--vision-attn sdpa"}) {
    EXPECT_EQ(run(eval(std::string("--suite s.jsonl ") + flags)).exit_code, 0) << flags;
  }
  expect_error(eval("--suite s.jsonl --preset eager-bf17"), {"eager-bf17"});
}

TEST_F(AuditCommand, AModelThatAnswersNothingIsWrongAndCounted) {
  // Every token ends the answer: nothing is said.
  fs::create_directories(folder_ / "mute");
  for (const auto& entry : fs::directory_iterator(kTiny)) {
    if (entry.is_regular_file()) fs::copy_file(entry.path(), folder_ / "mute" / entry.path().filename());
  }
  json ends = json::array();
  for (int id = 0; id < 384; ++id) ends.push_back(id);
  write("mute/generation_config.json", json{{"eos_token_id", ends}}.dump());
  write("s.jsonl", line("a", "red.png", "\"7\""));
  const Outcome outcome = run("eval -m mute --suite s.jsonl --json o.json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json one = read_json("o.json")["configurations"][0];
  EXPECT_EQ(one["empty_answers"], 1);
  EXPECT_EQ(one["accuracy"], 0.0);
  EXPECT_NE(outcome.out.find("answers nothing to 1 of 1"), std::string::npos) << outcome.out;
}

TEST_F(AuditCommand, AuditWritesJsonAndReport) {
  write("s.jsonl", line("a", "red.png", "\"7\"") + line("b", "red.png", "\"8\""));
  const Outcome outcome = run(
      audit("--suite s.jsonl --compare eager-bf16,sdpa,flash-bf16 --drift --attribute --search --json o.json "
            "--report r.html"));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json result = read_json("o.json");
  for (const char* field : {"configurations", "attribution", "recommended", "conclusion", "suite"}) {
    EXPECT_TRUE(result.contains(field)) << field;
  }
  ASSERT_EQ(result["configurations"].size(), 4u);
  for (const auto& c : result["configurations"]) {
    for (const char* field : {"name", "accuracy", "count", "interval", "by_context", "by_images", "kl",
                              "agreement", "rows_at_risk", "peak_bytes", "seconds", "layers"}) {
      EXPECT_TRUE(c.contains(field)) << field;
    }
    EXPECT_EQ(c["count"], 2);
  }
  EXPECT_TRUE(result["complete"]);
  EXPECT_FALSE(result["conclusion"].empty());
  EXPECT_FALSE(fs::exists(folder_ / "o.json.state"));
  const std::string page = read(folder_ / "r.html");
  EXPECT_NE(page.find("<svg"), std::string::npos);
  EXPECT_EQ(page.find("src=\"http"), std::string::npos);
  EXPECT_EQ(run("report o.json").out, page);
  EXPECT_EQ(run("report o.json --out again.html").exit_code, 0);
  EXPECT_EQ(read(folder_ / "again.html"), page);
  expect_error("report o.json --out o.json", {"--out", "is read"});
  expect_error("report s.jsonl", {"no audit"});
}

// An audit without what no second one can have in common with it.
void drop_times(json& value) {
  if (value.is_object()) {
    for (const char* name : {"seconds", "seconds_ratio", "date", "resident"}) value.erase(name);
  }
  if (value.is_structured()) {
    for (json& part : value) drop_times(part);
  }
}

// The text of a page's elements of this class, as a browser copies it.
std::vector<std::string> commands_of(const std::string& page) {
  const std::vector<std::pair<std::string, std::string>> entities = {
      {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&amp;", "&"}};
  std::vector<std::string> found;
  const std::string open = "<pre class=\"command\"><code>";
  for (size_t at = page.find(open); at != std::string::npos; at = page.find(open, at + 1)) {
    std::string text = page.substr(at + open.size(), page.find("</code>", at) - at - open.size());
    for (const auto& [entity, character] : entities) {
      for (size_t i = text.find(entity); i != std::string::npos; i = text.find(entity, i + 1))
        text.replace(i, entity.size(), character);
    }
    found.push_back(text);
  }
  return found;
}

TEST_F(AuditCommand, TheReportSaysHowAndTheCommandItOffersDoesItAgain) {
  fs::create_directories(folder_ / "my 'questions' & more");
  fs::copy_file(kPicture, folder_ / "my 'questions' & more" / "red.png");
  write("my 'questions' & more/s.jsonl", line("a", "red.png", "\"7\"") + line("b", "red.png", "\"8\""));
  const std::string suite = "\"my 'questions' & more/s.jsonl\"";
  const Outcome outcome =
      run("audit --max-new-tokens 4 --suite " + suite +
          " --compare \"eager-bf16:text.scores=fp32;text.scaled=fp32\",eager-fp16 --limit 2 "
          "--json o.json --report r.html --model=" +
          std::string(kTiny));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  json before = read_json("o.json");
  EXPECT_FALSE(before["machine"]["cpu"].get<std::string>().empty());
  EXPECT_EQ(before["date"].get<std::string>().size(), std::string("2026-12-01 17:04 UTC").size());
  for (const json& configuration : before["configurations"]) {
    EXPECT_FALSE(configuration["description"].get<std::string>().empty());
    EXPECT_NE(outcome.out.find(fmt::format("{:.1f}", configuration["peak_bytes"].get<double>() / 1e6)),
              std::string::npos);
  }
  const std::string page = read(folder_ / "r.html");
  for (const json& configuration : before["configurations"]) {  // the terminal's figure, in its unit
    const std::string megabytes =
        fmt::format("{:.1f}\u202FMB", configuration["peak_bytes"].get<double>() / 1e6);
    EXPECT_NE(page.find(megabytes), std::string::npos) << megabytes;
  }
  const std::vector<std::string> commands = commands_of(page);
  ASSERT_FALSE(commands.empty());
  fs::remove(folder_ / "o.json");
  const std::string again = fmt::format("cd {} && {} >again.out 2>&1", folder_.string(), commands.back());
  ASSERT_EQ(std::system(again.c_str()), 0) << commands.back() << "\n" << read(folder_ / "again.out");
  json after = read_json("o.json");
  drop_times(before);
  drop_times(after);
  EXPECT_EQ(before, after);
}

TEST_F(AuditCommand, TheCommandToRepeatNamesTheModelAndNoState) {
  write("s.jsonl", line("a", "red.png", "\"7\""));
  const Outcome outcome =
      CommandLineTest::run("audit --max-new-tokens 1 --suite s.jsonl --compare sdpa --json o.json",
                           fmt::format("cd {} && FOVEA_MODEL={}", folder_.string(), kTiny));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json command = read_json("o.json")["command"];
  EXPECT_EQ(command.back(), kTiny);
  EXPECT_EQ(command[command.size() - 2], "-m");
}

TEST_F(AuditCommand, QuestionsWhoseAnswersDifferAreThereWithTheirPictures) {
  write("s.jsonl", line("a", "red.png", "\"7\"") + line("b", "red.png", "\"8\""));
  // Four bits change what the tiny model says, if anything does.
  ASSERT_EQ(run(fmt::format(
                    "audit -m {} --max-new-tokens 8 --suite s.jsonl --compare fast,eager-fp16 --json o.json "
                    "--report r.html",
                    kTiny))
                .exit_code,
            0);
  const json result = read_json("o.json");
  const auto& configurations = result["configurations"];
  std::set<std::string> differ;
  for (const json& configuration : configurations) {
    for (size_t i = 0; i < 2; ++i) {
      if (configuration["items"][i]["answer"] != configurations[0]["items"][i]["answer"])
        differ.insert(configuration["items"][i]["id"].get<std::string>());
    }
  }
  ASSERT_FALSE(differ.empty()) << "nothing to show";
  std::set<std::string> asked;
  const std::string page = read(folder_ / "r.html");
  for (const json& question : result["questions"]) {
    asked.insert(question["id"].get<std::string>());
    EXPECT_EQ(question["prompt"], "[picture 1] Which?");
    ASSERT_EQ(question["pictures"].size(), 1u);
    EXPECT_NE(page.find(fmt::format("src=\"{}\"", question["pictures"][0]["thumbnail"].get<std::string>())),
              std::string::npos);
  }
  EXPECT_EQ(asked, differ);
}

TEST_F(AuditCommand, BudgetsAskEverythingAgain) {
  write("suite.jsonl", line("a", "red.png", "\"x\"") + line("b", "red.png", "\"y\""));
  const std::string common = audit("--suite suite.jsonl --compare sdpa --json out.json --report out.html ");
  ASSERT_EQ(run(common + "--image-budgets 8,16").exit_code, 0) << read(folder_ / "err");
  const json both = read_json("out.json");
  ASSERT_EQ(both["configurations"].size(), 2u);
  for (const json& configuration : both["configurations"]) {
    const json& budgets = configuration["by_image_budget"];
    ASSERT_EQ(budgets.size(), 2u);
    EXPECT_EQ(budgets[0]["budget"], 8);
    EXPECT_EQ(budgets[1]["budget"], 16);
    EXPECT_EQ(budgets[1]["count"], 2);
  }
  EXPECT_FALSE(fs::exists(folder_ / "out.json.state"));
  EXPECT_FALSE(fs::exists(folder_ / "out.json.state.8"));
  EXPECT_NE(read(folder_ / "out.html").find("Accuracy over the image-token budget"), std::string::npos);
  ASSERT_EQ(run(common + "--max-total-image-tokens 8").exit_code, 0);
  const json eight = read_json("out.json");
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(both["configurations"][i]["by_image_budget"][0]["correct"],
              eight["configurations"][i]["correct"]);
  }
}

// Asks many questions with `more`, and sends the signal once the state is there; the exit code.
class InterruptedAudit : public AuditCommand, public ::testing::WithParamInterface<int> {
 protected:
  static constexpr int kQuestions = 200;

  int interrupt(const std::string& more) const {
    std::string suite;
    for (int i = 0; i < kQuestions; ++i) suite += line(fmt::format("q{}", i), "red.png", "\"7\"");
    write("s.jsonl", suite);
    const std::string command = fmt::format("cd {} && exec {} {} >out 2>err </dev/null", folder_.string(),
                                            FOVEA_PROGRAM, audit("--suite s.jsonl --json o.json " + more));
    const pid_t child = fork();
    if (child == 0) {
      execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
      _exit(99);
    }
    // The handler is installed first of all, within milliseconds; the questions take several seconds.
    usleep(1'000'000);
    kill(child, GetParam());
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
};

TEST_P(InterruptedAudit, KeepsWhatWasDoneAndTheSameCommandContinues) {
  const int code = interrupt("");
  if (code == 0) GTEST_SKIP() << "the machine was faster than the signal";
  ASSERT_EQ(code, 130) << read(folder_ / "err");
  EXPECT_FALSE(read_json("o.json")["complete"]);
  EXPECT_TRUE(fs::exists(folder_ / "o.json.state"));
  EXPECT_NE(read(folder_ / "err").find("--resume"), std::string::npos);
  // With anything else that changes answers it is another audit.
  const std::string other = audit("--suite s.jsonl --resume o.json.state --resize torchvision --json p.json");
  expect_error(other, {"o.json.state belongs to another audit", "--resize", "pil", "torchvision"});
  expect_error(audit("--suite s.jsonl --resume o.json.state --chat-template qwen2.5-vl --json p.json"),
               {"o.json.state belongs to another audit", "--chat-template", "qwen2.5-vl"});
  const Outcome outcome = run(audit("--suite s.jsonl --json o.json"));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("continuing"), std::string::npos) << outcome.err;
  EXPECT_TRUE(read_json("o.json")["complete"]);
  EXPECT_EQ(read_json("o.json")["configurations"][0]["count"], kQuestions);
}

INSTANTIATE_TEST_SUITE_P(Signals, InterruptedAudit, ::testing::Values(SIGINT, SIGTERM, SIGHUP),
                         [](const auto& signal) {
                           return std::string("Signal") + std::to_string(signal.param);
                         });

// A state as an interrupted audit leaves it, made by keeping that of a complete one.
TEST_F(AuditCommand, AnEditedStateIsRefusedInWords) {
  write("s.jsonl", line("a", "red.png", "\"7\"") + line("b", "red.png", "\"8\""));
  json state = {{"format", "fovea-audit-state"}, {"version", 2}, {"fingerprint", json::object()}};
  for (const char* part : {"results", "facts", "problems"}) state[part] = json::object();
  write("o.json.state", state.dump());
  // The fingerprint says whose it is; without one it is another audit's, and this one begins anew.
  Outcome outcome = run(audit("--suite s.jsonl --compare sdpa --json o.json"));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("beginning anew"), std::string::npos) << outcome.err;
  state["version"] = 99;
  write("o.json.state", state.dump());
  expect_error(audit("--suite s.jsonl --compare sdpa --json o.json"),
               {"o.json.state", "a newer fovea", "99"});
  write("o.json.state", "my own notes");
  expect_error(audit("--suite s.jsonl --compare sdpa --json o.json"),
               {"o.json.state", "no state of an audit"});
  EXPECT_EQ(read(folder_ / "o.json.state"), "my own notes");
}

TEST_F(AuditCommand, NothingThatIsReadIsWrittenOver) {
  const std::string suite = line("a", "red.png", "\"7\"");
  write("s.jsonl", suite);
  fs::copy(kTiny, folder_ / "model", fs::copy_options::recursive);
  fs::create_symlink("s.jsonl", folder_ / "link");
  fs::create_hard_link(folder_ / "s.jsonl", folder_ / "hard");
  write("x.state", suite);
  const std::string picture = read(folder_ / "red.png"), config = read(folder_ / "model" / "config.json");
  const std::string eval = "eval -m model --suite s.jsonl --max-new-tokens 1 --json ";
  for (const char* out :
       {"s.jsonl", "./s.jsonl", "link", "hard", "red.png", "model/config.json", "model/model.safetensors"}) {
    expect_error(eval + out, {"--json", out, "is read"});
  }
  expect_error("eval -m model --suite x.state --max-new-tokens 1 --json x",
               {"state file of --json", "is read"});
  expect_error("audit -m model --suite s.jsonl --report s.jsonl", {"--report", "s.jsonl", "is read"});
  expect_error("audit -m model --suite s.jsonl --json a.out --report ./a.out", {"same file"});
  EXPECT_EQ(read(folder_ / "s.jsonl"), suite);
  EXPECT_EQ(read(folder_ / "red.png"), picture);
  EXPECT_EQ(read(folder_ / "model" / "config.json"), config);
}

TEST_F(AuditCommand, OtherCommandsDoNotWriteOverWhatTheyReadEither) {
  fs::copy(kTiny, folder_ / "model", fs::copy_options::recursive);
  const std::string weights = read(folder_ / "model" / "model.safetensors");
  write("m.json", R"([{"role": "user", "content": [{"type": "video", "video": ["red.png", "red.png"]}]}])");
  for (const char* out : {"model/model.safetensors", "red.png", "m.json"}) {
    expect_error(fmt::format("logits -m model --messages m.json --out {}", out), {"--out", out, "is read"});
  }
  expect_error("bench -m model --only nothing --json model/config.json", {"--json", "is read"});
  expect_error("quantize -m model --out ./model --force", {"--out", "is read"});
  EXPECT_EQ(read(folder_ / "model" / "model.safetensors"), weights);
  const std::string make = "suite make --kind easy --count 1 --out suite";
  ASSERT_EQ(run(make).exit_code, 0);
  write("suite/notes", "mine");
  expect_error(make, {"suite", "already exists", "--force"});
  EXPECT_TRUE(fs::exists(folder_ / "suite" / "notes"));
  EXPECT_EQ(run(make + " --force").exit_code, 0);
}

TEST_F(AuditCommand, WrongRequestsAreRefusedBeforeAnyWork) {
  write("s.jsonl", line("a", "red.png", "\"7\""));
  write("empty.jsonl", "");
  expect_error(audit("--suite missing.jsonl"), {"missing.jsonl"});
  expect_error(audit("--suite empty.jsonl"), {"empty.jsonl", "no record"});
  expect_error(audit("--suite s.jsonl --compare eager-bf16,eager-bf16"), {"twice"});
  expect_error(audit("--suite s.jsonl --compare eager-bf17"), {"eager-bf17"});
  expect_error(audit("--suite s.jsonl --compare \"sdpa:text.scores=bf16\""), {"scores"});
  expect_error(audit("--suite s.jsonl --attn eager"), {"--compare"});
  expect_error(audit("--suite s.jsonl --attribute flash-fp16"), {"flash-fp16", "--compare"});
  expect_error(audit("--suite s.jsonl --resume nothing.state"), {"nothing.state"});
  expect_error(audit("--suite s.jsonl --json /nowhere/o.json"), {"/nowhere/o.json"});
  write("all_bad.jsonl", line("x", "blue.png", "\"7\""));
  expect_error(audit("--suite all_bad.jsonl"), {"blue.png", "all_bad.jsonl:1"});
  write("damaged.png", "no picture");
  write("unaskable.jsonl", line("x", "damaged.png", "\"7\""));
  expect_error(audit("--suite unaskable.jsonl"), {"damaged.png"});
}

TEST_F(AuditCommand, HelpTeachesWithExamples) {
  for (const char* command : {"audit --help", "eval --help"}) {
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.exit_code, 0);
    for (const char* word : {"Examples:", "--suite", "--limit", "--json", "--resume"}) {
      EXPECT_NE(outcome.out.find(word), std::string::npos) << command << ": " << word;
    }
  }
}

}  // namespace
}  // namespace fovea
