// What of the page acts: commands that are offered for copying, and the script that copies them.
#include <cstdio>
#include <memory>

#include "report/report_testing.h"

namespace fovea {
namespace {

// What a command of the shell writes.
std::string output_of(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> shell(popen(command.c_str(), "r"), pclose);
  std::string text;
  for (int c = std::fgetc(shell.get()); c != EOF; c = std::fgetc(shell.get())) text += static_cast<char>(c);
  return text;
}

// What of a page can be copied into a shell.
std::vector<std::string> commands_of(const json& audit) {
  std::vector<std::string> commands;
  const pugi::xml_document document = parsed(html_report(audit));
  for (const auto& found : document.select_nodes("//pre[@class='command']/code")) {
    commands.push_back(found.node().text().get());
  }
  return commands;
}

// The words that sh makes of a command, one a line, without running it.
std::string words_in_shell(const std::string& command) { return output_of("printf '%s\\n' " + command); }

TEST(ReportCommands, OffersTheCommandThatMadeIt) {
  json audit = sample();
  audit["command"] = {"build/fovea",
                      "audit",
                      "--suite",
                      "it's; touch $HOME `id` \"&& |",
                      "--compare",
                      "eager-bf16:text.scores=fp32;text.scaled=fp32",
                      "*",
                      "~",
                      ""};
  const std::vector<std::string> commands = commands_of(audit);
  ASSERT_EQ(commands.size(), 2u);
  EXPECT_EQ(commands[0], "build/fovea chat -m models/fovea-demo --preset flash-bf16");
  std::string words;
  for (const json& word : audit["command"]) words += word.get<std::string>() + "\n";
  EXPECT_EQ(words_in_shell(commands[1]), words);
}

TEST(ReportCommands, OffersNoCommandOfAnother) {
  const json sound = {"fovea", "audit", "--suite", "s"};
  json audit = sample();
  audit["command"] = sound;
  EXPECT_EQ(commands_of(audit).size(), 2u);
  for (const json& command :
       {json("fovea audit; rm -rf x"), json{"rm", "-rf", "x"}, json{"sh", "audit", "x"},
        json{"fovea", "quantize", "x"}, json{"fovea", "audit", 3}, json{"fovea", "audit", "a\nrm x\n"},
        json{"fovea", "audit", "a\x1B[2J"}, json{"fovea", "audit", "a\u202Eb"},
        json{"fovea", "audit", "a\u2066b"}, json{"python3", "-m", "fovea.probe", "x"}, json::object(),
        json::array(), json()}) {
    audit["command"] = command;
    EXPECT_EQ(commands_of(audit).size(), 1u) << command;
  }
  audit["command"] = sound;
  audit["recommended"]["flags"] = "--preset 'x'; touch \"y\"";
  EXPECT_EQ(words_in_shell(commands_of(audit)[0]),
            "fovea\nchat\n-m\nmodels/fovea-demo\n--preset\n'x';\ntouch\n\"y\"\n");
  audit["made_by"] = "fovea.probe";
  audit["command"] = {"python3", "-m", "fovea.probe", "x"};
  EXPECT_EQ(commands_of(audit)[1], "python3 -m fovea.probe x");
}

// What a browser may do with the page: its own style and script, whose digests are those of the text in it.
TEST(ReportCommands, AllowsItsOwnScriptAlone) {
  const std::string html = html_report(sample());
  const pugi::xml_document document = parsed(html);
  const std::string policy = document.select_node("//meta[@http-equiv='Content-Security-Policy']")
                                 .node()
                                 .attribute("content")
                                 .value();
  const auto between = [&](const std::string& open, const std::string& close) {
    const size_t from = html.find(open) + open.size();
    return html.substr(from, html.find(close, from) - from);
  };
  const auto digest = [](const std::string& text) {
    const std::string file = testing::TempDir() + "fovea_report_digest";
    std::ofstream(file, std::ios::binary) << text;
    const std::string hex = output_of("sha256sum " + file);
    std::string bytes;
    for (size_t i = 0; i < 64; i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    return base64(bytes);
  };
  EXPECT_EQ(policy, "default-src 'none'; style-src 'sha256-" + digest(between("<style>", "</style>")) +
                        "'; script-src 'sha256-" + digest(between("<script>", "</script>")) +
                        "'; img-src data:; base-uri 'none'; form-action 'none'");
  EXPECT_LT(html.find("Content-Security-Policy"), html.find("<style>"));
}

}  // namespace
}  // namespace fovea
