// Goal: when a rank dies or the user interrupts, every rank ends within seconds, the launcher says so, and
// nothing stays behind. Method: the program under mpirun in the middle of an answer too long to end by
// itself, on a folder of its own, by whose name its processes are found; then a signal, a shorter file of
// weights, or a disk that fails (failing_read.cc).
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <set>
#include <thread>

#include "ranks_program_testing.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

constexpr auto kEnd = std::chrono::seconds(10), kProgress = std::chrono::seconds(180);

class RankFaults : public RanksProgram, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(RanksProgram::SetUp());
    if (IsSkipped()) return;
    model_ = folder_ / "model";
    fs::copy(fs::path(FOVEA_SOURCE_DIR) / "models" / "fovea-demo", model_);
    // Where Open MPI puts what ranks of one host share, in place of /dev/shm, which other programs use too.
    fs::create_directory(folder_ / "shared");
    for (const char* name : {"OMPI_MCA_btl_vader_backing_directory",  // Open MPI 4 and 5
                             "OMPI_MCA_btl_sm_backing_directory"}) {
      setenv(name, (folder_ / "shared").c_str(), 1);
    }
    start();
  }
  void TearDown() override {
    if (launcher_ > 0) {  // a test that failed
      kill(launcher_, SIGKILL);
      for (const pid_t rank : ranks()) kill(rank, SIGKILL);
    }
    RanksProgram::TearDown();
  }

  // Three ranks, until the answer has begun.
  void start() {
    const std::string command =
        "exec " + command_of(3, fmt::format("run -m {} --greedy --ignore-eos --max-new-tokens 30000 {} hello",
                                            model_.string(), GetParam()));
    launcher_ = fork();
    if (launcher_ == 0) {
      execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      _exit(127);
    }
    ASSERT_NO_FATAL_FAILURE(await_output(1));
  }

  // Waits for so many bytes of the answer, however slow the machine: a hang alone takes this long.
  void await_output(size_t bytes) {
    const auto begin = steady_clock::now();
    while (read("out").size() < bytes) {
      ASSERT_LT(steady_clock::now() - begin, kProgress) << read("err");
      ASSERT_EQ(waitpid(launcher_, nullptr, WNOHANG), 0) << read("err");
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  // Exit code of the launcher, which has to end in time, with all ranks.
  int ended() {
    const auto begin = steady_clock::now();
    int status = 0;
    while (waitpid(launcher_, &status, WNOHANG) == 0) {
      EXPECT_LT(steady_clock::now() - begin, kEnd);
      if (steady_clock::now() - begin >= kEnd) return -1;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    launcher_ = 0;
    while (!ranks().empty() && steady_clock::now() - begin < kEnd) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    EXPECT_TRUE(ranks().empty());
    EXPECT_TRUE(names_in(folder_ / "shared").empty());
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  fs::path model_;
  pid_t launcher_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Ways, RankFaults,
                         testing::Values("--zero-stage 3", "--tensor-parallel 3", "--device-map auto"),
                         [](const auto& way) {
                           const std::string flag = way.param;
                           return flag.find("zero") != std::string::npos     ? "Zero"
                                  : flag.find("tensor") != std::string::npos ? "Tensor"
                                                                             : "DeviceMap";
                         });

TEST_P(RankFaults, AKilledRankEndsAll) {
  ASSERT_EQ(ranks().size(), 3u);
  const std::vector<pid_t> victim = ranks("1");
  ASSERT_EQ(victim.size(), 1u);
  ASSERT_EQ(kill(victim.front(), SIGKILL), 0);
  EXPECT_NE(ended(), 0);
  const std::string said = read("err") + read("out");
  EXPECT_NE(said.find("signal 9"), std::string::npos) << said;
}

TEST_P(RankFaults, AWeightFileThatShrinksIsNamedWhereItIsMapped) {
  const fs::path weights = model_ / "model.safetensors";
  fs::resize_file(weights, 100000);
  if (std::string(GetParam()).find("zero") != std::string::npos) {  // shares are in memory: no harm is done
    ASSERT_NO_FATAL_FAILURE(await_output(read("out").size() + 100));
    ASSERT_EQ(kill(launcher_, SIGINT), 0);
    EXPECT_NE(ended(), 0);
    return;
  }
  EXPECT_NE(ended(), 0);
  const std::string said = read("err");
  EXPECT_NE(said.find(weights.string()), std::string::npos) << said;
  EXPECT_NE(said.find("became shorter"), std::string::npos) << said;
}

TEST_P(RankFaults, AnInterruptEndsAll) {
  ASSERT_EQ(ranks().size(), 3u);
  ASSERT_EQ(kill(launcher_, SIGINT), 0);
  EXPECT_GE(ended(), 0);  // in time; MPICH's launcher then ends with 0, Open MPI's with 1
}

TEST_F(RanksProgram, AReadErrorNamesTheRankAndTheFile) {
  setenv("ASAN_OPTIONS", "verify_asan_link_order=0:detect_leaks=0", 1);  // what is preloaded comes first
  setenv("LD_PRELOAD", FOVEA_FAILING_READ, 1);
  setenv("FOVEA_TEST_GOOD_READS", "20", 1);
  const fs::path model = fs::path(FOVEA_SOURCE_DIR) / "models" / "fovea-demo";
  for (const char* rank : {"0", "2"}) {
    setenv("FOVEA_TEST_RANK", rank, 1);
    EXPECT_NE(run(3, fmt::format("run -m {} --zero-stage 3 hello", model.string())), 0);
    const std::string said = read("err");
    for (const std::string& words :
         {fmt::format("rank {} of 3 on host", rank), model.string() + "/model.safetensors",
          std::string("Input/output error"), std::string("remedy: check the disk")}) {
      EXPECT_NE(said.find(words), std::string::npos) << "no '" << words << "' in " << said;
    }
  }
  for (const char* name : {"LD_PRELOAD", "FOVEA_TEST_GOOD_READS", "FOVEA_TEST_RANK"}) unsetenv(name);
}

}  // namespace
}  // namespace fovea
