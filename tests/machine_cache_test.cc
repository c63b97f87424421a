// Goal: what is kept of a machine between runs of `fovea advise` is believed only where it makes sense, and
// advice never depends on whether it can be kept. Method: files that are damaged, old or absurd; folders that
// cannot be written; the program with each.
#include "advise/machine_cache.h"

#include <nlohmann/json.hpp>

#include "command_line_testing.h"

namespace fovea {
namespace {

using nlohmann::ordered_json;

class MachineCache : public CommandLineTest {
 protected:
  std::filesystem::path file() const { return folder_ / "fovea" / "machine.json"; }
  static Measured measured() { return {{40, 470, 234, 940}, "2026-12-01 05:40 UTC", 0.25}; }
  ordered_json kept() const { return ordered_json::parse(read(file())); }
  // What is read after `change` was made to the entry of "mine".
  template <typename Change>
  std::pair<std::optional<Measured>, std::string> read_after(Change change) const {
    EXPECT_EQ(keep_measured(file(), "mine", measured()), "");
    ordered_json json = kept();
    change(json["machines"]["mine"]);
    write(file(), json.dump());
    std::string note;
    const auto found = read_measured(file(), "mine", note);
    return {found, note};
  }
  Outcome advise(const std::string& environment, const std::string& flags = "--json") const {
    return run(fmt::format("advise -m {} --ram 1G {}", kTiny, flags), environment);
  }
};

TEST_F(MachineCache, KeepsWhatItWasGiven) {
  std::string note;
  EXPECT_FALSE(read_measured(file(), "mine", note));
  EXPECT_EQ(note, "");
  ASSERT_EQ(keep_measured(file(), "mine", measured()), "");
  ASSERT_EQ(keep_measured(file(), "other", measured()), "");
  const auto found = read_measured(file(), "mine", note);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->limits.bf16_gflops, 470);
  EXPECT_EQ(found->when, "2026-12-01 05:40 UTC");
  EXPECT_EQ(found->load, 0.25);
  EXPECT_EQ(note, "");
  EXPECT_EQ(kept()["machines"].size(), 2u);
}

TEST_F(MachineCache, BelievesNoNonsense) {
  for (const ordered_json& value :
       {ordered_json(1e300), ordered_json(0), ordered_json(-3), ordered_json("fast"), ordered_json(),
        ordered_json::array(), ordered_json(1e-9)}) {
    const auto [found, note] = read_after([&](ordered_json& entry) { entry["read_gbps"] = value; });
    EXPECT_FALSE(found) << value;
    EXPECT_NE(note.find("makes no sense"), std::string::npos) << note;
  }
  EXPECT_FALSE(read_after([](ordered_json& entry) { entry.erase("load"); }).first);
  EXPECT_FALSE(read_after([](ordered_json& entry) { entry["load"] = -1; }).first);
  EXPECT_FALSE(read_after([](ordered_json& entry) { entry["when"] = 7; }).first);
  EXPECT_FALSE(read_after([](ordered_json& entry) { entry["when"] = std::string(5000, 'x'); }).first);
  EXPECT_FALSE(read_after([](ordered_json& entry) { entry = 3; }).first);
  EXPECT_TRUE(read_after([](ordered_json& entry) { entry["more"] = 3; }).first);
}

TEST_F(MachineCache, SaysWhatIsWrongWithTheFile) {
  std::filesystem::create_directories(file().parent_path());
  const std::string old =
      R"({"mine": {"read_gbps": 40, "bf16_gflops": 470, "fp32_gflops": 234, "int8_gops": 940}})";
  const std::pair<std::string, const char*> files[] = {
      {"{ broken", "cannot be read as JSON"},
      {"", "cannot be read as JSON"},
      {"[1, 2]", "cannot be read as JSON"},
      {std::string(2 << 20, '['), "cannot be read as JSON"},
      {R"({"version": 1e999})", "cannot be read as JSON"},
      {old, "another version"},
      {R"({"version": 3, "machines": {}})", "another version"},
      {R"({"version": 2, "machines": 7})", "another version"}};
  for (const auto& [text, words] : files) {
    write(file(), text);
    std::string note;
    EXPECT_FALSE(read_measured(file(), "mine", note)) << text.substr(0, 50);
    EXPECT_NE(note.find(words), std::string::npos) << text.substr(0, 50) << "\n" << note;
  }
  ASSERT_EQ(keep_measured(file(), "mine", measured()), "");  // replaces it
  EXPECT_EQ(kept()["machines"].size(), 1u);
}

TEST_F(MachineCache, LimitsOfABusyMachineAreDoubtedOrMeasuredAgain) {
  Machine machine;
  machine.processors = 8;
  EXPECT_FALSE(machine.busy_at(1.9));
  EXPECT_TRUE(machine.busy_at(2.1));
  const Machine here = this_machine("", false);
  EXPECT_GT(here.measured.limits.read_gbps, 0);
  EXPECT_EQ(here.measured.when.size(), std::string("2026-12-01 05:40 UTC").size());
  Measured busy = measured();
  busy.load = 1e5;
  ASSERT_EQ(keep_measured(file(), here.key(), busy), "");
  const Machine again = this_machine(file(), false);
  const bool kept_it = again.measured.when == busy.when;
  if (kept_it) {
    ASSERT_FALSE(again.notes.empty());
    EXPECT_NE(again.notes.back().find("doubtful"), std::string::npos);
    EXPECT_NE(again.notes.back().find("--remeasure"), std::string::npos);
  } else {
    EXPECT_LT(again.measured.load, busy.load);
  }
  Measured quiet = measured();
  quiet.load = 0;
  ASSERT_EQ(keep_measured(file(), here.key(), quiet), "");
  EXPECT_EQ(this_machine(file(), false).measured.when, quiet.when);
  EXPECT_TRUE(this_machine(file(), false).notes.empty());
}

TEST_F(MachineCache, AdviceIsGivenWhereNothingCanBeKept) {
  for (const char* environment : {"XDG_CACHE_HOME=/dev/null", "env -u HOME -u XDG_CACHE_HOME"}) {
    const Outcome outcome = advise(environment);
    ASSERT_EQ(outcome.exit_code, 0) << environment << outcome.err;
    const auto json = nlohmann::json::parse(outcome.out);
    EXPECT_GT(json["machine"]["read_gbps"].get<double>(), 0);
    EXPECT_NE(json["machine"]["notes"].dump().find("measured again every time"), std::string::npos)
        << outcome.out;
  }
}

TEST_F(MachineCache, AdviceIsGivenBesideAnAbsurdFile) {
  std::filesystem::create_directories(file().parent_path());
  write(file(), R"({"version": 2, "machines": [{"read_gbps": "many"}]})");
  const Outcome outcome = advise("XDG_CACHE_HOME=" + folder_.string(), "");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("note: "), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("another version of fovea: the limits were measured again"), std::string::npos);
  EXPECT_NE(outcome.out.find("(measured 20"), std::string::npos) << outcome.out;
  EXPECT_EQ(kept()["version"], 2);
  EXPECT_EQ(kept()["machines"].size(), 1u);
}

}  // namespace
}  // namespace fovea
