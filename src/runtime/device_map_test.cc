// Goal: a device map says which rank has which part, and what is wrong with it by name. Method: texts with
// known meaning; for balanced maps every cut of the parts is tried.
#include "runtime/device_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"

namespace fovea {
namespace {

DeviceMap parse(std::string_view text) { return DeviceMap::parse(text, 4); }

TEST(DeviceMap, FormsMeanTheSame) {
  const DeviceMap expected{0, 1, {0, 0, 1, 1}};
  EXPECT_EQ(parse("vision=0,text.0-1=0,text.2-3=1,head=1"), expected);
  EXPECT_EQ(parse(" head = 1 # the last\nvision=0\n# none=7\ntext.3=1,text.0-2=0\n").layers,
            (std::vector<int>{0, 0, 0, 1}));
  EXPECT_EQ(parse(R"({"vision": 0, "text.0-1": 0, "text.2-3": 1, "head": 1})"), expected);
  EXPECT_EQ(parse(R"({"model.visual": 0, "model.language_model.embed_tokens": 0,
                      "model.language_model.layers.0": 0, "model.language_model.layers.1": 0,
                      "model.language_model.layers.2": 1, "model.language_model.layers.3": 1,
                      "model.language_model.norm": 1, "model.language_model.rotary_emb": 0, "lm_head": 1})"),
            expected);
  EXPECT_EQ(parse(expected.text()), expected);
  EXPECT_EQ(parse("text=2,vision=1,head=0"), (DeviceMap{1, 0, {2, 2, 2, 2}}));
}

TEST(DeviceMap, PartsOfRanks) {
  const DeviceMap map{2, 0, {0, 1, 1, 0}};
  EXPECT_EQ(map.parts_of(0), "text.0, text.3, head");
  EXPECT_EQ(map.parts_of(1), "text.1-2");
  EXPECT_EQ(map.parts_of(2), "vision");
  EXPECT_EQ(map.parts_of(3), "nothing");
  const HeldParts held = map.held_by(1);
  EXPECT_FALSE(held.vision || held.embedding || held.head || held.layer(0) || held.layer(3));
  EXPECT_TRUE(held.layer(1) && held.layer(2));
  EXPECT_TRUE(map.held_by(0).embedding && map.held_by(0).head && map.held_by(2).vision);
  EXPECT_EQ(map.stages().size(), 3u);
}

TEST(DeviceMap, RefusalsNameWhatIsWrong) {
  const auto expect = [](std::string_view text, std::string_view said) {
    try {
      parse(text);
      ADD_FAILURE() << text << " was accepted";
    } catch (const Error& error) {
      EXPECT_NE(error.message().find(said), std::string::npos) << text << ": " << error.message();
    }
  };
  expect("vision=0,text.0=0,text.3=0", "no rank has text.1-2, head");
  expect("", "no rank has vision, text.0-3, head");
  expect("vision=0,text=0,head=0,text.2=1", "text.2 is given twice");
  expect("vision=0,vision=0,text=0,head=0", "vision is given twice");
  expect("vision=0,text.0-4=0,head=0", "no layer 4");
  expect("vision=0,text.2-1=0,head=0", "'text.2-1'");
  expect("vision=0,text.x=0,head=0", "'text.x'");
  expect("vision=0,text=0,tail=0", "'tail'");
  expect("vision=0,text=0,head", "'head' gives no rank");
  expect("vision=0,text=0,head=-1", "'-1'");
  expect("vision=0,text=0,head=cuda:0", "'cuda:0'");
  expect(R"({"vision": "cpu"})", "\"cpu\"");
  expect(R"({"vision": 0, "vision": 1, "text": 0, "head": 0})", "vision");
  expect("vision=0,text=0,head=0,embed_tokens=1", "embed_tokens");
  expect("vision=0,text=0,head=0,norm=1", "norm");
}

TEST(DeviceMap, RanksMustExistAndWork) {
  const DeviceMap map = parse("vision=0,text=1,head=3");
  const auto said = [&](int size) -> std::string {
    try {
      map.require_ranks(size);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(said(1).find("rank 1, there is only rank 0"), std::string::npos) << said(1);
  EXPECT_NE(said(3).find("rank 3, there are ranks 0 to 2"), std::string::npos) << said(3);
  EXPECT_NE(said(3).find("mpirun -n 4"), std::string::npos);
  EXPECT_NE(said(4).find("rank 2 has nothing to do"), std::string::npos) << said(4);
  parse("vision=1,text=1,head=1").require_ranks(2);  // rank 0 embeds and samples
}

// The smallest largest load of any cut of parts [first, end) into `ranks` runs.
int64_t best(const std::vector<int64_t>& parts, size_t first, int ranks) {
  int64_t sum = 0, least = INT64_MAX;
  for (size_t end = first + 1; end <= parts.size(); ++end) {
    sum += parts[end - 1];
    if (ranks == 1 && end < parts.size()) continue;
    if (ranks > 1 && end == parts.size()) continue;
    least = std::min(least, ranks == 1 ? sum : std::max(sum, best(parts, end, ranks - 1)));
  }
  return least;
}

TEST(DeviceMap, BalancedIsTheBestCut) {
  const std::filesystem::path source = FOVEA_SOURCE_DIR;
  for (const auto& dir : {source / "models/fovea-demo", source / "tests/golden/two_images"}) {
    const Checkpoint checkpoint = Checkpoint::open(dir);
    const WeightGroups groups(checkpoint);
    const int64_t layers = checkpoint.config().text.num_hidden_layers;
    std::vector<int64_t> parts = {groups.total(groups.vision())};
    for (int64_t i = 0; i < layers; ++i) parts.push_back(groups[groups.layer(i)].bytes);
    parts.push_back(groups.total({groups.head(0), groups.text().last}));
    for (int ranks = 1; ranks <= std::ssize(parts); ++ranks) {
      const DeviceMap map = DeviceMap::balanced(groups, layers, ranks);
      map.require_ranks(ranks);
      std::vector<int> owners = map.layers;
      owners.insert(owners.begin(), map.vision);
      owners.push_back(map.head);
      EXPECT_TRUE(std::is_sorted(owners.begin(), owners.end()));
      std::vector<int64_t> load(static_cast<size_t>(ranks));
      for (size_t i = 0; i < parts.size(); ++i) load[static_cast<size_t>(owners[i])] += parts[i];
      EXPECT_EQ(*std::max_element(load.begin(), load.end()), best(parts, 0, ranks)) << ranks;
    }
    EXPECT_THROW(DeviceMap::balanced(groups, layers, static_cast<int>(parts.size()) + 1), Error);
  }
}

}  // namespace
}  // namespace fovea
