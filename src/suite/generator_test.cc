// Goal: every question of a made suite has exactly one right answer, and it is the one that the record
// states; sets are reproducible and inside what was asked for. Method: an independent reading of each record
// (the cards noted in it, the facts found in its text by a regular expression) answers every question of the
// conversation again.
#include "suite/generator.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>

#include "base/error.h"
#include "suite/wording.h"

namespace fovea {
namespace {

using nlohmann::json;

class Generator : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::path(testing::TempDir()) /
            testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  std::vector<json> make(const SuiteRequest& request, const char* folder = "a") {
    make_suite(request, root_ / folder, true, {});
    std::ifstream lines(root_ / folder / "suite.jsonl");
    std::vector<json> records;
    for (std::string line; std::getline(lines, line);) records.push_back(json::parse(line));
    return records;
  }
  std::string bytes(const std::string& file) const {
    std::ifstream in(root_ / file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  std::filesystem::path root_;
};

SuiteRequest request_of(SuiteKind kind, int64_t count, uint64_t seed) {
  SuiteRequest request = default_request(kind);
  request.count = count;
  request.seed = seed;
  return request;
}

// All text of the user, and the (question, answer) pairs of the conversation.
struct Conversation {
  std::string text;
  int64_t images = 0;
  std::vector<std::pair<std::string, std::string>> turns;
};

Conversation read_conversation(const json& record) {
  Conversation read;
  std::string question;
  for (const json& message : record["messages"]) {
    if (message["role"] == "assistant") {
      read.turns.emplace_back(question, message["content"]);
      continue;
    }
    for (const json& part : message["content"]) {
      if (part["type"] == "image") ++read.images;
      if (part["type"] == "text") read.text += part["text"].get<std::string>();
    }
    question = message["content"].back()["text"];
  }
  read.turns.emplace_back(question, record["answer"]);
  return read;
}

// Every answer that the scene allows for a question: exactly one where the question is sound.
std::set<std::string> answers_of(const std::string& question, const json& cards,
                                 const std::multimap<std::string, std::string>& facts) {
  std::set<std::string> answers;
  std::smatch m;
  static const std::regex kFact("What is the code of (\\w+)\\?"),
      kPlace("What (colour|shape|number) is (?:in )?picture (\\d+)\\?"),
      kName("What number is on the (\\w+) (\\w+)\\?"),
      kOnly("What (colour|shape|number) is (?:in )?the picture\\?");
  const auto attribute = [](const json& card, const std::string& name) {
    return name == "number" ? std::to_string(card[name].get<int>()) : card[name].get<std::string>();
  };
  if (std::regex_match(question, m, kFact)) {
    const auto [first, last] = facts.equal_range(m[1]);
    for (auto fact = first; fact != last; ++fact) answers.insert(fact->second);
  } else if (std::regex_match(question, m, kPlace)) {
    answers.insert(attribute(cards.at(std::stoul(m[2]) - 1), m[1]));
  } else if (std::regex_match(question, m, kName)) {
    int named = 0;
    for (const json& card : cards) {
      if (card["colour"] != m[1].str() || card["shape"] != m[2].str()) continue;
      answers.insert(attribute(card, "number"));
      ++named;
    }
    EXPECT_EQ(named, 1) << question;
  } else if (std::regex_match(question, m, kOnly)) {
    EXPECT_EQ(cards.size(), 1u);
    answers.insert(attribute(cards.at(0), m[1]));
  }
  return answers;
}

TEST_F(Generator, EveryAnswerIsTheOnlyRightOne) {
  static const std::regex kSentence("The code of (\\w+) is (\\d)\\.");
  for (const SuiteKind kind :
       {SuiteKind::easy, SuiteKind::multi_image, SuiteKind::long_context, SuiteKind::mixed}) {
    SuiteRequest request = request_of(kind, 40, 17);
    request.turns = {1, 5};
    for (const json& record : make(request, name_of(kind))) {
      const Conversation read = read_conversation(record);
      std::multimap<std::string, std::string> facts;
      for (std::sregex_iterator at(read.text.begin(), read.text.end(), kSentence), end; at != end; ++at) {
        facts.emplace((*at)[1], (*at)[2]);
      }
      EXPECT_EQ(read.images, static_cast<int64_t>(record["cards"].size()));
      EXPECT_EQ(record["tags"]["images"], record["cards"].size());
      EXPECT_EQ(record["tags"]["facts"], facts.size());
      std::set<std::string> asked;
      for (const auto& [question, answer] : read.turns) {
        EXPECT_EQ(answers_of(question, record["cards"], facts), std::set<std::string>{answer})
            << record["id"] << ": " << question;
        EXPECT_TRUE(asked.insert(question).second) << "asked twice: " << question;
      }
    }
  }
}

TEST_F(Generator, CountsStayInTheAskedRanges) {
  SuiteRequest request = request_of(SuiteKind::mixed, 30, 3);
  request.images = {2, 3};
  request.facts = {5, 6};
  request.tokens = {120, 160};
  const std::vector<json> records = make(request);
  ASSERT_EQ(records.size(), 30u);
  for (const json& record : records) {
    const json& tags = record["tags"];
    EXPECT_TRUE(tags["images"] == 2 || tags["images"] == 3) << tags;
    EXPECT_TRUE(tags["facts"] == 5 || tags["facts"] == 6) << tags;
    // The last sentence may stand across the limit; no sentence of the generator has more than 18 words.
    EXPECT_GE(tags["words"], 120) << tags;
    EXPECT_LT(tags["words"], 160 + 18) << tags;
    for (size_t i = 1; i <= tags["images"]; ++i) {
      EXPECT_TRUE(std::filesystem::exists(
          root_ / "a" / fmt::format("images/{}-{}.png", record["id"].get<std::string>(), i)));
    }
  }
}

TEST_F(Generator, TheSeedDecidesAndTheCountDoesNot) {
  const SuiteRequest request = request_of(SuiteKind::mixed, 3, 5);
  SuiteRequest longer = request, other = request;
  longer.count = 6;
  other.seed = 6;
  make(request, "a");
  make(longer, "b");
  make(other, "c");
  const std::string a = bytes("a/suite.jsonl"), b = bytes("b/suite.jsonl"), c = bytes("c/suite.jsonl");
  EXPECT_EQ(b.substr(0, a.size()), a);
  EXPECT_NE(c.substr(0, a.size()), a);
  const std::string picture = "/images/mixed-00002-1.png";
  EXPECT_FALSE(bytes("a" + picture).empty());
  EXPECT_EQ(bytes("a" + picture), bytes("b" + picture));
  EXPECT_NE(bytes("a" + picture), bytes("c" + picture));
}

TEST_F(Generator, TheHandwritingChangesThePictureOnly) {
  SuiteRequest unseen = request_of(SuiteKind::multi_image, 2, 5), seen = unseen;
  seen.digits = DigitPool::seen;
  make(unseen, "a");
  make(seen, "b");
  EXPECT_NE(bytes("a/images/multi-image-00000-1.png"), bytes("b/images/multi-image-00000-1.png"));
}

TEST_F(Generator, RefusesWhatCannotBe) {
  const auto refused = [&](auto&& change) {
    SuiteRequest request = request_of(SuiteKind::mixed, 1, 0);
    change(request);
    EXPECT_THROW(make_suite(request, root_, false, {}), Error);
    EXPECT_FALSE(std::filesystem::exists(root_ / "suite.jsonl"));
  };
  refused([](SuiteRequest& r) { r.count = 0; });
  refused([](SuiteRequest& r) { r.images = {33, 33}; });
  refused([](SuiteRequest& r) { r.images = {4, 2}; });
  refused([](SuiteRequest& r) { r.facts = {0, 65}; });
  refused([](SuiteRequest& r) { r.turns = {0, 1}; });
  refused([](SuiteRequest& r) { r.tokens = {-1, 5}; });
  refused([](SuiteRequest& r) { r.images = r.facts = {0, 0}; });
}

TEST_F(Generator, AFolderThatCannotBeWrittenIsNamed) {
  std::filesystem::create_directories(root_);
  std::ofstream(root_ / "file") << "x";
  try {
    make_suite(request_of(SuiteKind::easy, 1, 0), root_ / "file", false, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find((root_ / "file").string()), std::string::npos) << error.what();
  }
}

TEST_F(Generator, ASuiteIsReplacedOnlyWhenAskedAndOnlyWhenItIsOne) {
  const SuiteRequest request = request_of(SuiteKind::easy, 2, 1);
  const auto out = root_ / "suite";
  make_suite(request, out, false, {});
  std::ofstream(out / "notes.txt") << "mine";
  EXPECT_THROW(make_suite(request, out, false, {}), Error);
  EXPECT_TRUE(std::filesystem::exists(out / "notes.txt"));
  make_suite(request, out, true, {});
  EXPECT_FALSE(std::filesystem::exists(out / "notes.txt"));
  std::filesystem::remove(out / "suite.jsonl");
  EXPECT_THROW(make_suite(request, out, true, {}), Error);
}

TEST_F(Generator, WhatIsStoppedLeavesNothing) {
  EXPECT_THROW(make_suite(request_of(SuiteKind::easy, 5, 1), root_ / "suite", false,
                          [](auto, int64_t done, int64_t) {
                            if (done == 3) throw std::runtime_error("stop");
                          }),
               std::runtime_error);
  EXPECT_TRUE(std::filesystem::is_empty(root_));
}

TEST(Wording, CountsWordsAndMarks) {
  EXPECT_EQ(count_words(""), 0);
  EXPECT_EQ(count_words("The code of Ada is 7."), 7);
  EXPECT_EQ(count_words("  two   words \n"), 2);
  EXPECT_EQ(count_words("Zürich!?"), 3);
}

TEST(Wording, FillerIsNeverAFact) {
  SuiteRandom random(1, "filler", 0);
  const std::regex form("The ([a-z]+ )+[a-z]+\\.");
  for (int i = 0; i < 500; ++i) {
    const std::string sentence = filler_sentence(random);
    EXPECT_TRUE(std::regex_match(sentence, form)) << sentence;
    EXPECT_EQ(sentence.find("code"), std::string::npos) << sentence;
  }
}

TEST(ParseRange, NumbersAndRanges) {
  EXPECT_EQ(parse_range("6", "--images").low, 6);
  EXPECT_EQ(parse_range("6", "--images").high, 6);
  EXPECT_EQ(parse_range("2-8", "--images").low, 2);
  EXPECT_EQ(parse_range("2-8", "--images").high, 8);
  for (const char* bad : {"", "-", "2-", "-8-", "2-8x", "a", "1.5", "99999999999999999999"}) {
    EXPECT_THROW(parse_range(bad, "--images"), Error) << bad;
  }
}

}  // namespace
}  // namespace fovea
