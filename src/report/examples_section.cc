// Questions whose answers differ: what was asked, with its pictures, and the answers side by side; and where
// free answers leave the reference's.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "report/number_format.h"
#include "report/parts.h"
#include "report/sections.h"
#include "report/thumbnail.h"

namespace fovea::report {
namespace {

constexpr size_t kShownExamples = 8, kOpenExamples = 4;
constexpr size_t kLongestAnswer = 200, kLongestPrompt = 1200;  // bytes
constexpr size_t kShownPictures = 8;

struct Example {
  std::string id;
  std::vector<const Json*> items;  // one per configuration, null where it has none
  const Json* question = nullptr;  // what was asked, where the audit says so
  size_t place = 0;                // among the questions that the audit chose; behind them for others
  size_t wrong = 0;
  double kl = 0;
  bool judged_differently = false, worded_differently = false;
};

std::string expected_answers(const Json& item) {
  const Json& expected = member(item, "expected");
  if (!expected.is_array()) return shortened(text(item, "expected"), kLongestAnswer);
  std::string result;
  for (const Json& answer : expected) {
    const std::string one = answer.is_string() ? answer.get<std::string>() : answer.dump();
    result += (result.empty() ? "" : " or ") + one;
  }
  return shortened(result, kLongestAnswer);
}

void judge(Example& example) {
  size_t judged = 0;
  const Json* first = nullptr;
  for (const Json* item : example.items) {
    if (item == nullptr) continue;
    ++judged;
    if (!flag(*item, "correct")) ++example.wrong;
    if (const double kl = number(*item, "kl"); kl > example.kl) example.kl = kl;
    if (first == nullptr) first = item;
    example.worded_differently |= text(*item, "answer") != text(*first, "answer");
  }
  example.judged_differently = example.wrong > 0 && example.wrong < judged;
}

// Those whose answers differ, in the audit's own order where it chose some to be shown; then those that some
// answer right and others wrong before the merely worded differently, the most wrong answers and the largest
// KL first.
std::vector<Example> examples_of(const Audit& audit) {
  std::map<std::string, Example> by_id;
  for (size_t i = 0; i < audit.configurations.size(); ++i) {
    for (const Json* item : objects(*audit.configurations[i].data, "items")) {
      Example& example = by_id[text(*item, "id")];
      example.id = text(*item, "id");
      example.items.resize(audit.configurations.size());
      example.items[i] = item;
    }
  }
  const std::vector<const Json*> questions = objects(*audit.data, "questions");
  for (auto& [id, example] : by_id) example.place = questions.size();
  for (size_t i = questions.size(); i-- > 0;) {
    const auto found = by_id.find(text(*questions[i], "id"));
    if (found == by_id.end()) continue;
    found->second.question = questions[i];
    found->second.place = i;
  }
  std::vector<Example> result;
  for (auto& [id, example] : by_id) {
    judge(example);
    if (example.judged_differently || example.worded_differently) result.push_back(std::move(example));
  }
  std::stable_sort(result.begin(), result.end(), [](const Example& a, const Example& b) {
    return std::tuple(a.place, !a.judged_differently, b.wrong, b.kl) <
           std::tuple(b.place, !b.judged_differently, a.wrong, a.kl);
  });
  return result;
}

void add_pictures(Node card, const Json& question) {
  const std::vector<const Json*> pictures = objects(question, "pictures");
  if (pictures.empty()) return;
  Node list = add(card, "div", "pictures");
  for (size_t i = 0; i < std::min(pictures.size(), kShownPictures); ++i) {
    const Json& picture = *pictures[i];
    Node figure = add(list, "div", "picture");
    const std::string title = fmt::format("picture {}", i + 1);
    if (const auto thumbnail = thumbnail_of(text(picture, "thumbnail"))) {
      Node image = add(figure, "img");
      set(image, "src", thumbnail->url);
      set(image, "alt", title);
      set(image, "width", double(thumbnail->width));
      set(image, "height", double(thumbnail->height));
    }
    std::string size;
    if (number(picture, "width") > 0 && number(picture, "height") > 0) {
      size = fmt::format(", {}\u202F\u00D7\u202F{}", count_of(number(picture, "width")),
                         count_of(number(picture, "height")));
    }
    if (number(picture, "frames") > 1)
      size += fmt::format(", {} frames", count_of(number(picture, "frames")));
    add(figure, "span", "note", title + size);
  }
  if (pictures.size() > kShownPictures) {
    add(list, "span", "note", fmt::format("and {} more", pictures.size() - kShownPictures));
  }
}

// The configurations that gave the same answer, and what it was.
struct Given {
  std::vector<const Configuration*> by;
  const Json* item;
};

std::vector<Given> answers_of(const Audit& audit, const Example& example) {
  std::vector<Given> answers;
  for (size_t i = 0; i < example.items.size(); ++i) {
    const Json* item = example.items[i];
    if (item == nullptr) continue;
    const auto same = std::find_if(answers.begin(), answers.end(), [&](const Given& given) {
      return flag(*given.item, "correct") == flag(*item, "correct") &&
             text(*given.item, "answer") == text(*item, "answer") &&
             text(*given.item, "problem") == text(*item, "problem");
    });
    if (same != answers.end()) {
      same->by.push_back(&audit.configurations[i]);
    } else {
      answers.push_back({{&audit.configurations[i]}, item});
    }
  }
  return answers;
}

// Where `answer` leaves `other`: at the beginning of a character.
size_t first_difference(const std::string& answer, const std::string& other) {
  const auto [at, ignored] = std::mismatch(answer.begin(), answer.end(), other.begin(), other.end());
  auto place = static_cast<size_t>(at - answer.begin());
  while (place > 0 && place < answer.size() && (static_cast<unsigned char>(answer[place]) & 0xC0) == 0x80)
    --place;
  return place;
}

// The answer with what follows its first difference from `other` marked; of a long answer what is around it.
void add_quote(Node parent, const std::string& answer, const std::string& other) {
  constexpr size_t kBefore = 60;
  size_t at = first_difference(answer, other);
  std::string shown = answer;
  if (answer.size() > kLongestAnswer && at > kBefore) {
    size_t from = at - kBefore;
    while (from > 0 && (static_cast<unsigned char>(answer[from]) & 0xC0) == 0x80) --from;
    shown = "\u2026" + answer.substr(from);
    at = at - from + std::string_view("\u2026").size();
  }
  Node quote = add(parent, "q");
  if (at > 0) add_text(quote, shortened(shown.substr(0, at), kLongestAnswer));
  if (at < shown.size()) add(quote, "mark", {}, shortened(shown.substr(at), kLongestAnswer));
}

void add_answer(Node list, const Given& given, const Given& first) {
  const Json& item = *given.item;
  const bool correct = flag(item, "correct");
  Node cell = add(list, "li", correct ? "right" : "wrong");
  Node names = add(cell, "div", "who");
  for (const Configuration* configuration : given.by) add_name(names, *configuration);
  add(cell, "span", "mark", correct ? "\u2713 right" : "\u2717 wrong");
  add_text(cell, " ");
  const std::string problem = text(item, "problem"), answer = text(item, "answer");
  if (!problem.empty()) {
    add(cell, "span", "warning", shortened(problem, kLongestAnswer));
  } else if (answer.empty()) {
    add(cell, "span", "note", "(no answer)");
  } else if (&given == &first) {
    add(cell, "q", {}, shortened(answer, kLongestAnswer));
  } else {
    add_quote(cell, answer, text(*first.item, "answer"));
  }
}

void add_example(Node parent, const Audit& audit, const Example& example) {
  const Json& any =
      **std::find_if(example.items.begin(), example.items.end(), [](auto* item) { return item; });
  Node card = add(parent, "article", "question");
  Node head = add(card, "h3", {}, shortened(example.id, 80));
  const double images = number(any, "images");
  add(head, "span", "note",
      fmt::format(" {} tokens, {} {}", count_of(number(any, "context")), count_of(images),
                  images == 1 ? "picture" : "pictures"));
  if (example.question != nullptr) {
    add_pictures(card, *example.question);
    const std::string prompt = shortened(text(*example.question, "prompt"), kLongestPrompt);
    if (!prompt.empty()) add(card, "p", "prompt", prompt);
  }
  if (const std::string expected = expected_answers(any); !expected.empty()) {
    add(add(card, "p", "expected", "Expected: "), "q", {}, expected);
  }
  const std::vector<Given> answers = answers_of(audit, example);
  Node list = add(card, "ul", "answers");
  for (const Given& given : answers) add_answer(list, given, answers.front());
}

std::string lead_of(const std::vector<Example>& examples) {
  const auto judged = static_cast<size_t>(std::count_if(
      examples.begin(), examples.end(), [](const Example& example) { return example.judged_differently; }));
  const auto questions = [](size_t count) {
    return count_of(double(count)) + (count == 1 ? " question" : " questions");
  };
  std::string lead;
  if (judged > 0) {
    lead = questions(judged) + (judged == 1 ? " is" : " are") +
           " answered right by some configurations and wrong by others.";
  }
  if (const size_t worded = examples.size() - judged; worded > 0) {
    lead += (lead.empty() ? "" : " ") + questions(worded) + (worded == 1 ? " has" : " have") +
            " answers that differ in words alone.";
  }
  return lead;
}

void add_examples(Node section, const Audit& audit, const std::vector<Example>& examples) {
  const size_t shown = std::min(examples.size(), kShownExamples);
  add(section, "p", "lead", lead_of(examples));
  Node open = add(section, "div", "questions");
  for (size_t i = 0; i < std::min(shown, kOpenExamples); ++i) add_example(open, audit, examples[i]);
  if (shown > kOpenExamples) {
    Node more =
        add(add_details(section, fmt::format("{} more of them", shown - kOpenExamples)), "div", "questions");
    for (size_t i = kOpenExamples; i < shown; ++i) add_example(more, audit, examples[i]);
  }
  if (examples.size() > shown) {
    add(section, "p", "note", count_of(double(examples.size() - shown)) + " others are in the JSON.");
  }
}

// "at token 0: 15, at token 3: 1"
std::string divergence_of(const Json& configuration) {
  constexpr size_t kPlaces = 6;
  std::string result;
  const std::vector<const Json*> places = objects(configuration, "first_divergence");
  for (size_t i = 0; i < places.size() && i < kPlaces; ++i) {
    result += fmt::format("{}token {}: {}\u00D7", i > 0 ? ", " : "", count_of(number(*places[i], "position")),
                          count_of(number(*places[i], "count")));
  }
  if (places.size() > kPlaces) result += ", \u2026";
  return result.empty() ? "never" : result;
}

void add_divergence(Node section, const Audit& audit) {
  Table table(section, "Where free answers leave the reference", "stack");
  table.column("configuration", false);
  table.column("identical answers");
  table.column("first different token (0 is the first)", false);
  for (const Configuration& configuration : audit.configurations) {
    if (configuration.is_reference || !member(*configuration.data, "first_divergence").is_array()) continue;
    add_name(table.row({}), configuration);
    table.cell(percent(number(*configuration.data, "identical_answers")));
    table.cell(divergence_of(*configuration.data));
  }
}

}  // namespace

bool fill_differences(Node section, const Audit& audit) {
  const bool has_divergence =
      std::any_of(audit.configurations.begin(), audit.configurations.end(), [](const Configuration& c) {
        return !c.is_reference && member(*c.data, "first_divergence").is_array();
      });
  const std::vector<Example> examples = examples_of(audit);
  if (!has_divergence && examples.empty()) return false;
  if (!examples.empty()) add_examples(section, audit, examples);
  if (has_divergence) add_divergence(section, audit);
  return true;
}

}  // namespace fovea::report
