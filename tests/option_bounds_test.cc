// Goal: no number on the command line or in the environment overflows, is taken for another one, or is
// printed at length; no empty path gets further than the parser. Method: every option that the help of a
// command shows with a number or a path is given a value that makes no sense, one of each type all such
// values; all are refused as a wrong use, in words.
#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "command_line_testing.h"

namespace fovea {
namespace {

class OptionBounds : public CommandLineTest {
 protected:
  struct Shown {
    std::string name, type;
  };
  // The options of a command whose values are shown as one of `types`: "N|R".
  std::vector<Shown> options_of(const std::string& command, const std::string& types) const {
    const std::string help = run(command + " --help", "COLUMNS=100").out;
    const std::regex form("\n  (?:-\\w, )?(--[a-z-]+) (" + types + ")(?=[ \n])");
    std::vector<Shown> options;
    for (std::sregex_iterator match(help.begin(), help.end(), form), end; match != end; ++match)
      options.push_back({(*match)[1], (*match)[2]});
    return options;
  }
  void expect_usage_error(const std::string& arguments, const std::vector<std::string>& words) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments << "\n" << outcome.err;
    EXPECT_LT(outcome.err.size(), 400u) << outcome.err;
    for (const std::string& word : words)
      EXPECT_NE(outcome.err.find(word), std::string::npos) << arguments << ": no " << word << " in\n"
                                                           << outcome.err;
  }
};

// What a command needs besides, so that nothing but the number is wrong.
const std::pair<const char*, const char*> kCommands[] = {{"run", "-m x hello"},
                                                         {"logits", "-m x --out y hello"},
                                                         {"eval", "-m x --suite y"},
                                                         {"audit", "-m x --suite y"},
                                                         {"plan", "-m x"},
                                                         {"advise", "-m x"},
                                                         {"bench", ""},
                                                         {"quantize", "-m x --out y"},
                                                         {"synth", "--config 3b --out y"},
                                                         {"suite make", "--kind easy --out y"}};

// Every option in every command refuses a number that nothing but its bounds refuses; the first of each type
// refuses whatever else is no number, which is the work of the one reader that they share.
TEST_F(OptionBounds, EveryNumberIsCheckedInEveryCommand) {
  const std::vector<std::string> nonsense = {
      "many", "nan", "inf", std::string(308, '9'), "1e400", "99999999999999999999", "3x", "''"};
  std::set<std::string> types;
  size_t checked = 0;
  for (const auto& [command, needed] : kCommands) {
    for (const auto& [option, type] : options_of(command, "N|R|S|T|P|K|F|SHARE")) {
      // Those of a suite may be ranges; the generator reads them.
      const bool range =
          std::string_view(command) == "suite make" && option != "--count" && option != "--seed";
      std::vector<std::string> values = {"-7"};
      if (types.insert(range ? type + " as a range" : type).second)
        values.insert(values.end(), nonsense.begin(), nonsense.end());
      for (const std::string& value : values) {
        const std::string arguments = fmt::format("{} {} {}={}", command, needed, option, value);
        const Outcome outcome = run(arguments);
        EXPECT_EQ(outcome.exit_code, range && value != "''" ? 1 : 2) << arguments << "\n" << outcome.err;
        EXPECT_LT(outcome.err.size(), 600u) << outcome.err;
        EXPECT_NE(outcome.err.find(option), std::string::npos) << arguments << "\n" << outcome.err;
        EXPECT_EQ(outcome.err.find("internal error"), std::string::npos) << arguments << "\n" << outcome.err;
      }
      ++checked;
    }
  }
  EXPECT_GE(checked, 50u);
  EXPECT_EQ(types.size(), 11u);  // the eight above, and T, K and F as ranges
}

TEST_F(OptionBounds, WordsNameTheBounds) {
  expect_usage_error("run -m x hello -n -1",
                     {"--max-new-tokens: '-1' is not a whole number from 0 to 2147483647"});
  expect_usage_error("plan -m x -n 9223372036854775807", {"--max-new-tokens"});
  expect_usage_error("plan -m x --ranks 0", {"--ranks: '0' is not a whole number from 1 to 65536"});
  expect_usage_error("eval -m x --suite y --threads 1025", {"from 1 to 1024"});
  expect_usage_error("run -m x hello --top-p 0", {"--top-p: '0' is not a number above 0 and up to 1"});
  expect_usage_error("run -m x hello --temperature=-0.5", {"from 0 to 1000000"});
  expect_usage_error("audit -m x --suite y --image-budgets 64,-1", {"--image-budgets", "'-1'"});
  expect_usage_error("synth --config 3b --out y --seed 18446744073709551616", {"18446744073709551615"});
}

TEST_F(OptionBounds, WhatIsWithinThemIsTaken) {
  for (const char* flags :
       {"--seed 18446744073709551615 --temperature 1e-3", "--temperature 1000000 --top-k 0",
        "--repetition-penalty 0.5", "--prefill-chunk 2147483647", "--max-pixels 2147483647"})
    EXPECT_EQ(run(fmt::format("run -m {} -n 2 hello {}", kTiny, flags)).exit_code, 0) << flags;
}

TEST_F(OptionBounds, SizesAreAmountsOfMemory) {
  const std::string spaces = "'4" + std::string(100000, ' ') + "G'";
  for (const std::string& size :
       {std::string("-1G"), std::string("1e9"), std::string("0"), std::string("nan"),
        std::string("999999999T"), std::string(308, '9'), spaces}) {
    for (const char* option : {"--ram", "--vision-budget"}) {
      const Outcome outcome = run(fmt::format("plan -m {} --context 100 {}={}", kTiny, option, size));
      EXPECT_EQ(outcome.exit_code, 1) << option << " " << size.substr(0, 40) << outcome.err;
      EXPECT_NE(outcome.err.find("is no amount of memory"), std::string::npos) << outcome.err;
      EXPECT_LT(outcome.err.size(), 300u) << outcome.err;
    }
  }
}

TEST_F(OptionBounds, NoPathIsEmpty) {
  size_t checked = 0;
  for (const auto& [command, needed] : kCommands) {
    for (const auto& [option, type] : options_of(command, "[A-Z|a-z./]*(?:FILE|DIR)[A-Z|a-z./]*")) {
      std::string others = needed;  // without a second value of the option itself
      for (const char* given : {"-m x", "--out y", "--suite y"}) {
        const bool same = std::string_view(given).substr(0, 3) == "-m "
                              ? option == "--model"
                              : std::string_view(given).starts_with(option);
        if (same && others.find(given) != std::string::npos)
          others.erase(others.find(given), std::string_view(given).size());
      }
      expect_usage_error(fmt::format("{} {} {} ''", command, others, option), {option, "names no file"});
      ++checked;
    }
  }
  EXPECT_GE(checked, 20u);
}

TEST_F(OptionBounds, ThreadsOfTheEnvironment) {
  const std::string command = ask("--json hello");
  for (const char* value : {"100000", "0", "-3", "many", "1025", "9999999999999999999", "3,2"}) {
    const Outcome outcome = run(command, fmt::format("OMP_NUM_THREADS={}", value));
    EXPECT_EQ(outcome.exit_code, 1) << value << outcome.err;
    EXPECT_NE(outcome.err.find(fmt::format("OMP_NUM_THREADS={}", value)), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find("1 to 1024"), std::string::npos) << outcome.err;
  }
  const Outcome three = run(command, "OMP_NUM_THREADS=3");
  ASSERT_EQ(three.exit_code, 0) << three.err;
  EXPECT_EQ(nlohmann::json::parse(three.out)["threads"], 3);
  EXPECT_EQ(run(command, "OMP_NUM_THREADS=").exit_code, 0);
  EXPECT_EQ(run("--help", "OMP_NUM_THREADS=100000").exit_code, 0);
}

TEST_F(OptionBounds, TemporaryFoldersThatAreNone) {
  for (const char* value : {"/nonexistent", "", "/dev/null"}) {
    const Outcome outcome = run(ask("hello --kv-offload"), fmt::format("TMPDIR={}", value));
    EXPECT_EQ(outcome.exit_code, 1) << value << outcome.err;
    EXPECT_NE(outcome.err.find("TMPDIR in the environment names no folder"), std::string::npos)
        << outcome.err;
  }
}

}  // namespace
}  // namespace fovea
