// Cost: peak memory by part and time of each configuration, and what a search tried.
#include <algorithm>
#include <cmath>
#include <span>

#include "report/number_format.h"
#include "report/parts.h"
#include "report/sections.h"

namespace fovea::report {
namespace {

struct Part {
  const char* field;
  const char* css_class;
  const char* name;
};
constexpr Part kParts[] = {{"attention", "part1", "attention scores"},
                           {"kv_cache", "part2", "KV cache"},
                           {"activations", "part3", "activations"}};

double largest_of(const Audit& audit, const char* field) {
  double largest = 0;
  for (const Configuration& configuration : audit.configurations) {
    const double value = number(*configuration.data, field);
    if (std::isfinite(value)) largest = std::max(largest, value);
  }
  return largest;
}

// The bytes of each part side by side; the whole in one piece when the parts are not known.
void add_memory_bar(Node parent, const Json& data, double largest) {
  const Json& memory = member(data, "memory");
  Node bar = add_bar(parent, "parts");
  double left = 0;
  for (const Part& part : kParts) {
    const double bytes = number(memory, part.field);
    if (!(bytes > 0) || !(largest > 0)) continue;
    const double width = std::min(bytes / largest, 1 - left);
    add_bar_piece(bar, left, width, std::string("fill ") + part.css_class);
    left += width;
  }
  if (left > 0 || !(largest > 0)) return;
  const double share = number(data, "peak_bytes") / largest;
  if (std::isfinite(share)) add_bar_piece(bar, 0, std::clamp(share, 0.0, 1.0), "fill part3");
}

void add_part_legend(Node section) {
  Node list = add(section, "ul", "legend");
  for (const Part& part : kParts) {
    Node item = add(list, "li");
    set(add(item, "span", std::string("swatch ") + part.css_class), "aria-hidden", "true");
    add(item, "span", {}, part.name);
  }
}

}  // namespace

bool fill_cost(Node section, const Audit& audit) {
  const double most_memory = largest_of(audit, "peak_bytes"), most_time = largest_of(audit, "seconds");
  if (!(most_memory > 0) && !(most_time > 0)) return false;
  const bool has_parts =
      std::any_of(audit.configurations.begin(), audit.configurations.end(),
                  [](const Configuration& c) { return number(member(*c.data, "memory"), "attention") >= 0; });
  if (has_parts) add_part_legend(section);
  Table table(section, "Memory of the largest prompt, and time", "stack cost");
  table.column("configuration", false);
  table.column("peak memory (computed)", false);
  if (has_parts) table.column("attention scores");
  table.column("time in the model", false);
  for (const Configuration& configuration : audit.configurations) {
    const Json& data = *configuration.data;
    add_name(table.row({}), configuration);
    Node memory = table.cell({}, "measure wide");
    add_memory_bar(memory, data, most_memory);
    add(memory, "span", "value", size_of(number(data, "peak_bytes")));
    if (has_parts) table.cell(size_of(number(member(data, "memory"), "attention")));
    Node time = table.cell({}, "measure wide");
    add_bar(time, number(data, "seconds") / most_time, style_class(configuration.style));
    add(time, "span", "value", duration_of(number(data, "seconds")));
  }
  return true;
}

namespace {

using CostColumns = std::vector<std::pair<const char*, const char*>>;  // title and field of what they cost

void add_candidate(Table& table, const Audit& audit, const Json& candidate, const CostColumns& columns) {
  const Configuration* known = audit.find(text(candidate, "name"));
  Node header = table.row({});
  if (known != nullptr) {
    add_name(header, *known);
  } else {
    add(header, "span", "name", text(candidate, "name"));
  }
  const std::string status = text(candidate, "status");
  add_badge(table.cell({}),
            status == "reached"  ? "good"
            : status == "missed" ? "bad"
                                 : "neutral",
            status.empty() ? "\u2013" : status);
  Node cell = table.cell({}, "accuracy");
  add_bar(cell, number(candidate, "accuracy"), known != nullptr ? style_class(known->style) : "plain",
          interval(candidate, "interval"));
  add(cell, "span", "value", accuracy_with_interval(candidate));
  for (const auto& [name, field] : columns) table.cell(size_of(number(candidate, field)));
  table.cell(duration_of(number(candidate, "seconds")));
}

void add_candidates(Node section, const Audit& audit, std::span<const Json* const> candidates,
                    const char* title, const CostColumns& columns) {
  Table table(section, title, "stack");
  table.column("candidate", false);
  table.column("result", false);
  table.column("accuracy (95\u202F% interval)", false);
  for (const auto& [name, field] : columns) table.column(name);
  table.column("time");
  for (const Json* candidate : candidates) add_candidate(table, audit, *candidate, columns);
}

// The candidates of one search, the first of them open.
void add_search(Node section, const Audit& audit, const Json& search, const char* title,
                const CostColumns& columns) {
  constexpr size_t kShown = 6;
  const std::vector<const Json*> candidates = objects(search, "candidates");
  if (candidates.empty()) return;
  if (std::isfinite(number(search, "target"))) {
    add(section, "p", "lead", "Target: " + percent(number(search, "target")) + " right answers.");
  }
  const std::span all(candidates);
  add_candidates(section, audit, all.first(std::min(kShown, all.size())), title, columns);
  if (all.size() <= kShown) return;
  Node details = add_details(section, count_of(double(all.size() - kShown)) + " more candidates");
  add_candidates(details, audit, all.subspan(kShown), title, columns);
}

}  // namespace

bool fill_search(Node section, const Audit& audit) {
  const Json &search = member(*audit.data, "search"), &storage = member(*audit.data, "storage_search");
  add_search(section, audit, search, "Candidates, the cheapest first",
             {{"score memory", "score_bytes"}, {"memory", "peak_bytes"}});
  add_search(section, audit, storage, "Storage, the smallest first",
             {{"weights", "weight_bytes"}, {"keys, values", "kv_bytes"}});
  return !objects(search, "candidates").empty() || !objects(storage, "candidates").empty();
}

}  // namespace fovea::report
