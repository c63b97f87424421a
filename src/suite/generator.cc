#include "suite/generator.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "base/error.h"
#include "base/output_file.h"
#include "base/output_folder.h"
#include "suite/wording.h"

namespace fovea {
namespace {

using nlohmann::json;

constexpr int64_t kCardsMax = kColours.size() * kShapes.size();

json text_part(std::string text) { return {{"type", "text"}, {"text", std::move(text)}}; }

// The values 0 .. count - 1 in random order.
std::vector<size_t> shuffled(size_t count, SuiteRandom& random) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  random.shuffle(order);
  return order;
}

std::vector<Card> draw_cards(int64_t count, SuiteRandom& random) {
  std::vector<Card> cards;
  for (const size_t name : shuffled(kCardsMax, random)) {
    if (static_cast<int64_t>(cards.size()) == count) break;
    cards.push_back({name % kColours.size(), name / kColours.size(), random.below(10)});
  }
  return cards;
}

std::vector<Fact> draw_facts(int64_t count, SuiteRandom& random) {
  std::vector<Fact> facts;
  for (const size_t name : shuffled(kNameCount, random)) {
    if (static_cast<int64_t>(facts.size()) == count) break;
    facts.push_back({name, random.below(10)});
  }
  return facts;
}

// Facts and filler in random order, about `words` long.
std::string draw_text(const std::vector<Fact>& facts, int64_t words, SuiteRandom& random) {
  std::vector<std::string> sentences;
  int64_t length = 0;
  for (const Fact& fact : facts) {
    sentences.push_back(fact_sentence(fact));
    length += count_words(sentences.back());
  }
  while (length < words) {
    sentences.push_back(filler_sentence(random));
    length += count_words(sentences.back());
  }
  random.shuffle(sentences);
  std::string text;
  for (const std::string& sentence : sentences) text += (text.empty() ? "" : " ") + sentence;
  return text;
}

// Everything that one record can be asked about.
struct Scene {
  std::vector<Card> cards;
  std::vector<Fact> facts;

  size_t topics() const { return cards.size() + facts.size(); }
  Question question(size_t topic, SuiteRandom& random) const {
    if (topic < cards.size()) {
      return cards.size() == 1 ? only_card_question(cards[0], random)
                               : card_question(cards[topic], topic + 1, random);
    }
    const Fact& fact = facts[topic - cards.size()];
    return {fact_question(fact), std::to_string(fact.code)};
  }
};

class RecordMaker {
 public:
  RecordMaker(const SuiteRequest& request, const std::filesystem::path& out, int64_t index)
      : request_(request),
        out_(out),
        random_(request.seed, name_of(request.kind), static_cast<uint64_t>(index)),
        id_(fmt::format("{}-{:05}", name_of(request.kind), index)) {}

  json make() {
    draw_scene();
    json content = json::array();
    for (size_t i = 0; i < scene_.cards.size(); ++i) add_card(i, content);
    if (!text_.empty()) content.push_back(text_part(text_ + "\n"));
    const std::string answer = add_questions(std::move(content));
    return {{"id", id_},
            {"messages", std::move(messages_)},
            {"answer", answer},
            {"match", "normalized"},
            {"cards", describe_cards()},
            {"tags",
             {{"kind", name_of(request_.kind)},
              {"images", scene_.cards.size()},
              {"facts", scene_.facts.size()},
              {"words", count_words(text_)}}}};
  }

 private:
  int64_t draw(const CountRange& range) { return random_.between(range.low, range.high); }

  void draw_scene() {
    int64_t images = draw(request_.images), facts = draw(request_.facts);
    if (request_.kind == SuiteKind::easy) (random_.below(4) == 0 ? images : facts) = 0;
    scene_.cards = draw_cards(images, random_);
    scene_.facts = draw_facts(facts, random_);
    if (facts > 0) text_ = draw_text(scene_.facts, draw(request_.tokens), random_);
  }

  void add_card(size_t index, json& content) {
    const std::string file = fmt::format("images/{}-{}.png", id_, index + 1);
    write_png(out_ / file, draw_card(scene_.cards[index], request_.digits, random_));
    if (scene_.cards.size() > 1) content.push_back(text_part(fmt::format("Picture {}: ", index + 1)));
    content.push_back({{"type", "image"}, {"image", file}});
    content.push_back(text_part("\n"));
  }

  // What is on every picture: the author's note, which tools/demo_model/train.py learns from.
  json describe_cards() const {
    json cards = json::array();
    for (const Card& card : scene_.cards) {
      cards.push_back(
          {{"colour", kColours[card.colour]}, {"shape", kShapes[card.shape]}, {"number", card.number}});
    }
    return cards;
  }

  // Appends the turns to the messages, the scene before the first question; returns the last answer.
  std::string add_questions(json content) {
    const std::vector<size_t> topics = shuffled(scene_.topics(), random_);
    const auto turns = static_cast<size_t>(draw(request_.turns));
    Question question;
    for (size_t turn = 0; turn < std::min(turns, topics.size()); ++turn) {
      if (turn > 0) {
        messages_.push_back({{"role", "assistant"}, {"content", question.answer}});
        content = json::array();
      }
      question = scene_.question(topics[turn], random_);
      content.push_back(text_part(question.text));
      messages_.push_back({{"role", "user"}, {"content", std::move(content)}});
    }
    return question.answer;
  }

  const SuiteRequest& request_;
  const std::filesystem::path& out_;
  SuiteRandom random_;
  std::string id_, text_;
  Scene scene_;
  json messages_ = json::array();
};

void check_range(const CountRange& range, int64_t low, int64_t high, std::string_view what) {
  if (range.low >= low && range.low <= range.high && range.high <= high) return;
  throw Error(ErrorKind::invalid_argument,
              fmt::format("{} {}-{} is outside {} to {}", what, range.low, range.high, low, high),
              fmt::format("give {} as a number or as LOW-HIGH within these limits", what));
}

void check_request(const SuiteRequest& request) {
  check_range({request.count, request.count}, 1, 1'000'000, "--count");
  check_range(request.tokens, 0, 1'000'000, "--tokens");
  check_range(request.images, 0, kCardsMax, "--images");
  check_range(request.facts, 0, static_cast<int64_t>(kNameCount), "--facts");
  check_range(request.turns, 1, kCardsMax + static_cast<int64_t>(kNameCount), "--turns");
  if (request.images.low + request.facts.low > 0) return;
  throw Error(ErrorKind::invalid_argument, "a record with neither images nor facts has nothing to ask about",
              "raise --images or --facts");
}

}  // namespace

const char* name_of(SuiteKind kind) {
  constexpr const char* kSuiteNames[] = {"easy", "multi-image", "long-context", "mixed"};
  return kSuiteNames[static_cast<size_t>(kind)];
}

SuiteKind parse_suite_kind(std::string_view name) {
  for (const SuiteKind kind :
       {SuiteKind::easy, SuiteKind::multi_image, SuiteKind::long_context, SuiteKind::mixed}) {
    if (name == name_of(kind)) return kind;
  }
  throw Error(ErrorKind::invalid_argument, fmt::format("there is no suite kind {}", name),
              "give easy, multi-image, long-context or mixed");
}

CountRange parse_range(std::string_view text, std::string_view what) {
  const auto number = [&](std::string_view digits) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size() || digits.empty()) {
      throw Error(ErrorKind::invalid_argument, fmt::format("{} {} is not a number or a range", what, text),
                  fmt::format("give {} as a number such as 6, or as a range such as 2-8", what));
    }
    return value;
  };
  const size_t dash = text.find('-', 1);
  if (text.empty() || dash == std::string_view::npos) return {number(text), number(text)};
  return {number(text.substr(0, dash)), number(text.substr(dash + 1))};
}

SuiteRequest default_request(SuiteKind kind) {
  SuiteRequest request;
  request.kind = kind;
  switch (kind) {
    case SuiteKind::easy:
      request.images = request.facts = {1, 1};
      break;
    case SuiteKind::multi_image:
      request.images = {4, 8};
      break;
    case SuiteKind::long_context:
      request.tokens = {500, 3000};
      request.facts = {8, 16};
      break;
    case SuiteKind::mixed:
      request.tokens = {200, 1500};
      request.images = {2, 6};
      request.facts = {4, 8};
      break;
  }
  return request;
}

void make_suite(const SuiteRequest& request, const std::filesystem::path& out, bool replace,
                const ProgressFn& progress) {
  check_request(request);
  OutputFolder folder(out, replace, "suite.jsonl");
  std::error_code error;
  std::filesystem::create_directory(folder.path("images"), error);
  if (error) fail_to_write("create the folder", folder.path("images"), error.value());
  OutputFile lines(folder.path("suite.jsonl"));
  for (int64_t index = 0; index < request.count; ++index) {
    lines.append(RecordMaker(request, folder.partial(), index).make().dump() + '\n');
    if (progress) progress("suite", index + 1, request.count);
  }
  lines.finish();
  folder.finish();
}

}  // namespace fovea
