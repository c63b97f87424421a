// Goal: `fovea eval`, `audit` and `run` give with several ranks what they give with one, in one output; a
// rank that fails ends all. Method: the program under mpirun on the demo model; equality of everything but
// times and memory.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "checkpoint/weight_groups.h"
#include "ranks_program_testing.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::string kDemo = std::string(FOVEA_SOURCE_DIR) + "/models/fovea-demo";

class ZeroProgram : public RanksProgram {};

TEST_F(ZeroProgram, RanksShareASuite) {
  const std::string suite = (folder_ / "suite").string(), file = (folder_ / "result.json").string();
  ASSERT_EQ(run(0, "suite make --kind mixed --count 5 --tokens 30-60 --images 2 --seed 3 --out " + suite), 0);
  const std::string eval = "eval -m " + kDemo + " --suite " + suite + " --max-new-tokens 6 --json " + file;
  ASSERT_EQ(run(0, eval), 0) << read("err");
  const std::string text = read("out");
  const auto result = [&] { return json::parse(read("result.json")); };
  const json expected = without_times(result());
  const Checkpoint checkpoint = Checkpoint::open(kDemo);
  const WeightGroups groups(checkpoint);
  const int64_t all = groups.total(groups.vision()) + groups.total(groups.text());
  const int64_t layer = std::max(groups.largest(groups.text()), groups.largest(groups.vision()));
  for (int ranks = 1; ranks <= 4; ++ranks) {
    ASSERT_EQ(run(ranks, eval + " --zero-stage 3"), 0) << read("err");
    const json shared = result();
    EXPECT_EQ(without_times(shared), expected);
    ASSERT_EQ(shared["ranks"].size(), static_cast<size_t>(ranks));
    for (const json& rank : shared["ranks"]) {
      EXPECT_LE(rank["share_bytes"].get<int64_t>() + rank["buffer_bytes"].get<int64_t>(),
                all / ranks + 2 * layer);
      EXPECT_GT(rank["fetched_bytes"], 0);  // every rank had a question
    }
    EXPECT_EQ(read("out").substr(0, 40), text.substr(0, 40));
    EXPECT_NE(read("err").find("rank 0: weights in memory"), std::string::npos);
  }
}

TEST_F(ZeroProgram, RanksShareAnAuditThatChoosesItsQuestions) {
  const std::string suite = (folder_ / "suite").string(), file = (folder_ / "result.json").string();
  ASSERT_EQ(run(0, "suite make --kind easy --count 4 --seed 5 --out " + suite), 0);
  const std::string audit = "audit -m " + kDemo + " --suite " + suite +
                            " --compare eager-bf16,sdpa --max-new-tokens 4 --search --json " + file;
  ASSERT_EQ(run(0, audit), 0) << read("err");
  const json expected = without_times(json::parse(read("result.json")));
  ASSERT_EQ(run(3, audit + " --zero-stage 3"), 0) << read("err");
  const json shared = without_times(json::parse(read("result.json")));
  for (const char* part : {"configurations", "suite", "search", "reference"}) {
    EXPECT_EQ(shared[part], expected[part]) << part;
  }
}

// The ranks are told, not mpirun, which gives them one second to end.
TEST_F(ZeroProgram, AnInterruptKeepsWhatWasAnswered) {
  const std::string suite = (folder_ / "suite").string(), file = (folder_ / "result.json").string();
  ASSERT_EQ(run(0, "suite make --kind long-context --count 2000 --tokens 300 --seed 5 --out " + suite), 0);
  for (const std::string& way : {std::string(" --zero-stage 3"), std::string(" --device-map auto")}) {
    const std::string eval = "eval -m " + kDemo + " --suite " + suite + " --json " + file + way;
    std::jthread user([&] {
      while (ranks().size() < 2) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      std::this_thread::sleep_for(std::chrono::seconds(4));
      for (const pid_t rank : ranks()) kill(rank, SIGTERM);
    });
    EXPECT_NE(run(2, eval), 0) << "it ended before";
    EXPECT_NE(read("err").find("stopped; continue"), std::string::npos) << way << ": " << read("err");
    EXPECT_TRUE(fs::exists(file + ".state"));
    fs::remove(file + ".state");
  }
}

TEST_F(ZeroProgram, OneRankAnswersFromTheMemoryOfAll) {
  const std::string ask = "run -m " + kDemo + " --json --greedy --ignore-eos --max-new-tokens 8 hello";
  ASSERT_EQ(run(0, ask), 0);
  const json expected = json::parse(read("out"));
  ASSERT_EQ(run(3, ask + " --zero-stage 3"), 0) << read("err");
  const json shared = json::parse(read("out"));  // of one rank
  EXPECT_EQ(shared["token_ids"], expected["token_ids"]);
  EXPECT_LT(shared["weights"]["share_bytes"].get<int64_t>(),
            expected["weights"]["bytes"].get<int64_t>() / 3 + 1000);
}

// The bounds are those of docs/measurements/plan.md for every plan.
TEST_F(ZeroProgram, ThePlanOfARankIsNearWhatItOccupies) {
  ASSERT_EQ(run(0, "plan -m " + kDemo + " --json --ranks 2 --context 28 --max-new-tokens 8"), 0);
  const json plan = json::parse(read("out"));
  EXPECT_EQ(plan["ranks"], 2);
  ASSERT_EQ(
      run(2, "run -m " + kDemo + " --json --greedy --ignore-eos --max-new-tokens 8 --zero-stage 3 hello"), 0)
      << read("err");
  const json ran = json::parse(read("out"));
  EXPECT_EQ(ran["weights"]["share_bytes"], plan["parts"]["weight_share"]["bytes"]) << ran["weights"];
  const double difference = plan["peak_bytes"].get<double>() / ran["peak_memory_bytes"].get<double>() - 1;
  EXPECT_GT(difference, -0.03) << plan;
  EXPECT_LT(difference, 0.10) << plan;
}

TEST_F(ZeroProgram, AFailureEndsAllRanksWithOneMessage) {
  const fs::path model = folder_ / "model";
  fs::copy(kDemo, model, fs::copy_options::recursive);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_NE(run(3, "run -m " + model.string() + " --zero-stage 3 --image /nowhere.png hello"), 0);
  EXPECT_NE(read("err").find("/nowhere.png"), std::string::npos) << read("err");
  EXPECT_NE(run(2, "run -m " + model.string() + " hello"), 0);
  EXPECT_NE(read("err").find("--zero-stage 3"), std::string::npos) << read("err");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

}  // namespace
}  // namespace fovea
