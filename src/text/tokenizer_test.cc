// Goal: every statement of a tokenizer's files is followed. Method: a tiny tokenizer whose ids can be told by
// hand.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "text/small_tokenizer_testing.h"

namespace fovea {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

constexpr int32_t kAb = 256, kAbc = 257, kBc = 258, kStart = 259, kTool = 261;

TEST(Tokenizer, MergesByRankThenFromTheLeft) {
  const Tokenizer tokenizer = open_tokenizer(small_tokenizer());
  EXPECT_EQ(tokenizer.encode("abc"), Ids{kAbc});
  EXPECT_EQ(tokenizer.encode("bc"), Ids{kBc});
  EXPECT_EQ(tokenizer.encode("abbc"), (Ids{kAb, kBc}));
  EXPECT_EQ(tokenizer.encode("ababc"), (Ids{kAb, kAbc}));
  EXPECT_EQ(tokenizer.encode("a b"), (Ids{'a', ' ', 'b'}));
  EXPECT_EQ(tokenizer.encode(""), Ids{});
}

TEST(Tokenizer, APairStatedTwiceHasItsLaterRank) {
  json document = small_tokenizer();
  document["model"]["merges"] = {"a b", "b c", "ab c", "a b"};  // now "b c" comes before "a b"
  EXPECT_EQ(open_tokenizer(document).encode("abc"), (Ids{'a', kBc}));
}

TEST(Tokenizer, KnowsItsTokens) {
  const Tokenizer tokenizer = open_tokenizer(small_tokenizer());
  EXPECT_EQ(tokenizer.size(), 262);
  EXPECT_EQ(tokenizer.token_bytes(' '), " ");
  EXPECT_EQ(tokenizer.token_bytes(0xff), "\xff");
  EXPECT_EQ(tokenizer.token_bytes(0).size(), 1u);
  EXPECT_EQ(tokenizer.token_bytes(kStart), "<s>");
  EXPECT_EQ(tokenizer.token_bytes(-1), "");
  EXPECT_EQ(tokenizer.token_bytes(262), "");
  EXPECT_TRUE(tokenizer.is_special(kStart));
  EXPECT_FALSE(tokenizer.is_special(kTool));
  EXPECT_FALSE(tokenizer.is_special(-1));
  EXPECT_FALSE(tokenizer.is_special(262));
  EXPECT_EQ(tokenizer.id_of("<s>"), kStart);
  EXPECT_EQ(tokenizer.id_of("abc"), kAbc);
  EXPECT_EQ(tokenizer.id_of("\u0120"), ' ');  // the spelling of a space
  EXPECT_EQ(tokenizer.id_of("<x>"), std::nullopt);
}

TEST(Tokenizer, DecodeDropsSpecialTokensOnRequestOnly) {
  const Tokenizer tokenizer = open_tokenizer(small_tokenizer());
  const Ids ids = tokenizer.encode("<s>ab<t>c<e>");
  EXPECT_EQ(ids, (Ids{kStart, kAb, kTool, 'c', 260}));
  EXPECT_EQ(tokenizer.decode(ids, false), "<s>ab<t>c<e>");
  EXPECT_EQ(tokenizer.decode(ids, true), "ab<t>c");
}

TEST(Tokenizer, RefusesOrFollowsTheFlagsOfAddedTokens) {
  json document = small_tokenizer();
  document["added_tokens"][0]["lstrip"] = true;
  document["added_tokens"][2]["rstrip"] = true;
  const Tokenizer tokenizer = open_tokenizer(document);
  EXPECT_EQ(tokenizer.encode("a \u3000\n<s> <t>\t b"), (Ids{'a', kStart, ' ', kTool, 'b'}));
  document["added_tokens"][0]["single_word"] = true;
  EXPECT_THROW(open_tokenizer(document), Error);
}

TEST(Tokenizer, NormalizedAddedTokensAreFoundAfterNfc) {
  json document = small_tokenizer();
  document["added_tokens"][0]["content"] = "\u1e69";
  document["added_tokens"][2]["content"] = "s\u0323\u0307x";
  document["added_tokens"][2]["normalized"] = true;
  const Tokenizer tokenizer = open_tokenizer(document);
  EXPECT_EQ(tokenizer.encode("\u1e69"), Ids{kStart});
  EXPECT_EQ(tokenizer.encode("s\u0323\u0307"),
            (Ids{0xe1, 0xb9, 0xa9}));  // composed only after the raw tokens were looked for
  EXPECT_EQ(tokenizer.encode("s\u0323\u0307x"), Ids{kTool});
}

TEST(Tokenizer, TheLongestAddedTokenWins) {
  json document = small_tokenizer();
  document["added_tokens"][0]["content"] = "<a";
  document["added_tokens"][1]["content"] = "<a><b>";
  document["added_tokens"][2]["content"] = "a><";
  const Tokenizer tokenizer = open_tokenizer(document);
  EXPECT_EQ(tokenizer.encode("<a><b>"), Ids{260});
  EXPECT_EQ(tokenizer.encode("<a><c"), (Ids{kStart, '>', '<', 'c'}));
  EXPECT_EQ(tokenizer.encode("a><b>"), (Ids{kTool, 'b', '>'}));
}

TEST(Tokenizer, WithoutNormalizerNothingIsComposed) {
  json document = small_tokenizer();
  document["normalizer"] = nullptr;
  EXPECT_EQ(open_tokenizer(document).encode("e\u0301"), (Ids{'e', 0xcc, 0x81}));
  document["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}}}};
  EXPECT_EQ(open_tokenizer(document).encode("e\u0301"), (Ids{0xc3, 0xa9}));
}

// The same tokenizer as vocab.json and merges.txt, whose pattern is Qwen2's; added tokens in either file's
// form.
TEST(Tokenizer, ReadsVocabAndMerges) {
  const json document = small_tokenizer();
  TemporaryFolder folder;
  folder.write("vocab.json", document["model"]["vocab"].dump());
  folder.write("merges.txt", "#version: 0.2\na b\nab c\r\n\nb c");
  folder.write("added_tokens.json", R"({"<t>": 261, "<e>": 260, "<s>": 259})");
  folder.write("tokenizer_config.json",
               R"({"eos_token": {"content": "<e>"}, "additional_special_tokens": ["<s>"]})");
  const Tokenizer old_form = Tokenizer::open(folder.path());
  EXPECT_EQ(old_form.encode("abc1<s>e\u0301<t>"), (Ids{kAbc, '1', kStart, 0xc3, 0xa9, kTool}));
  EXPECT_TRUE(old_form.is_special(260));
  EXPECT_FALSE(old_form.is_special(kTool));

  folder.write("tokenizer_config.json",
               R"({"added_tokens_decoder": {"260": {"content": "<e>", "special": true},
      "259": {"content": "<s>", "special": true}, "261": {"content": "<t>"}}})");
  const Tokenizer new_form = Tokenizer::open(folder.path());
  EXPECT_EQ(new_form.encode("abc1<s>e\u0301<t>"), (Ids{kAbc, '1', kStart, 0xc3, 0xa9, kTool}));
  EXPECT_TRUE(new_form.is_special(kStart));
}

TEST(Tokenizer, TokensOfTheConfigurationAreAdded) {
  TemporaryFolder folder;
  folder.write("tokenizer.json", small_tokenizer().dump());
  folder.write("tokenizer_config.json",
               R"({"added_tokens_decoder": {"262": {"content": "<u>", "special": true}}})");
  EXPECT_EQ(Tokenizer::open(folder.path()).encode("<u><s>"), (Ids{262, kStart}));
  folder.write("tokenizer_config.json", R"({"added_tokens_decoder": {"260": {"content": "<s>"}}})");
  EXPECT_THROW(Tokenizer::open(folder.path()), Error);
}

TEST(StreamDecoder, HoldsBackWhatLaterBytesMayComplete) {
  const Tokenizer tokenizer = open_tokenizer(small_tokenizer());
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.push('a'), "a");
  EXPECT_EQ(stream.push(0xe2), "");
  EXPECT_EQ(stream.push(kStart), "");  // special tokens add nothing and end nothing
  EXPECT_EQ(stream.push(0x82), "");
  EXPECT_EQ(stream.push(0xac), "\u20ac");
  EXPECT_EQ(stream.push(0xf0), "");
  EXPECT_EQ(stream.push(kAb), "\ufffdab");
  EXPECT_EQ(stream.push(0xe0), "");
  EXPECT_EQ(stream.push(0x80), "\ufffd\ufffd");  // E0 80 can never become a character
  EXPECT_EQ(stream.push(0xc3), "");
  EXPECT_EQ(stream.finish(), "\ufffd");
  EXPECT_EQ(stream.finish(), "");
}

// transformers 5.24 writes the first for every Qwen2 tokenizer that had no post-processor.
TEST(Tokenizer, PostProcessorsThatAddNothingAreAccepted) {
  using nlohmann::json;
  const json empty =
      json::parse(R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {}})");
  const json bytes = small_tokenizer()["post_processor"];
  const std::vector<int32_t> expected = open_tokenizer(small_tokenizer()).encode("abc <s>x");
  for (const json& harmless : {empty, json{{"type", "Sequence"}, {"processors", {bytes, empty}}},
                               json{{"type", "Sequence"}, {"processors", json::array()}}, json(nullptr)}) {
    json document = small_tokenizer();
    document["post_processor"] = harmless;
    EXPECT_EQ(open_tokenizer(document).encode("abc <s>x"), expected) << harmless;
  }
}

}  // namespace
}  // namespace fovea
