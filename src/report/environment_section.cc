// What went wrong on the way, and what is needed to repeat the audit.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/number_format.h"
#include "report/parts.h"
#include "report/sections.h"

namespace fovea::report {
namespace {

constexpr size_t kShownProblems = 50;

void add_more(Node section, size_t count) {
  if (count > kShownProblems) {
    add(section, "p", "note", count_of(double(count - kShownProblems)) + " more are in the JSON.");
  }
}

bool add_skipped(Node section, const Audit& audit) {
  const Json& suite = member(*audit.data, "suite");
  const std::vector<const Json*> problems = objects(suite, "problems");
  if (problems.empty()) return false;
  add(section, "p", "lead",
      fmt::format("{} of {} questions of the suite were skipped and count nowhere.",
                  count_of(number(suite, "skipped")), count_of(number(suite, "items"))));
  Table table(section, "Skipped questions", "stack");
  table.column("where", false);
  table.column("question", false);
  table.column("problem", false);
  table.column("remedy", false);
  for (size_t i = 0; i < std::min(problems.size(), kShownProblems); ++i) {
    const Json& problem = *problems[i];
    table.row(joined({text(problem, "file"), text(problem, "line")}, ":"));
    for (const char* field : {"id", "message", "remedy"}) {
      const std::string value = text(problem, field);
      table.cell(value.empty() ? "\u2013" : value);
    }
  }
  add_more(section, problems.size());
  return true;
}

bool add_errors(Node section, const Audit& audit) {
  size_t count = 0;
  for (const Configuration& c : audit.configurations) count += objects(*c.data, "problems").size();
  if (count == 0) return false;
  add(section, "p", "lead", "Computations that stopped. Their questions count as wrong answers.");
  Table table(section, "Errors", "stack");
  table.column("configuration", false);
  table.column("question", false);
  table.column("error", false);
  size_t shown = 0;
  for (const Configuration& configuration : audit.configurations) {
    for (const Json* problem : objects(*configuration.data, "problems")) {
      if (shown++ == kShownProblems) break;
      add_name(table.row({}), configuration);
      table.cell(text(*problem, "id"));
      table.cell(text(*problem, "message"));
    }
    if (shown > kShownProblems) break;
  }
  add_more(section, count);
  return true;
}

class Facts {
 public:
  explicit Facts(Node parent) : list_(add(parent, "dl", "environment")) {}
  void add_fact(std::string_view name, std::string_view value) {
    if (value.empty()) return;
    Node group = add(list_, "div");
    add(group, "dt", {}, name);
    add(group, "dd", {}, value);
    any_ = true;
  }
  bool any() const { return any_; }
  Node list() const { return list_; }

 private:
  Node list_;
  bool any_ = false;
};

// "3 layers": empty when the number is missing.
std::string counted(const Json& object, const char* key, const char* unit) {
  const double value = number(object, key);
  return std::isfinite(value) ? count_of(value) + " " + unit : std::string();
}

std::string range(const Json& object, const char* unit) {
  const double low = number(object, "min"), high = number(object, "max"), median = number(object, "median");
  if (!std::isfinite(low) || !std::isfinite(high)) return {};
  const std::string bounds =
      low == high ? count_of(low) : fmt::format("{}\u2013{}", count_of(low), count_of(high));
  return fmt::format("{} {}{}", bounds, unit, std::isfinite(median) ? ", median " + count_of(median) : "");
}

void add_flags(Node section, const Audit& audit) {
  Table table(add_details(section, "Commands that run each configuration"), "Commands", "stack");
  table.column("configuration", false);
  table.column("command", false);
  table.column("what it is", false);
  for (const Configuration& configuration : audit.configurations) {
    add_name(table.row({}), configuration);
    add(table.cell({}), "code", {}, run_command(audit, text(*configuration.data, "flags")));
    const std::string policy = text(*configuration.data, "policy");
    table.cell(configuration.description.empty() ? policy : configuration.description);
  }
}

}  // namespace

bool fill_problems(Node section, const Audit& audit) {
  const bool errors = add_errors(section, audit);
  const bool skipped = add_skipped(section, audit);
  return errors || skipped;
}

bool fill_environment(Node section, const Audit& audit) {
  const Json& data = *audit.data;
  const Json &model = member(data, "model"), &suite = member(data, "suite"),
             &machine = member(data, "machine");
  Facts facts(section);
  facts.add_fact("model", text(model, "dir"));
  facts.add_fact("weights", joined({text(model, "dtype"), counted(model, "parameters", "parameters")}, ", "));
  facts.add_fact(
      "shape",
      joined({counted(model, "text_layers", "text layers"), counted(model, "vision_blocks", "vision blocks"),
              counted(model, "query_heads", "query heads"), counted(model, "kv_heads", "KV heads"),
              counted(model, "head_dim", "per head")},
             ", "));
  facts.add_fact("suite", text(suite, "source"));
  facts.add_fact("questions",
                 joined({counted(suite, "used", "used"), counted(suite, "skipped", "skipped")}, ", "));
  facts.add_fact(
      "prompts",
      joined({range(member(suite, "context"), "tokens"), range(member(suite, "images"), "images")}, ", "));
  facts.add_fact("CPU", text(machine, "cpu"));
  facts.add_fact("kernels", joined({text(machine, "kernels"), counted(machine, "threads", "threads")}, ", "));
  facts.add_fact("fovea", text(machine, "version"));
  facts.add_fact("date", text(data, "date"));
  if (std::isfinite(number(data, "seconds")))
    facts.add_fact("whole audit", duration_of(number(data, "seconds")));
  if (!facts.any()) remove(facts.list());
  const std::string command = repeat_command(audit);
  if (!command.empty()) add_command(section, command);
  const bool has_flags = std::any_of(audit.configurations.begin(), audit.configurations.end(),
                                     [](const Configuration& c) { return !text(*c.data, "flags").empty(); });
  if (has_flags) add_flags(section, audit);
  return facts.any() || has_flags || !command.empty();
}

}  // namespace fovea::report
