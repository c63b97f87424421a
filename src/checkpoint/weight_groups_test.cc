// Goal: the groups hold every matrix once, come from files as they are mapped, and the choice of those that
// stay keeps within its budget. Method: a tiny checkpoint whose bytes are known; every budget.
#include "checkpoint/weight_groups.h"

#include <cstring>
#include <fstream>
#include <map>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/direct_file.h"
#include "checkpoint/weight_source.h"

namespace fovea {
namespace {

using testing::TemporaryFolder;

class WeightGroupsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::write_bytes(folder_ / "config.json", testing::tiny_flat_config());
    testing::write_tiny_weights(folder_ / "model.safetensors",
                                parse_config(testing::tiny_flat_config(), "config.json"), testing::Era::older,
                                DType::bf16);
  }
  TemporaryFolder folder_;
  std::atomic<bool> abandon_{false};
};

TEST_F(WeightGroupsTest, EveryMatrixIsInOneGroup) {
  const Checkpoint checkpoint = Checkpoint::open(folder_.path());
  const WeightGroups groups(checkpoint);
  std::map<std::string, int64_t> rows;
  for (const WeightGroup& group : groups.all()) {
    int64_t end = 0;
    for (const GroupPart& part : group.parts) {
      rows[part.tensor->name] += part.rows;
      EXPECT_GE(part.at, end);
      EXPECT_EQ(part.at % kDirectPage, part.offset % kDirectPage);
      end = part.at + part.bytes;
    }
    EXPECT_LE(end, group.bytes);
    EXPECT_GT(end, 0) << group.name;
  }
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    const bool looked_up =
        tensor.name.ends_with("embed_tokens.weight") && !checkpoint.config().text.tie_word_embeddings;
    if (tensor.shape.size() >= 2 && !looked_up) {
      EXPECT_EQ(rows[tensor.name], tensor.shape[0]) << tensor.name;
    } else {
      EXPECT_EQ(rows.count(tensor.name), 0u) << tensor.name;
    }
  }
  EXPECT_EQ(groups[groups.block(1)].name, "model.visual.blocks.1");
  EXPECT_EQ(groups[groups.layer(1)].name, "model.language_model.layers.1");
  EXPECT_EQ(groups[groups.merger()].name, "model.visual.merger");
}

TEST_F(WeightGroupsTest, TheDiskGivesWhatIsMapped) {
  const Checkpoint checkpoint = Checkpoint::open(folder_.path());
  const WeightGroups groups(checkpoint);
  const auto disk = disk_weights(checkpoint);
  for (const WeightGroup& group : groups.all()) {
    PagedMemory memory;
    memory.resize(group.bytes);
    disk->fetch(group, memory.data(), abandon_);
    for (const GroupPart& part : group.parts) {
      const char* mapped = static_cast<const char*>(part.tensor->data) + (part.offset - part.tensor->offset);
      EXPECT_EQ(std::memcmp(memory.data() + part.at, mapped, static_cast<size_t>(part.bytes)), 0)
          << part.tensor->name;
    }
  }
  const TensorInfo& embedding = checkpoint.tensor("model.language_model.embed_tokens.weight");
  std::vector<char> row(32);
  disk->read(embedding, 96, 32, row.data());
  EXPECT_EQ(std::memcmp(row.data(), static_cast<const char*>(embedding.data) + 96, 32), 0);
}

TEST_F(WeightGroupsTest, AFileThatBecameShorterIsNamed) {
  const Checkpoint checkpoint = Checkpoint::open(folder_.path());
  const WeightGroups groups(checkpoint);
  const auto disk = disk_weights(checkpoint);
  int64_t shortest = INT64_MAX;
  for (const WeightGroup& group : groups.all()) shortest = std::min(shortest, group.parts.front().offset);
  std::filesystem::resize_file(folder_ / "model.safetensors", static_cast<uintmax_t>(shortest + 10));
  for (const WeightGroup& group : groups.all()) {
    PagedMemory memory;
    memory.resize(group.bytes);
    testing::expect_error(ErrorKind::io,
                          {"model.safetensors", "became shorter", fmt::format("has {} bytes", shortest + 10)},
                          [&] { disk->fetch(group, memory.data(), abandon_); });
  }
}

TEST_F(WeightGroupsTest, WhatStaysKeepsWithinTheBudget) {
  const Checkpoint checkpoint = Checkpoint::open(folder_.path());
  const WeightGroups groups(checkpoint);
  const std::vector<bool> none(groups.all().size());
  for (const GroupRange& range : {groups.vision(), groups.text()}) {
    const int64_t least = least_residency(groups, range), total = groups.total(range);
    int64_t before = 0;
    for (int64_t bytes = least; bytes <= total + 1000; bytes += 777) {
      const Residency chosen = choose_residency(groups, range, none, bytes);
      EXPECT_LE(chosen.bytes(), bytes);
      EXPECT_GE(chosen.kept_bytes, before);
      before = chosen.kept_bytes;
    }
    const Residency all = choose_residency(groups, range, none, total);
    EXPECT_EQ(all.kept_bytes, total);
    EXPECT_EQ(all.slot_bytes, 0);
    EXPECT_EQ(choose_residency(groups, range, all.kept, 2 * total + 1000).kept_bytes, total);
  }
  // The other tower's groups that are there stay while there is room, or first.
  const Residency vision = choose_residency(groups, groups.vision(), none, groups.total(groups.vision()));
  const int64_t text = groups.total(groups.text());
  EXPECT_EQ(choose_residency(groups, groups.text(), vision.kept, text).kept_bytes, text);
  EXPECT_EQ(choose_residency(groups, groups.text(), vision.kept, text + vision.kept_bytes).kept_bytes,
            text + vision.kept_bytes);
  const Residency second = choose_residency(groups, groups.text(), vision.kept,
                                            vision.kept_bytes + 2 * groups.largest(groups.text()), false);
  EXPECT_EQ(second.kept, vision.kept);
}

TEST(DirectFile, ReadsWhereThereIsOnlyAPageCache) {
  const std::filesystem::path path = "/dev/shm/fovea-direct-file-test";
  if (!std::ofstream(path, std::ios::binary)) GTEST_SKIP() << "no /dev/shm";
  testing::write_bytes(path, std::string(5000, 'a') + std::string(5000, 'b'));
  PagedMemory memory;
  memory.resize(3 * kDirectPage);
  DirectFile::open(path).read(4990, 5000, memory.data());
  const char* first = memory.data() + 4990 % kDirectPage;
  EXPECT_EQ(std::string(first, 5000), std::string(10, 'a') + std::string(4990, 'b'));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace fovea
