// The first screen: what was audited, the verdict in words, and the table of configurations.
#include <fmt/format.h>

#include <cmath>

#include "report/number_format.h"
#include "report/parts.h"
#include "report/sections.h"

namespace fovea::report {
namespace {

constexpr size_t kLongestDescription = 300;  // bytes

// A sentence "Head: rest" with a short head gets the head as a label, coloured by what it says.
void add_sentence(Node list, const std::string& sentence) {
  constexpr size_t kLongestHead = 24;
  const size_t colon = sentence.find(": ");
  Node item = add(list, "li");
  if (colon == std::string::npos || colon > kLongestHead) {
    add(item, "p", {}, sentence);
    return;
  }
  const std::string head = sentence.substr(0, colon);
  const bool is_bad = head.rfind("Not safe", 0) == 0 || head.rfind("Unsafe", 0) == 0;
  const bool is_good = head.rfind("Safe", 0) == 0;
  add(item, "strong", is_bad ? "verdict bad" : is_good ? "verdict good" : "verdict", head);
  add(item, "p", {}, sentence.substr(colon + 2));
}

void add_fact(Node list, std::string_view name, std::string_view value) {
  Node group = add(list, "div");
  add(group, "dt", {}, name);
  add(group, "dd", {}, value);
}

// Ratios of the recommended configuration to the one it is measured against.
void add_comparison(Node facts, const Json& recommended) {
  const Json& against = member(recommended, "against");
  const std::string name = text(against, "name");
  if (name.empty()) return;
  const double memory = number(against, "score_bytes_ratio"), time = number(against, "seconds_ratio");
  std::vector<std::string> parts;
  if (memory == 0) parts.push_back("no score memory");
  if (memory > 0) parts.push_back(fmt::format("{}\u00D7 the score memory", small_number(memory)));
  if (std::isfinite(time)) parts.push_back(fmt::format("{}\u00D7 the time", small_number(time)));
  if (!parts.empty()) add_fact(facts, fmt::format("against {}", name), joined(parts, ", "));
}

void add_recommendation(Node section, const Audit& audit) {
  const Json& recommended = member(*audit.data, "recommended");
  Node box = add(section, "div", "recommended");
  if (!recommended.is_object()) {
    add(box, "h3", {}, "No configuration to recommend");
    add(box, "p", {},
        member(*audit.data, "search").is_object()
            ? "None of those tried reached the target on this suite."
            : "None of those compared was shown to be safe on this suite.");
    return;
  }
  Node title = add(box, "h3", {}, "Recommended ");
  const Configuration* configuration = audit.find(text(recommended, "name"));
  if (configuration != nullptr) {
    add_name(title, *configuration);
  } else {
    add(title, "span", "name", text(recommended, "name"));
  }
  std::string description = text(recommended, "description");
  if (description.empty() && configuration != nullptr) description = configuration->description;
  if (!description.empty()) add(box, "p", "why", shortened(description, kLongestDescription));
  add_command(box, run_command(audit, text(recommended, "flags")));
  Node facts = add(box, "dl", "facts");
  add_fact(facts, "accuracy", accuracy_with_interval(recommended));
  if (std::isfinite(number(recommended, "target"))) {
    add_fact(facts, "target",
             percent(number(recommended, "target")) +
                 (flag(recommended, "reaches_target") ? ", reached" : ", not reached"));
  }
  if (std::isfinite(number(recommended, "score_bytes"))) {
    add_fact(facts, "score memory", size_of(number(recommended, "score_bytes")));
  }
  add_comparison(facts, recommended);
}

void add_accuracy_cells(Table& table, const Configuration& configuration, const Configuration* reference) {
  const Json& data = *configuration.data;
  const double accuracy = number(data, "accuracy");
  Node cell = table.cell({}, "accuracy");
  add_bar(cell, accuracy, style_class(configuration.style), interval(data, "interval"));
  add(cell, "span", "value", accuracy_with_interval(data));
  const double errors = number(data, "errors");
  if (errors > 0) add(cell, "span", "warning", count_of(errors) + (errors == 1 ? " error" : " errors"));
  if (reference == nullptr) return;
  if (configuration.is_reference) {
    table.cell("\u2013");
  } else {
    const double difference = accuracy - number(*reference->data, "accuracy");
    table.cell(points(difference));
  }
}

std::string risk_of(const Json& data) {
  const double at_risk = number(data, "rows_at_risk"), rows = number(data, "rows");
  if (!std::isfinite(at_risk) || !(rows > 0)) return "\u2013";
  return at_risk > 0 && at_risk / rows < 0.0005 ? "<0.1\u202F%" : percent(at_risk / rows);
}

}  // namespace

bool fill_footer(Node section, const Audit& audit) {
  add(section, "p", {},
      fmt::format("Written by {}. This file is complete in itself: it loads nothing.",
                  is_probe(audit) ? "fovea.probe" : "fovea audit"));
  return true;
}

bool fill_header(Node section, const Audit& audit) {
  const Json& data = *audit.data;
  const Json& suite = member(data, "suite");
  std::vector<std::string> parts = {text(member(data, "model"), "dir"), text(suite, "source")};
  if (std::isfinite(number(suite, "used"))) parts.push_back(count_of(number(suite, "used")) + " questions");
  if (!text(data, "reference").empty()) parts.push_back("reference " + text(data, "reference"));
  add(section, "p", "subject", joined(parts, " \u00B7 "));
  const Json& machine = member(data, "machine");
  const std::string made_on = joined({text(data, "date"), text(machine, "cpu")}, " \u00B7 ");
  if (!made_on.empty()) add(section, "p", "subject", made_on);
  const Json& complete = member(data, "complete");
  if (complete.is_boolean() && !complete.get<bool>()) {
    add(section, "p", "banner",
        "This audit was interrupted. Everything below covers only the questions done before that.");
  }
  return true;
}

bool fill_verdict(Node section, const Audit& audit) {
  const Json& conclusion = member(*audit.data, "conclusion");
  const bool has_recommendation = audit.data->contains("recommended");
  const bool has_words = conclusion.is_array() && !conclusion.empty();
  if (!has_words && !has_recommendation) return false;
  if (has_words) {
    Node list = add(section, "ul", "conclusion");
    for (const Json& sentence : conclusion) {
      if (sentence.is_string()) add_sentence(list, sentence.get<std::string>());
    }
  }
  if (has_recommendation) add_recommendation(section, audit);
  return true;
}

bool fill_configurations(Node section, const Audit& audit) {
  if (audit.configurations.empty()) return false;
  const Configuration* reference = audit.reference();
  Table table(section, "Configurations and their accuracy", "stack");
  table.column("configuration", false);
  table.column("accuracy (95\u202F% interval)", false);
  if (reference != nullptr) table.column("to reference");
  for (const char* title :
       {"KL (nats)", "token agreement", "identical answers", "rows at risk", "memory", "time"}) {
    table.column(title);
  }
  for (const Configuration& configuration : audit.configurations) {
    const Json& data = *configuration.data;
    Node header = table.row({});
    add_name(header, configuration);
    if (configuration.is_reference) add_badge(header, "neutral", "reference");
    if (configuration.is_recommended) add_badge(header, "good", "recommended");
    if (!configuration.description.empty()) {
      add(header, "span", "why", shortened(configuration.description, kLongestDescription));
    }
    add_accuracy_cells(table, configuration, reference);
    table.cell(small_number(number(data, "kl")));
    table.cell(percent(number(data, "agreement")));
    table.cell(percent(number(data, "identical_answers")));
    table.cell(risk_of(data));
    table.cell(size_of(number(data, "peak_bytes")));
    table.cell(duration_of(number(data, "seconds")));
  }
  return true;
}

}  // namespace fovea::report
