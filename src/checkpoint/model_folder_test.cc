// Goal: a model's name finds the folder that huggingface_hub keeps for it, and what is not there is told with
// the command that brings it. Method: caches laid out here as huggingface_hub lays them out, then with one
// thing missing.
#include "checkpoint/model_folder.h"

#include <gtest/gtest.h>

#include "checkpoint/checkpoint_testing.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TemporaryFolder;
using testing::write_bytes;

const std::string kCommit(40, 'a'), kOther = std::string(39, 'b') + "7";

class HubCache : public ::testing::Test {
 protected:
  HubCache() {
    add(kCommit, {"config.json", "model.safetensors"});
    add(kOther, {"config.json", "model.safetensors"});
    ref("main", kCommit);
    ref("refs/pr/3", kOther);
  }
  // Files lie in blobs; a snapshot holds links to them.
  void add(const std::string& commit, const std::vector<std::string>& files) const {
    fs::create_directories(repository() / "blobs");
    fs::create_directories(snapshot(commit));
    for (const std::string& file : files) {
      const std::string blob = commit.substr(39) + file;
      write_bytes(repository() / "blobs" / blob, "{}");
      fs::create_symlink(fs::path("../../blobs") / blob, snapshot(commit) / file);
    }
  }
  void ref(const std::string& name, const std::string& commit) const {
    const fs::path file = repository() / "refs" / name;
    fs::create_directories(file.parent_path());
    write_bytes(file, commit);
  }
  fs::path repository() const { return cache_ / "models--Org--Some.Model-3B"; }
  fs::path snapshot(const std::string& commit) const { return repository() / "snapshots" / commit; }
  fs::path found(const std::string& model) const { return find_model(model, cache_.path()); }
  void expect_missing(const std::string& model, const std::vector<std::string>& words,
                      const std::string& remedy) const {
    expect_error(ErrorKind::not_found, words, [&] { found(model); });
    try {
      found(model);
    } catch (const Error& error) {
      EXPECT_EQ(error.remedy(), remedy);
    }
  }

  TemporaryFolder cache_;
};

constexpr const char *kModel = "Org/Some.Model-3B", *kDownload = "hf download Org/Some.Model-3B";

TEST_F(HubCache, FindsTheSnapshotOfABranchATagOrACommit) {
  EXPECT_EQ(found(kModel), snapshot(kCommit));
  EXPECT_EQ(found("Org/Some.Model-3B@main"), snapshot(kCommit));
  EXPECT_EQ(found("Org/Some.Model-3B@refs/pr/3"), snapshot(kOther));
  EXPECT_EQ(found("Org/Some.Model-3B@" + kOther), snapshot(kOther));
  ref("v1.0", kOther + "\n");
  EXPECT_EQ(found("Org/Some.Model-3B@v1.0"), snapshot(kOther));
}

TEST_F(HubCache, AFolderOfThatPathGoesFirst) {
  const fs::path before = fs::current_path();
  const TemporaryFolder here;
  fs::create_directories(here / "Org/Some.Model-3B");
  fs::current_path(here.path());
  EXPECT_EQ(found(kModel), fs::path(kModel));
  EXPECT_EQ(found("Org/Some.Model-3B@main"), snapshot(kCommit));
  fs::current_path(before);
  EXPECT_EQ(found(snapshot(kOther).string()), snapshot(kOther));
}

TEST_F(HubCache, WhatIsNoNameOfTheHubComesBack) {
  for (const char* model : {"", "/", "a", "a/", "/a", "a/b/c", "./b", "a/..", "../b", "a b/c", "-a/b", "a/b@",
                            "a/b@../x", "a/b@x//y", "a/b@/x", "a@x/b", "a/b@.", "a/b\n"}) {
    EXPECT_EQ(found(model), fs::path(model));
  }
  EXPECT_EQ(found("a/" + std::string(97, 'x')), fs::path("a/" + std::string(97, 'x')));
}

TEST_F(HubCache, WhatIsNotThereIsToldWithItsDownload) {
  expect_missing("Org/Other", {"Org/Other", "neither a folder", cache_.path().string()},
                 "hf download Org/Other");
  expect_missing("Org/Other@v2", {"Org/Other"}, "hf download Org/Other --revision v2");
  expect_missing("Org/Some.Model-3B@v2", {"revision v2", kCommit, kOther},
                 "hf download Org/Some.Model-3B --revision v2");
  fs::remove(repository() / "refs" / "main");
  expect_missing(kModel, {"revision main", kCommit}, kDownload);
  ref("main", std::string(40, 'c'));
  expect_missing(kModel, {"lacks the files of cccc"}, kDownload);
}

TEST_F(HubCache, AHostileReferenceLeadsNowhere) {
  for (const std::string& text :
       {std::string(), std::string("aaaa"), "../../../../../../../../etc/" + std::string(40, 'x'),
        std::string(40, '.'), std::string(40, '\0'), std::string(40, '/')}) {
    ref("main", text);
    expect_missing(kModel, {"refs/main", "no commit"}, kDownload);
  }
}

TEST_F(HubCache, AnIncompleteSnapshotNamesWhatItLacks) {
  fs::remove(repository() / "blobs" / "amodel.safetensors");
  expect_missing(kModel, {"not complete", "lacks model.safetensors"}, kDownload);
  fs::remove(snapshot(kCommit) / "model.safetensors");
  write_bytes(repository() / "blobs" / "0123.incomplete", "x");
  expect_missing(kModel, {"lacks model.safetensors", "interrupted"}, kDownload);
  write_bytes(snapshot(kCommit) / "model.safetensors.index.json",
              R"({"weight_map": {"x": "1.safetensors", "y": "2.safetensors"}})");
  write_bytes(snapshot(kCommit) / "1.safetensors", "x");
  expect_missing(kModel, {"lacks 2.safetensors"}, kDownload);
  write_bytes(snapshot(kCommit) / "2.safetensors", "x");
  EXPECT_EQ(found(kModel), snapshot(kCommit));
  fs::remove(snapshot(kCommit) / "config.json");
  expect_missing(kModel, {"lacks config.json"}, kDownload);
}

TEST(ModelFolder, WhatIsMadeOfAModelLiesBesideItButNotInTheCache) {
  for (const char* dir : {"/models/Tiny", "Tiny", "/", "/x/snapshots/Tiny", "/models--a--b/Tiny"}) {
    EXPECT_EQ(place_beside(dir), dir);
  }
  EXPECT_EQ(place_beside("/models/Tiny//"), "/models/Tiny");
  EXPECT_EQ(place_beside("/cache/models--Org--Some.Model-3B/snapshots/0123"), "Some.Model-3B");
}

// What Checkpoint::open words better: adapters, and weights in other formats.
TEST_F(HubCache, AnAdapterOrOtherWeightsAreNoIncompleteModel) {
  fs::remove(snapshot(kCommit) / "model.safetensors");
  write_bytes(snapshot(kCommit) / "pytorch_model.bin", "x");
  EXPECT_EQ(found(kModel), snapshot(kCommit));
  fs::remove(snapshot(kOther) / "config.json");
  write_bytes(snapshot(kOther) / "adapter_config.json", "{}");
  EXPECT_EQ(found("Org/Some.Model-3B@" + kOther), snapshot(kOther));
}

}  // namespace
}  // namespace fovea
