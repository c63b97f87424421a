#include "cli/audit_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

namespace fovea {

using nlohmann::ordered_json;

namespace {

std::string percent(const ordered_json& share) {
  return share.is_null() ? "-" : fmt::format("{:.1f} %", 100 * share.get<double>());
}
std::string between(const ordered_json& interval) {
  if (interval.is_null()) return "-";
  return fmt::format("{:.0f}-{:.0f} %", 100 * interval[0].get<double>(), 100 * interval[1].get<double>());
}
std::string number(const ordered_json& value) {
  return value.is_null() ? "-" : fmt::format("{:.3g}", value.get<double>());
}
std::string megabytes(const ordered_json& bytes) { return fmt::format("{:.1f}", bytes.get<double>() / 1e6); }
// A name that fits into a table; the JSON has it whole.
std::string shortened(const std::string& name) {
  constexpr size_t kLongest = 64;
  return name.size() <= kLongest ? name : name.substr(0, kLongest - 3) + "...";
}
std::string seconds(const ordered_json& value) {
  return value.is_null() ? "-" : fmt::format("{:.1f}", value.get<double>());
}

// Columns as wide as their longest cell; the first left-aligned, the others right-aligned.
class Table {
 public:
  explicit Table(std::vector<std::string> head) { add(std::move(head)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string text() const {
    std::vector<size_t> width(rows_.front().size(), 0);
    for (const auto& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
    }
    std::string text;
    for (const auto& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) {
        text += i == 0 ? fmt::format("{:<{}}", row[i], width[i]) : fmt::format("  {:>{}}", row[i], width[i]);
      }
      text += '\n';
    }
    return text;
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

// The values of every tag whose values are words; numbers are for the report's charts.
std::map<std::string, std::set<std::string>> words_of_tags(const ordered_json& audit) {
  std::map<std::string, std::set<std::string>> tags;
  for (const auto& c : audit["configurations"]) {
    for (const auto& entry : c["by_tag"]) {
      const auto value = entry["value"].get<std::string>();
      if (value.find_first_not_of("0123456789.-") != std::string::npos) {
        tags[entry["tag"].get<std::string>()].insert(value);
      }
    }
  }
  return tags;
}

}  // namespace

std::string suite_text(const ordered_json& audit) {
  const ordered_json& suite = audit["suite"];
  std::string text =
      fmt::format("{}: {} questions", suite["source"].get<std::string>(), suite["used"].get<int64_t>());
  if (!suite["context"].is_null()) {
    text += fmt::format(" of {} to {} tokens with {} to {} images", suite["context"]["min"].get<int64_t>(),
                        suite["context"]["max"].get<int64_t>(), suite["images"]["min"].get<int64_t>(),
                        suite["images"]["max"].get<int64_t>());
  }
  const auto skipped = suite["skipped"].get<int64_t>();
  text += skipped > 0 ? fmt::format(", {} skipped:\n", skipped) : "\n";
  constexpr size_t kMostShown = 20;
  size_t shown = 0;
  for (const auto& p : suite["problems"]) {
    if (++shown > kMostShown) {
      text += fmt::format("  and {} more\n", suite["problems"].size() - kMostShown);
      break;
    }
    const std::string id = p["id"].is_null() ? "" : p["id"].get<std::string>() + ": ";
    text +=
        fmt::format("  {}:{}: {}{}\n    remedy: {}\n", p["file"].get<std::string>(), p["line"].get<int64_t>(),
                    id, p["message"].get<std::string>(), p["remedy"].get<std::string>());
  }
  return text;
}

std::string configurations_text(const ordered_json& audit) {
  Table table(
      {"", "right", "share", "95 %", "stopped", "KL", "agree", "at risk", "largest", "MB", "seconds"});
  for (const auto& c : audit["configurations"]) {
    const ordered_json& risk = c["rows_at_risk"];
    const auto rows = c["rows"].get<double>();
    table.add(
        {shortened(c["name"].get<std::string>()) + (c["is_reference"].get<bool>() ? " (reference)" : ""),
         fmt::format("{} of {}", c["correct"].get<int64_t>(), c["count"].get<int64_t>()),
         percent(c["accuracy"]), between(c["interval"]), std::to_string(c["errors"].get<int64_t>()),
         number(c["kl"]), percent(c["agreement"]),
         risk.is_null() ? "-" : percent(risk.get<double>() / std::max(rows, 1.0)), number(c["largest_score"]),
         megabytes(c["peak_bytes"]), seconds(c["seconds"])});
  }
  return table.text();
}

std::string tags_text(const ordered_json& audit) {
  constexpr size_t kMostValues = 8;
  std::string text;
  for (const auto& [tag, values] : words_of_tags(audit)) {
    if (values.size() < 2 || values.size() > kMostValues) continue;
    std::vector<std::string> head{"right by " + tag};
    head.insert(head.end(), values.begin(), values.end());
    Table table(head);
    for (const auto& c : audit["configurations"]) {
      std::map<std::string, std::string> shares;
      for (const auto& entry : c["by_tag"]) {
        if (entry["tag"] == tag) shares[entry["value"].get<std::string>()] = percent(entry["accuracy"]);
      }
      std::vector<std::string> row{shortened(c["name"].get<std::string>())};
      for (const std::string& value : values) row.push_back(shares.contains(value) ? shares[value] : "-");
      table.add(std::move(row));
    }
    text += table.text();
  }
  return text;
}

std::string attribution_text(const ordered_json& audit) {
  if (audit["attribution"].empty()) return "";
  Table table({"node of " + audit["attribution_of"]["configuration"].get<std::string>(), "raised", "KL",
               "lowered", "KL", "questions"});
  constexpr size_t kMostShown = 8;
  size_t shown = 0;
  for (const auto& entry : audit["attribution"]) {
    if (++shown > kMostShown) break;
    std::string name = entry["node"].get<std::string>();
    if (name.size() > 40)
      name = fmt::format("{} nodes of {}", entry["nodes"].size(), entry["tower"].get<std::string>());
    table.add({name + (entry["guilty"].get<bool>() ? " <- guilty" : ""), percent(entry["raised"]["accuracy"]),
               number(entry["raised"]["kl"]), percent(entry["lowered"]["accuracy"]),
               number(entry["lowered"]["kl"]), std::to_string(entry["raised"]["count"].get<int64_t>())});
  }
  return table.text();
}

std::string search_text(const ordered_json& audit) {
  if (audit["search"].is_null()) return "";
  Table table({fmt::format("candidates for {:g}, cheapest first", audit["search"]["target"].get<double>()),
               "scores MB", "MB", "share", "95 %", "seconds", "status"});
  for (const auto& c : audit["search"]["candidates"]) {
    table.add({shortened(c["name"].get<std::string>()), megabytes(c["score_bytes"]),
               megabytes(c["peak_bytes"]), percent(c["accuracy"]), between(c["interval"]),
               seconds(c["seconds"]), c["status"].get<std::string>()});
  }
  return table.text();
}

std::string storage_search_text(const ordered_json& audit) {
  if (audit["storage_search"].is_null()) return "";
  const ordered_json& search = audit["storage_search"];
  Table table({fmt::format("storage for {:g}, smallest first", search["target"].get<double>()), "weights MB",
               "keys, values MB", "share", "95 %", "seconds", "status"});
  for (const auto& c : search["candidates"]) {
    table.add({shortened(c["name"].get<std::string>()), megabytes(c["weight_bytes"]),
               megabytes(c["kv_bytes"]), percent(c["accuracy"]), between(c["interval"]),
               seconds(c["seconds"]), c["status"].get<std::string>()});
  }
  return table.text();
}

std::string conclusion_text(const ordered_json& audit) {
  std::string text;
  for (const auto& sentence : audit["conclusion"]) text += sentence.get<std::string>() + "\n";
  return text;
}

}  // namespace fovea
