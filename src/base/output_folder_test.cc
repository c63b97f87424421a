// Goal: a folder that is written appears in one step, one process at a time writes it, and whatever moment a
// process is killed at, the next one finds its way. Method: the states that a kill can leave, made by hand;
// tests/output_race_test.cc kills real processes.
#include "base/output_folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "base/error.h"
#include "base/input_files.h"
#include "base/output_file.h"
#include "base/temporary_folder_testing.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

template <typename Work>
void expect_refused(const std::vector<std::string>& words, Work work) {
  try {
    work();
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_argument) << error.what();
    for (const std::string& word : words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
          << "no '" << word << "' in " << error.what();
    }
  }
}

class OutputFolders : public ::testing::Test {
 protected:
  void write_whole(const std::string& text, bool replace) const {
    OutputFolder folder(out_, replace, "sign");
    folder.write_text("sign", text);
    folder.finish();
  }
  std::string sign() const {
    std::ifstream file(out_ / "sign");
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // What a killed process leaves: its lock, which nobody holds.
  void leave_lock() const {
    const fs::path kept = folder_.path() / "kept";
    {
      OutputFolder folder(out_, true, "sign");
      fs::copy_file(out_.string() + ".lock", kept);
    }
    fs::rename(kept, out_.string() + ".lock");
  }

  TemporaryFolder folder_;
  fs::path out_ = folder_.path() / "out";
};

TEST_F(OutputFolders, AppearsCompleteOrNotAtAll) {
  {
    OutputFolder folder(out_, false, "sign");
    folder.write_text("sign", "half");
    EXPECT_FALSE(fs::exists(out_));
  }
  EXPECT_TRUE(names_in(folder_.path()).empty());
  write_whole("first", false);
  EXPECT_EQ(names_in(folder_.path()), std::set<std::string>{"out"});
  expect_refused({"already exists", "--force"}, [&] { write_whole("second", false); });
  write_whole("second", true);
  EXPECT_EQ(sign(), "second");
  EXPECT_EQ(names_in(folder_.path()), std::set<std::string>{"out"});
}

TEST_F(OutputFolders, OneProcessAtATime) {
  OutputFolder folder(out_, false, "sign");
  folder.write_text("sign", "first");
  expect_refused({"another process is writing", out_.string()}, [&] { write_whole("second", true); });
  folder.finish();
  EXPECT_EQ(sign(), "first");
}

TEST_F(OutputFolders, WhatAKillLeftIsPutRight) {
  write_whole("old", false);
  leave_lock();  // killed in the middle of the work
  folder_.write("out.partial/sign", "half");
  write_whole("new", true);
  EXPECT_EQ(sign(), "new");
  leave_lock();  // killed between the two steps where folders cannot be exchanged
  fs::rename(out_, out_.string() + ".replaced");
  folder_.write("out.partial/sign", "whole");
  expect_refused({"already exists"}, [&] { write_whole("newer", false); });
  EXPECT_EQ(sign(), "new");
  leave_lock();  // killed after the second step
  folder_.write("out.replaced/sign", "old");
  write_whole("newest", true);
  EXPECT_EQ(sign(), "newest");
  EXPECT_EQ(names_in(folder_.path()), std::set<std::string>{"out"});
}

TEST_F(OutputFolders, WhatIsNotOursIsNotTouched) {
  for (const std::string stranger : {"out.partial", "out.replaced"}) {
    folder_.write(stranger + "/mine", "whole");
    expect_refused({stranger, "in the way"}, [&] { write_whole("x", false); });
    EXPECT_EQ(names_in(folder_.path()), std::set<std::string>{stranger});
    fs::remove_all(folder_.path() / stranger);
  }
  folder_.write("out.lock", "mine");
  expect_refused({"out.lock", "in the way"}, [&] { write_whole("x", false); });
  fs::remove(folder_.path() / "out.lock");
  folder_.write("out/mine", "whole");
  expect_refused({"holds no sign"}, [&] { write_whole("x", true); });
  EXPECT_EQ(names_in(folder_.path()), std::set<std::string>{"out"});
}

TEST_F(OutputFolders, LinksAndEmptyFoldersAreTheFolderThatIsMeant) {
  fs::create_directory(folder_.path() / "real");
  fs::create_directory_symlink("real", out_);
  write_whole("x", false);
  EXPECT_TRUE(fs::exists(folder_.path() / "real" / "sign"));
  EXPECT_TRUE(fs::is_symlink(out_));
  fs::remove_all(folder_.path() / "real");
  expect_refused({"does not exist"}, [&] { write_whole("x", false); });
  expect_refused({"no name"}, [] { OutputFolder("", false, "sign"); });
}

TEST(OutputFiles, OneProcessAtATimeAndNeverThroughALink) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "file";
  {
    OutputFile file(path);
    file.append("first");
    expect_refused({"another process is writing", path.string()}, [&] { OutputFile other(path); });
    file.finish();
  }
  EXPECT_EQ(fs::file_size(path), 5u);
  folder.write("precious", "whole");
  fs::create_symlink("precious", path.string() + ".partial");
  EXPECT_THROW(OutputFile other(path), Error);
  EXPECT_EQ(fs::file_size(folder.path() / "precious"), 5u);
}

TEST(InputFiles, AreRefusedAsOutputsUnderAnyName) {
  const TemporaryFolder folder;
  const fs::path root = folder.path();
  folder.write("model/weights", "w");
  folder.write("suite", "s");
  folder.write("out.partial", "p");
  folder.write("model/inner/config", "c");
  fs::create_symlink("suite", root / "link");
  fs::create_hard_link(root / "suite", root / "hard");
  InputFiles inputs;
  inputs.add(root / "model");
  inputs.add(root / "suite");
  inputs.add(root / "out.partial");
  inputs.add(root / "missing");
  for (const char* name : {"suite", "./model/../suite", "link", "hard", "model/weights"}) {
    expect_refused({"--json", name, "is read"}, [&] { inputs.refuse_as_output(root / name, "--json"); });
  }
  expect_refused({"out.partial"}, [&] { inputs.refuse_as_output(root / "out", "--json"); });
  inputs.refuse_as_output(root / "model" / "new", "--json");
  inputs.refuse_as_output(root / "missing", "--json");
  inputs.refuse_as_output("", "--json");
  for (const fs::path& name : {root / "model", root / "model" / "", root}) {
    expect_refused({"--out", "is read"}, [&] { inputs.refuse_as_output_folder(name, "--out"); });
  }
  fs::create_directory_symlink(root, root / "model" / "above");
  expect_refused({"is read"}, [&] { inputs.refuse_as_output_folder(root / "model" / "above", "--out"); });
  inputs.refuse_as_output_folder(root / "model" / "inner", "--out");
  inputs.refuse_as_output_folder(root / "new", "--out");
}

}  // namespace
}  // namespace fovea
