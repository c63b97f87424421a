// Goal: as many threads as there are cores and time to run them. Method: trees of /sys and /proc as the
// kernel writes them.
#include "base/processors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "base/temporary_folder_testing.h"

namespace fovea {
namespace {

class UsableProcessors : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) const { root_.write(path, text + '\n'); }
  void siblings(int cpu, const std::string& list) const {
    write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list", list);
  }
  Processors of(const std::vector<int>& allowed) const { return usable_processors(allowed, root_.path()); }

  TemporaryFolder root_;
};

TEST_F(UsableProcessors, WithoutFilesEveryCpuIsACore) {
  const Processors found = of({0, 1, 5});
  EXPECT_EQ(found.cores, (std::vector<int>{0, 1, 5}));
  EXPECT_EQ(found.threads(), 3);
  EXPECT_EQ(of({}).threads(), 1);
}

TEST_F(UsableProcessors, TheSecondThreadOfACoreIsLeftFree) {
  for (const int cpu : {0, 4}) siblings(cpu, "0,4");
  for (const int cpu : {1, 5}) siblings(cpu, "1,5");
  for (const int cpu : {2, 3}) siblings(cpu, "2-3");
  EXPECT_EQ(of({0, 1, 2, 3, 4, 5}).cores, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(of({3, 4}).cores, (std::vector<int>{3, 4})) << "their siblings belong to others";
}

TEST_F(UsableProcessors, CoresOfANodeFollowEachOther) {
  write("sys/devices/system/node/node0/cpulist", "0,2");
  write("sys/devices/system/node/node1/cpulist", "1,3");
  write("sys/devices/system/node/possible", "0-1");
  EXPECT_EQ(of({0, 1, 2, 3}).cores, (std::vector<int>{0, 2, 1, 3}));
}

TEST_F(UsableProcessors, NoMoreThreadsThanTheControlGroupGivesTimeTo) {
  write("proc/self/cgroup", "0::/job/part");
  write("sys/fs/cgroup/job/part/cpu.max", "max 100000");
  EXPECT_TRUE(std::isinf(of({0, 1, 2, 3}).share));
  write("sys/fs/cgroup/job/cpu.max", "250000 100000");  // a parent's limit holds as well
  EXPECT_EQ(of({0, 1, 2, 3}).threads(), 2);
  EXPECT_EQ(of({0}).threads(), 1);
  write("sys/fs/cgroup/job/part/cpu.max", "50000 100000");
  EXPECT_EQ(of({0, 1, 2, 3}).threads(), 1) << "half a CPU still runs one thread";
  write("proc/self/cgroup", "3:cpu,cpuacct:/\n4:memory:/job");
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
  EXPECT_EQ(of({0, 1, 2, 3}).threads(), 4);
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000");
  EXPECT_EQ(of({0, 1, 2, 3}).threads(), 3);
}

TEST(UsableProcessorsHere, AreAtLeastOne) {
  const Processors found = usable_processors();
  EXPECT_FALSE(found.cores.empty());
  EXPECT_GE(found.threads(), 1);
}

}  // namespace
}  // namespace fovea
