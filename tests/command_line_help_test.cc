// Goal: who does not know the command line is helped: help that fits the terminal, the words that were meant,
// the names that other programs use. Method: run the built program.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "command_line_testing.h"

namespace fovea {
namespace {

constexpr const char* kCommands[] = {"run",    "audit",   "eval",     "inspect",    "synth",
                                     "logits", "presets", "suite",    "suite make", "bench",
                                     "plan",   "advise",  "quantize", "report"};

class Help : public CommandLineTest {
 protected:
  std::string help_of(const std::string& command, int columns = 80) const {
    const Outcome outcome = run(command + " --help", fmt::format("COLUMNS={}", columns));
    EXPECT_EQ(outcome.exit_code, 0) << command << outcome.err;
    return outcome.out;
  }
  std::vector<int> ids_of(const std::string& arguments, const std::string& redirections = "") const {
    const Outcome outcome = run(arguments, "", redirections);
    EXPECT_EQ(outcome.exit_code, 0) << arguments << "\n" << outcome.err;
    return outcome.exit_code == 0 ? nlohmann::json::parse(outcome.out)["token_ids"].get<std::vector<int>>()
                                  : std::vector<int>();
  }
  void expect_refused(const std::string& arguments, int exit_code,
                      const std::vector<std::string>& words) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, exit_code) << arguments << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find("remedy: "), std::string::npos) << outcome.err;
    for (const std::string& word : words)
      EXPECT_NE(outcome.err.find(word), std::string::npos) << arguments << ": no " << word << " in\n"
                                                           << outcome.err;
  }
};

TEST_F(Help, FitsTheTerminal) {
  for (const char* command : kCommands) {
    for (const int columns : {60, 80, 100}) {
      std::istringstream lines(help_of(command, columns));
      bool description = true;  // examples and tables, behind the options, keep their lines
      for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("Examples") || line.starts_with("Nodes")) description = false;
        if (!description) continue;
        const std::string first = line.substr(std::min(line.find_first_not_of(' '), line.size()));
        if (first.find(' ') == std::string::npos) continue;  // one word, which cannot be wrapped
        if (line.starts_with("  -") || line.starts_with("Usage")) continue;  // a name and its values
        EXPECT_LE(static_cast<int>(line.size()), columns) << command << ": " << line;
      }
    }
  }
}

TEST_F(Help, IsGroupedWithTheCommonOptionsFirst) {
  const std::string text = help_of("run", 120);
  size_t at = 0;
  for (const char* heading : {"\nCommon options\n", "\nPrecision\n", "\nPictures and videos\n", "\nMemory\n",
                              "\nConversation\n", "\nSampling and ending\n"}) {
    EXPECT_NE(text.find(heading), std::string::npos) << heading;
    if (at == 0) at = text.find(heading);
    EXPECT_LE(at, text.find(heading)) << heading;
  }
  const std::string common = text.substr(at, text.find("\n\n", at) - at);
  for (const char* option :
       {"-m, --model DIR", "--image FILE", "-p, --prompt TEXT", "-n, --max-new-tokens N", "-t, --threads N",
        "-q, --quiet", "-v, --verbose", "-h, --help", "--json", "--ram SIZE"})
    EXPECT_NE(common.find(option), std::string::npos) << option << common;
  EXPECT_EQ(text.find("\nOptions\n"), std::string::npos) << text;
  for (const char* shown :
       {"(default: 512)", "(default: auto)", "(also --temp)", "eager|sdpa|flash_attention_2"})
    EXPECT_NE(text.find(shown), std::string::npos) << shown;
}

TEST_F(Help, SaysWhatWasMeant) {
  expect_refused("rum -m x hello", 2, {"'rum'", "did you mean fovea run?"});
  expect_refused("inspct -m x", 2, {"did you mean fovea inspect?"});
  expect_refused("suite mke", 2, {"'mke'", "did you mean fovea suite make?"});
  expect_refused("run -m x --max_new_tokens 4 hello", 2,
                 {"'--max_new_tokens'", "did you mean --max-new-tokens?"});
  expect_refused("run --modle x hello", 2, {"fovea run has no option '--modle'", "--model?"});
  expect_refused("plan -m x --contxt=100", 2, {"fovea plan has no option '--contxt'", "--context?"});
  expect_refused("suite make --kind easy --out x --coutn 3", 2,
                 {"fovea suite make has no option", "--count?"});
  expect_refused("run -m x hello --xyzzy 3", 2, {"'--xyzzy'", "fovea run --help"});
  expect_refused("run -m x hello --attn flash_atention_2", 2,
                 {"'flash_atention_2'", "did you mean flash_attention_2?"});
  expect_refused("run -m x hello --dtype bf61", 2, {"none of fp32, bf16, fp16", "did you mean bf16?"});
  expect_refused("run -m x hello --guard wran", 2, {"did you mean warn?"});
  expect_refused("advise -m x --prefer through", 2, {"did you mean throughput?"});
  expect_refused("run -m x hello --ctx-size 4096", 2, {"fovea plan"});
  const Outcome far = run("run -m x hello --guard perhaps");
  EXPECT_EQ(far.err.find("did you mean"), std::string::npos) << far.err;
}

TEST_F(Help, OtherNamesMeanTheSame) {
  const std::string plain = fmt::format("run -m {} --json --ignore-eos ", kTiny);
  const auto expected =
      ids_of(plain + "--greedy --max-new-tokens 5 --dtype bf16 --attn flash_attention_2 hello");
  ASSERT_EQ(expected.size(), 5u);
  for (const char* other :
       {"--greedy -n 5 --dtype bfloat16 -p hello", "--temp 0 --max-tokens 5 --prompt hello --dtype bf16",
        "--greedy --n-predict 5 --attn flash-attention-2 -t 1 hello --torch-dtype bfloat16"})
    EXPECT_EQ(ids_of(plain + other), expected) << other;
  for (const char* half : {"fp16", "float16", "half"}) {
    const Outcome outcome = run(plain + "--greedy -n 1 hello --torch-dtype " + half);
    EXPECT_EQ(nlohmann::json::parse(outcome.out)["dtype"], "fp16") << half;
  }
  EXPECT_EQ(nlohmann::json::parse(run(plain + "-n 1 hello --dtype float32").out)["dtype"], "fp32");
  const auto sampled = ids_of(plain + "--temperature 2 --seed 7 --repetition-penalty 1.3 -n 9 hello");
  EXPECT_EQ(ids_of(plain + "--temp 2 -s 7 --repeat-penalty 1.3 -n 9 hello"), sampled);
}

TEST_F(Help, SeveralPicturesFollowOneOption) {
  for (const char* name : {"a.png", "b.PNG", "c"}) std::filesystem::copy_file(kPicture, folder_ / name);
  const std::string in = fmt::format("cd {} &&", folder_.string());
  const auto sources = [&](const std::string& arguments) {
    const Outcome outcome = run(ask("--json " + arguments), in);
    EXPECT_EQ(outcome.exit_code, 0) << arguments << "\n" << outcome.err;
    std::string names;
    if (outcome.exit_code != 0) return names;
    const auto answer = nlohmann::json::parse(outcome.out);
    for (const auto& image : answer["images"]) names += image["source"].get<std::string>() + " ";
    return names;
  };
  EXPECT_EQ(sources("--image a.png b.PNG What?"), "a.png b.PNG ");
  EXPECT_EQ(sources("--image a.png c 'Is <image> like <image>?'"), "a.png c ");
  EXPECT_EQ(sources("What? --image b.PNG a.png"), "b.PNG a.png ");
  EXPECT_EQ(sources("--image c b.PNG --image a.png What?"), "c b.PNG a.png ");
  EXPECT_EQ(sources("-p What? --image c a.png"), "c a.png ");
  EXPECT_EQ(sources("--image=a.png What? --image c"), "a.png c ");
  const auto refused = [&](const std::string& arguments, const std::vector<std::string>& words) {
    const Outcome outcome = run(ask(arguments), in);
    EXPECT_EQ(outcome.exit_code, 1) << arguments;
    for (const std::string& word : words)
      EXPECT_NE(outcome.err.find(word), std::string::npos) << arguments << "\n" << outcome.err;
  };
  refused("--image a.png c", {"there is no prompt", "'c' is taken as a further picture", "-p"});
  refused("--image a.png missing.jpeg What?", {"missing.jpeg"});
  refused("--image a.png What is this?", {"two prompts: 'What' and 'is'", "quotes"});
  refused("a.png What?", {"two prompts", "behind --image"});
  refused("-p What? why", {"two prompts: 'What?' and 'why'"});
  const Outcome alone = run(ask("c"), in);
  EXPECT_EQ(alone.exit_code, 0);
  EXPECT_NE(alone.err.find("the prompt is 'c', the name of a file"), std::string::npos) << alone.err;
}

TEST_F(Help, ThePromptMayComeFromStandardInput) {
  const std::string plain = ask("--json ");
  const auto expected = ids_of(plain + "'What is this?'");
  write(folder_ / "prompt.txt", "What is this?\n");
  const std::string from_file = fmt::format("<{}", (folder_ / "prompt.txt").string());
  EXPECT_EQ(ids_of(plain, from_file), expected);
  EXPECT_EQ(ids_of(plain + "-", from_file), expected);
  EXPECT_EQ(ids_of(plain + "-p -", from_file), expected);
  EXPECT_EQ(ids_of(plain + "'What is this?'", fmt::format("<{}", kPicture)), expected);  // not read
  const std::string out = (folder_ / "piped").string();
  ASSERT_EQ(
      std::system(fmt::format("echo 'What is this?' | {} {} >{} 2>&1", FOVEA_PROGRAM, plain, out).c_str()),
      0);
  EXPECT_NE(read(out).find("\"prompt_tokens\""), std::string::npos);
  expect_refused(plain, 1, {"there is no prompt", "standard input"});
  expect_refused(plain + "-", 1, {"there is no prompt"});
  const Outcome closed = run(plain + "-", "", "<&-");
  EXPECT_EQ(closed.exit_code, 1);
  EXPECT_NE(closed.err.find("cannot read standard input"), std::string::npos) << closed.err;
}

TEST_F(Help, QuietAndVerbose) {
  const std::string picture = fmt::format("--image {} What?", kPicture);
  const Outcome usual = run(ask(picture)), quiet = run(ask("-q " + picture)),
                verbose = run(ask("-v " + picture));
  EXPECT_EQ(usual.out, quiet.out);
  EXPECT_EQ(usual.out, verbose.out);
  EXPECT_EQ(quiet.err, "");
  for (const char* word : {"tokens", "of pictures", "/s; answer 4 tokens, ", "peak ", "finish: length"})
    EXPECT_NE(usual.err.find(word), std::string::npos) << word << " in " << usual.err;
  EXPECT_EQ(usual.err.find("0.00 s"), std::string::npos) << usual.err;
  EXPECT_EQ(usual.err.find("kernels"), std::string::npos) << usual.err;
  for (const char* word :
       {"kernels", "threads", "attention flash_attention_2", "greedy", "weights stored as"})
    EXPECT_NE(verbose.err.find(word), std::string::npos) << word << " in " << verbose.err;
  // A warning is no note.
  const Outcome warned = run(ask("-q --max-total-image-tokens 8 " + picture));
  EXPECT_NE(warned.err.find("warning"), std::string::npos) << warned.err;
  EXPECT_EQ(run(ask("-q -v hello")).exit_code, 2);
}

}  // namespace
}  // namespace fovea
