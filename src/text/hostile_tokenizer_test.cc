// Goal: damaged or unsupported tokenizer files end in an error that names the place, never in a crash or vast
// memory. Method: one damage at a time to a tiny tokenizer, then every truncation and many seeded byte
// changes of it.
#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "text/small_tokenizer_testing.h"

namespace fovea {
namespace {

using nlohmann::json;

struct Damage {
  const char* pointer;  // JSON pointer to the value
  const char* value;    // JSON put there; null pointer removes the field
  const char* words;    // that the message must hold
  ErrorKind kind = ErrorKind::corrupt;
};

class DamagedTokenizer : public testing::TestWithParam<Damage> {};

TEST_P(DamagedTokenizer, IsRefusedByName) {
  const Damage& damage = GetParam();
  json document = small_tokenizer();
  const json::json_pointer pointer(damage.pointer);
  if (damage.value) {
    document[pointer] = json::parse(damage.value);
  } else {
    document[pointer.parent_pointer()].erase(pointer.back());
  }
  try {
    open_tokenizer(document);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(error.message().find(damage.words), std::string::npos) << error.message();
    EXPECT_EQ(error.kind(), damage.kind) << error.message();
    EXPECT_FALSE(error.remedy().empty());
  }
}

constexpr ErrorKind kUnsupported = ErrorKind::unsupported;

INSTANTIATE_TEST_SUITE_P(
    Statements, DamagedTokenizer,
    testing::ValuesIn(std::vector<Damage>{
        {"/version", "\"2.0\"", "version", kUnsupported},
        {"/surprise", "1", "surprise", kUnsupported},
        {"/normalizer", R"({"type": "NFKC"})", "NFKC", kUnsupported},
        {"/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "Lowercase"}]})", "Lowercase",
         kUnsupported},
        {"/normalizer", "[]", "normalizer"},
        {"/pre_tokenizer", "null", "pre_tokenizer"},
        {"/pre_tokenizer/type", "\"Whitespace\"", "Whitespace", kUnsupported},
        {"/pre_tokenizer/pretokenizers", "[]", "pretokenizers", kUnsupported},
        {"/pre_tokenizer/pretokenizers/0/type", "\"Punctuation\"", "Punctuation", kUnsupported},
        {"/pre_tokenizer/pretokenizers/0/behavior", "\"Removed\"", "Removed", kUnsupported},
        {"/pre_tokenizer/pretokenizers/0/invert", "true", "invert", kUnsupported},
        {"/pre_tokenizer/pretokenizers/0/pattern", R"({"String": " "})", "String", kUnsupported},
        {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "\"(\"", "Regex", kUnsupported},
        {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "7", "Regex"},
        {"/pre_tokenizer/pretokenizers/1/add_prefix_space", "true", "add_prefix_space", kUnsupported},
        {"/pre_tokenizer/pretokenizers/1/use_regex", "true", "use_regex", kUnsupported},
        {"/post_processor", R"({"type": "BertProcessing"})", "BertProcessing", kUnsupported},
        {"/post_processor", R"({"type": "TemplateProcessing"})", "post_processor has no field \"single\""},
        {"/post_processor", R"({"type": "TemplateProcessing", "single": []})", "single", kUnsupported},
        {"/post_processor", R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B"}}]})",
         "single[0].Sequence.id", kUnsupported},
        {"/post_processor",
         R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"Sequence": {"id": "A"}}]})",
         "single", kUnsupported},
        {"/post_processor",
         R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<e>", "type_id": 0}}]})",
         "TemplateProcessing adds the token <e>", kUnsupported},
        {"/post_processor",
         R"({"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing",
             "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A"}}]}]})",
         "post_processor.processors[1]: TemplateProcessing adds the token <s>", kUnsupported},
        {"/decoder", R"({"type": "WordPiece"})", "WordPiece", kUnsupported},
        {"/decoder", nullptr, "decoder"},
        {"/model", nullptr, "model"},
        {"/model", "[]", "model"},
        {"/model/type", "\"Unigram\"", "Unigram", kUnsupported},
        {"/model/dropout", "0.1", "dropout", kUnsupported},
        {"/model/continuing_subword_prefix", "\"##\"", "continuing_subword_prefix", kUnsupported},
        {"/model/end_of_word_suffix", "\"</w>\"", "end_of_word_suffix", kUnsupported},
        {"/model/byte_fallback", "true", "byte_fallback", kUnsupported},
        {"/model/ignore_merges", "true", "ignore_merges", kUnsupported},
        {"/model/cleverness", "true", "cleverness", kUnsupported},
        {"/model/vocab", nullptr, "vocab"},
        {"/model/vocab", "[]", "vocab", kUnsupported},
        {"/model/vocab/abc", "-1", "abc"},
        {"/model/vocab/abc", "1.5", "abc"},
        {"/model/vocab/abc", "\"257\"", "abc"},
        {"/model/vocab/abc", "{}", "abc"},
        {"/model/vocab/abc", "[[]]", "abc"},
        {"/model/vocab/abc", "null", "abc"},
        {"/model/vocab/abc", "4194304", "abc"},
        {"/model/vocab/abc", "99999999999999999999999999", "abc"},
        {"/model/vocab/abc", "256", "256"},
        {"/model/merges", nullptr, "merges"},
        {"/model/merges", "{}", "merges"},
        {"/model/merges/1", "\"ab\"", "merges[1]"},
        {"/model/merges/1", "\"a b c\"", "merges[1]"},
        {"/model/merges/1", "[\"a\"]", "merges[1]"},
        {"/model/merges/1", "[\"a\", \"b\", \"c\"]", "merges[1]"},
        {"/model/merges/1", "[\"a\", 1]", "merges[1]"},
        {"/model/merges/1", "[\"a\", [\"b\"]]", "merges[1]"},
        {"/model/merges/1", "{}", "merges[1]"},
        {"/model/merges/1", "3", "merges[1]"},
        {"/model/merges/1", "\"x q\"", "merge 1"},  // "xq" is no token
        {"/model/merges/1", "[\"abc\", \"abc\"]",
         "merge 1"},  // nor is "abcabc": a cycle would need an endless token
        {"/model/merges/1", "[\"\", \"\"]", "merge 1"},
        {"/added_tokens", "{}", "added_tokens"},
        {"/added_tokens/1", "7", "added_tokens[1]"},
        {"/added_tokens/1/id", "-5", "added_tokens[1].id"},
        {"/added_tokens/1/id", "4000000000", "added_tokens[1].id"},
        {"/added_tokens/1/id", "259", "<e>"},
        {"/added_tokens/1/id", "97", "<e>"},
        {"/added_tokens/1/id", "300", "<e>"},
        {"/added_tokens/1/content", "\"\"", "empty added token"},
        {"/added_tokens/1/content", "\"<s>\"", "<s>"},
        {"/added_tokens/1/content", "null", "added_tokens[1].content"},
        {"/added_tokens/1/special", "\"yes\"", "added_tokens[1].special"},
        {"/added_tokens/1/single_word", "true", "single_word", kUnsupported},
        {"/added_tokens/1/weight", "1", "weight", kUnsupported}}));

TEST(HostileTokenizer, AMissingTokenizerIsNotFound) {
  const TemporaryFolder folder;
  folder.write("vocab.json", "{}");
  try {
    Tokenizer::open(folder.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::not_found);
  }
}

TEST(HostileTokenizer, BadMergesTextIsNamedByLine) {
  const TemporaryFolder folder;
  folder.write("vocab.json", small_tokenizer()["model"]["vocab"].dump());
  folder.write("merges.txt", "#version: 0.2\na b\nabc\n");
  try {
    Tokenizer::open(folder.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(error.message().find("line 3"), std::string::npos) << error.message();
  }
}

TEST(HostileTokenizer, DeepNestingIsRefused) {
  for (const char* open : {"[", "{\"a\":", "{\"model\":{\"vocab\":{\"a\":["}) {
    std::string text;
    while (text.size() < 1'000'000) text += open;
    EXPECT_THROW(open_tokenizer(text), Error) << open;
  }
}

TEST(HostileTokenizer, RepeatedKeysAreRefusedOrHarmless) {
  std::string text = small_tokenizer().dump();
  const std::string key = "\"abc\":257";
  text.replace(text.find(key), key.size(), "\"abc\":257,\"abc\":300");
  EXPECT_THROW(open_tokenizer(text), Error);
}

// Either an Error or a tokenizer that works; anything else ends the program or alarms the sanitizers.
void open_and_use(const std::string& text) {
  try {
    const Tokenizer tokenizer = open_tokenizer(text);
    const auto ids = tokenizer.encode("abc <s> \xff\u0301 x");
    tokenizer.decode(ids, true);
  } catch (const Error&) {
  }
}

TEST(HostileTokenizer, EveryTruncationIsRefused) {
  const std::string text = small_tokenizer().dump();
  for (size_t size = 0; size < text.size(); size += 3)
    EXPECT_THROW(open_tokenizer(text.substr(0, size)), Error) << size;
}

TEST(HostileTokenizer, ChangedBytesNeverCrash) {
  const std::string original = small_tokenizer().dump();
  std::mt19937 random(11);
  constexpr std::string_view kLikely = "{}[]\",:0123456789-.eE\\u\x80\xff \tnull";
  for (int round = 0; round < 4000; ++round) {
    std::string text = original;
    for (unsigned change = 0; change < 1 + random() % 3; ++change) {
      text[random() % text.size()] = kLikely[random() % kLikely.size()];
    }
    open_and_use(text);
  }
}

// Renamed rather than erased, so that the added tokens keep their ids.
TEST(HostileTokenizer, MissingBaseTokensAreNamed) {
  for (const auto& [token, words] : {std::pair{"a", "\"a\""}, std::pair{"z", "0x7A"}}) {
    json document = small_tokenizer();
    json& vocabulary = document["model"]["vocab"];
    vocabulary["zz"] = vocabulary[token];
    vocabulary.erase(token);
    try {
      open_tokenizer(document);
      FAIL() << "accepted without " << token;
    } catch (const Error& error) {
      EXPECT_NE(error.message().find(words), std::string::npos) << error.message();
    }
  }
}

TEST(HostileTokenizer, ARunawayPatternEndsInAnError) {
  json document = small_tokenizer();
  document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a|aa)+[bc]";
  const Tokenizer tokenizer = open_tokenizer(document);
  try {
    tokenizer.encode(std::string(200, 'a'));
    FAIL() << "an exponential match came to an end";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::exhausted);
  }
}

}  // namespace
}  // namespace fovea
