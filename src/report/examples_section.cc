// Questions that some configurations answer right and others wrong, and where free answers leave the
// reference's.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "report/number_format.h"
#include "report/parts.h"
#include "report/sections.h"

namespace fovea::report {
namespace {

constexpr size_t kShownExamples = 8;
constexpr size_t kLongestAnswer = 160;  // bytes

struct Example {
  std::string id;
  std::vector<const Json*> items;  // one per configuration, null where it has none
  size_t wrong = 0;
  double kl = 0;
  bool differs = false;
};

// Cuts between characters, not inside one.
std::string shortened(std::string text) {
  if (text.size() <= kLongestAnswer) return text;
  size_t end = kLongestAnswer;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "\u2026";
}

std::string expected_answers(const Json& item) {
  const Json& expected = member(item, "expected");
  if (!expected.is_array()) return shortened(text(item, "expected"));
  std::string result;
  for (const Json& answer : expected) {
    const std::string one = answer.is_string() ? answer.get<std::string>() : answer.dump();
    result += (result.empty() ? "" : " or ") + one;
  }
  return shortened(result);
}

void judge(Example& example) {
  size_t judged = 0;
  for (const Json* item : example.items) {
    if (item == nullptr) continue;
    ++judged;
    if (!flag(*item, "correct")) ++example.wrong;
    if (const double kl = number(*item, "kl"); kl > example.kl) example.kl = kl;
  }
  example.differs = example.wrong > 0 && example.wrong < judged;
}

// Those that some answer right and others wrong: the most wrong answers first, then the largest KL.
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
  std::vector<Example> result;
  for (auto& [id, example] : by_id) {
    judge(example);
    if (example.differs) result.push_back(std::move(example));
  }
  std::stable_sort(result.begin(), result.end(), [](const Example& a, const Example& b) {
    return a.wrong != b.wrong ? a.wrong > b.wrong : a.kl > b.kl;
  });
  return result;
}

void add_answer(Table& table, const Json* item) {
  if (item == nullptr) {
    table.cell("\u2013");
    return;
  }
  const bool correct = flag(*item, "correct");
  Node cell = add(table.cell({}), "div", correct ? "right" : "wrong");
  const std::string problem = text(*item, "problem"), answer = shortened(text(*item, "answer"));
  add(cell, "span", "mark", correct ? "\u2713 right" : "\u2717 wrong");
  add_text(cell, " ");
  if (!problem.empty()) {
    add(cell, "span", "warning", shortened(problem));
  } else if (answer.empty()) {
    add(cell, "span", "note", "(no answer)");
  } else {
    add(cell, "q", {}, answer);
  }
}

void add_examples(Node section, const Audit& audit, const std::vector<Example>& examples) {
  std::string lead = count_of(double(examples.size())) +
                     (examples.size() == 1 ? " question is" : " questions are") +
                     " answered right by some configurations and wrong by others.";
  if (examples.size() > kShownExamples) {
    lead += " Shown: the " + count_of(double(kShownExamples)) +
            " with the most wrong answers and the largest KL.";
  }
  add(section, "p", "lead", lead);
  Table table(section, "Questions that some answer right and others wrong", table_class(audit));
  table.column("question", false);
  table.column("prompt", false);
  table.column("expected", false);
  for (const Configuration& configuration : audit.configurations) table.column(configuration.name, false);
  for (size_t i = 0; i < std::min(examples.size(), kShownExamples); ++i) {
    const Example& example = examples[i];
    const Json& any =
        **std::find_if(example.items.begin(), example.items.end(), [](auto* item) { return item; });
    table.row(example.id);
    const double images = number(any, "images");
    table.cell(fmt::format("{} tokens, {} {}", count_of(number(any, "context")), count_of(images),
                           images == 1 ? "image" : "images"));
    table.cell(expected_answers(any));
    for (const Json* item : example.items) add_answer(table, item);
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
  if (has_divergence) add_divergence(section, audit);
  if (!examples.empty()) add_examples(section, audit, examples);
  return true;
}

}  // namespace fovea::report
