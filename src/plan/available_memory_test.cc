// Goal: limits of machine and control groups are read as the kernel writes them. Method: copies of such
// files.
#include "plan/available_memory.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/temporary_folder_testing.h"

namespace fovea {
namespace {

class AvailableMemory : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) const { root_.write(path, text); }
  // Less what this process holds itself, which changes while the test runs.
  int64_t left() const {
    const int64_t held = resident_memory().anonymous, all = available_memory(root_.path());
    return (all - held) / 1000000 * 1000000;
  }

  TemporaryFolder root_;
};

TEST_F(AvailableMemory, IsUnknownWithoutFiles) { EXPECT_EQ(available_memory(root_.path()), 0); }

TEST_F(AvailableMemory, TheTightestLimitHolds) {
  write("proc/meminfo", "MemTotal: 99 kB\nMemAvailable:   8000000 kB\n");
  EXPECT_NEAR(static_cast<double>(left()), 8192e6, 2e6);
  // Version 2: the parent's limit is the tighter one; cached files are free.
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/b/memory.max", "max\n");
  write("sys/fs/cgroup/a/b/memory.current", "123\n");
  write("sys/fs/cgroup/a/memory.max", "5000000000\n");
  write("sys/fs/cgroup/a/memory.current", "3000000000\n");
  write("sys/fs/cgroup/a/memory.stat", "anon 7\ninactive_file 400000000\nactive_file 600000000\n");
  EXPECT_NEAR(static_cast<double>(left()), 3000e6, 2e6);
  // Version 1 beside it.
  write("proc/self/cgroup", "9:cpu:/\n4:memory:/job\n0::/a/b\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1500000000\n");
  write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "500000000\n");
  EXPECT_NEAR(static_cast<double>(left()), 1000e6, 2e6);
}

TEST(ResidentMemory, CountsWhatIsWritten) {
  const int64_t before = resident_memory().anonymous;
  std::vector<char> written(40'000'000, 1);
  EXPECT_GT(resident_memory().anonymous - before, 39'000'000);
  EXPECT_EQ(written[7], 1);
}

}  // namespace
}  // namespace fovea
