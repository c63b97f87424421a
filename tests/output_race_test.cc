// Goal: however processes that write one folder meet, and whenever they are killed, a complete folder is
// there, and the next one succeeds and leaves nothing else. Method: pairs of `fovea quantize --force` with
// one target, killed at random moments, while the folder is looked at all the time; and with a file system
// that cannot exchange folders, for which a preloaded library stands in.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <thread>

#include "checkpoint/checkpoint.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

const fs::path kModel = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden" / "one_image";
constexpr int kTrials = 60;

class OutputRace : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "fovea-race-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    out_ = folder_ / "out";
    setenv("OMP_NUM_THREADS", "1", 1);
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0:detect_leaks=0", 1);  // what is preloaded comes first
  }
  void TearDown() override { fs::remove_all(folder_); }

  pid_t start(const char* preloaded) const {
    const std::string log = (folder_ / "log").string(), model = kModel.string(), out = out_.string();
    if (preloaded != nullptr) setenv("LD_PRELOAD", preloaded, 1);
    const pid_t child = fork();
    if (child != 0) {
      unsetenv("LD_PRELOAD");
      return child;
    }
    if (std::freopen(log.c_str(), "a", stderr) == nullptr ||
        std::freopen("/dev/null", "w", stdout) == nullptr)
      _exit(99);
    execl(FOVEA_PROGRAM, "fovea", "quantize", "-m", model.c_str(), "--out", out.c_str(), "--force",
          static_cast<char*>(nullptr));
    _exit(99);
  }
  // The exit code, or minus the signal that ended it.
  static int end_of(pid_t child) {
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  std::string log() const {
    std::ifstream file(folder_ / "log");
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::set<std::string> names() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) names.insert(entry.path().filename().string());
    return names;
  }

  // How often one of two was killed and one was refused; the rest succeeded.
  struct Ends {
    int killed = 0, refused = 0, succeeded = 0;
  };
  Ends run_trials(const char* preloaded) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(end_of(start(preloaded)), 0) << log();
    const auto once = std::chrono::steady_clock::now() - begin;
    std::mt19937 random(20251201);
    std::uniform_real_distribution<double> moment(0, 1.2);
    Ends ends;
    for (int trial = 0; trial < kTrials; ++trial) {
      const pid_t pair[] = {start(preloaded), start(preloaded)};
      for (const pid_t child : pair) {
        std::this_thread::sleep_for(once * moment(random) / 2);
        if (random() % 2 == 0) kill(child, SIGKILL);
      }
      for (const pid_t child : pair) {
        const int end = end_of(child);
        EXPECT_TRUE(end == 0 || end == 1 || end == -SIGKILL) << end << "\n" << log();
        ++(end == 0 ? ends.succeeded : end == 1 ? ends.refused : ends.killed);
      }
    }
    return ends;
  }

  // Whatever was killed last, the next one is not disturbed.
  void expect_recovery(const char* preloaded) {
    EXPECT_EQ(end_of(start(preloaded)), 0) << log();
    EXPECT_EQ(names(), (std::set<std::string>{"log", "out"}));
    EXPECT_TRUE(Checkpoint::open(out_).quantized());
    const std::string said = log();
    EXPECT_EQ(said.find("internal"), std::string::npos) << said;
  }

  fs::path folder_, out_;
};

TEST_F(OutputRace, ACompleteFolderIsAlwaysThere) {
  std::atomic<bool> watching{false}, done{false};
  std::atomic<int64_t> looks{0}, gaps{0};
  std::thread watcher([&] {
    while (!done) {
      if (!watching) {
        watching = fs::exists(out_ / "config.json");
        continue;
      }
      ++looks;
      for (const char* name : {"config.json", "model.safetensors", "tokenizer.json"}) {
        if (!fs::exists(out_ / name)) ++gaps;
      }
    }
  });
  const Ends ends = run_trials(nullptr);
  done = true;
  watcher.join();
  EXPECT_EQ(gaps, 0) << "in " << looks << " looks";
  EXPECT_GT(looks, kTrials);
  // The moments are random, but not so random that one of these never happens.
  EXPECT_GT(ends.killed, kTrials / 10);
  EXPECT_GT(ends.refused, kTrials / 20);
  EXPECT_GT(ends.succeeded, kTrials / 10);
  expect_recovery(nullptr);
}

TEST_F(OutputRace, WhereFoldersCannotBeExchangedTheOldOneComesBack) {
  const Ends ends = run_trials(FOVEA_NO_EXCHANGE);
  EXPECT_GT(ends.killed, kTrials / 10);
  expect_recovery(FOVEA_NO_EXCHANGE);
}

}  // namespace
}  // namespace fovea
