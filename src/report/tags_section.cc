// Accuracy by the suite's tags: few rows a tag, whatever it holds. Numbers are put into bins, rare words
// together; the tag that tells most is open, the others are folded.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "report/number_format.h"
#include "report/parts.h"
#include "report/sections.h"

namespace fovea::report {
namespace {

constexpr size_t kMostRows = 6, kBins = 5;  // of a tag

struct Tally {
  double correct = 0, count = 0;
  double accuracy() const { return count > 0 ? correct / count : std::nan(""); }
};

// A value of a tag, or several of them together.
struct Row {
  std::string label;
  double at = 0;          // numbers: the value
  std::vector<Tally> of;  // one a configuration
  double questions() const {
    double most = 0;
    for (const Tally& tally : of) most = std::max(most, tally.count);
    return most;
  }
  void add(const Row& other) {
    for (size_t i = 0; i < of.size(); ++i) {
      of[i].correct += other.of[i].correct;
      of[i].count += other.of[i].count;
    }
  }
};

struct Tag {
  std::string name;
  std::vector<Row> rows;
  std::string note;  // how the rows came about
  double spread = 0;
};

std::optional<double> as_number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

// Entries of a list have no value: they are the values of one tag that has no name.
std::map<std::string, std::map<std::string, Row>> rows_by_tag(const Audit& audit) {
  std::map<std::string, std::map<std::string, Row>> tags;
  for (size_t i = 0; i < audit.configurations.size(); ++i) {
    for (const Json* entry : objects(*audit.configurations[i].data, "by_tag")) {
      const std::string tag = text(*entry, "tag"), value = text(*entry, "value");
      const double correct = number(*entry, "correct"), count = number(*entry, "count");
      if (!(count > 0) || !(correct >= 0)) continue;
      Row& row = value.empty() ? tags["tagged"][tag] : tags[tag][value];
      row.label = value.empty() ? tag : value;
      row.of.resize(audit.configurations.size());
      row.of[i].correct += correct;
      row.of[i].count += count;
    }
  }
  return tags;
}

// Bins of about as many questions each; equal numbers stay together.
void bin(Tag& tag) {
  std::stable_sort(tag.rows.begin(), tag.rows.end(), [](const Row& a, const Row& b) { return a.at < b.at; });
  if (tag.rows.size() <= kMostRows) return;
  double all = 0, before = 0;
  for (const Row& row : tag.rows) all += row.questions();
  std::vector<Row> bins;
  std::vector<std::string> last;
  size_t current = kBins;
  for (const Row& row : tag.rows) {
    const auto place = std::min(static_cast<size_t>(before / all * kBins), kBins - 1);
    before += row.questions();
    if (bins.empty() || place != current) {
      bins.push_back(row);
      last.push_back(row.label);
    } else {
      bins.back().add(row);
      last.back() = row.label;
    }
    current = place;
  }
  for (size_t i = 0; i < bins.size(); ++i) {
    if (bins[i].label != last[i]) bins[i].label += fmt::format(" to {}", last[i]);
  }
  tag.note = fmt::format("{} values in {} bins", tag.rows.size(), bins.size());
  tag.rows = std::move(bins);
}

// Those with the most questions stay, the others become one row.
void fold(Tag& tag) {
  if (tag.rows.size() <= kMostRows) return;
  std::stable_sort(tag.rows.begin(), tag.rows.end(),
                   [](const Row& a, const Row& b) { return a.questions() > b.questions(); });
  Row others = tag.rows[kMostRows - 1];
  for (size_t i = kMostRows; i < tag.rows.size(); ++i) others.add(tag.rows[i]);
  others.label = fmt::format("{} other values", tag.rows.size() - kMostRows + 1);
  tag.note = fmt::format("{} values, the rare ones together", tag.rows.size());
  tag.rows.resize(kMostRows - 1);
  tag.rows.push_back(std::move(others));
}

// How far apart one configuration's rows are: that is what a tag can tell. Rows of very few questions tell
// nothing.
double spread_of(const Tag& tag) {
  constexpr double kFew = 3;
  double spread = 0;
  for (size_t i = 0; i < tag.rows.front().of.size(); ++i) {
    double low = 1, high = 0;
    for (const Row& row : tag.rows) {
      if (row.of[i].count < kFew) continue;
      low = std::min(low, row.of[i].accuracy());
      high = std::max(high, row.of[i].accuracy());
    }
    spread = std::max(spread, high - low);
  }
  return spread;
}

std::vector<Tag> tags_of(const Audit& audit) {
  std::vector<Tag> tags;
  for (auto& [name, rows] : rows_by_tag(audit)) {
    if (rows.size() < 2) continue;  // all questions alike
    Tag tag{name, {}, {}};
    bool numbers = true;
    for (auto& [value, row] : rows) {
      const std::optional<double> at = as_number(value);
      numbers = numbers && at;
      row.at = at.value_or(0);
      tag.rows.push_back(std::move(row));
    }
    numbers ? bin(tag) : fold(tag);
    tag.spread = spread_of(tag);
    tags.push_back(std::move(tag));
  }
  std::stable_sort(tags.begin(), tags.end(), [](const Tag& a, const Tag& b) { return a.spread > b.spread; });
  return tags;
}

void add_tag(Node section, const Audit& audit, const Tag& tag, bool open) {
  Node details = add_details(section, "");
  Node summary = details.child("summary");
  add(summary, "strong", {}, shortened(tag.name, 60));
  add(summary, "span", "note",
      fmt::format(
          " {}",
          joined({tag.note, fmt::format("up to {:.0f}\u202Fpp between rows", tag.spread * 100)}, ", ")));
  if (open) set(details, "open", "open");
  Table table(details, "Accuracy by " + shortened(tag.name, 60), table_class(audit));
  table.column(shortened(tag.name, 60), false);
  for (const Configuration& configuration : audit.configurations) table.column(configuration.name, false);
  for (const Row& row : tag.rows) {
    table.row(shortened(row.label, 60));
    for (size_t i = 0; i < row.of.size(); ++i) {
      const Tally& tally = row.of[i];
      if (!(tally.count > 0)) {
        table.cell("\u2013");
        continue;
      }
      Node cell = table.cell({}, "accuracy");
      add_bar(cell, tally.accuracy(), style_class(audit.configurations[i].style),
              wilson_interval(tally.correct, tally.count));
      add(cell, "span", "value", fmt::format("{} of {}", count_of(tally.correct), count_of(tally.count)));
    }
  }
}

}  // namespace

bool fill_tags(Node section, const Audit& audit) {
  constexpr size_t kMostTags = 12;
  const std::vector<Tag> tags = tags_of(audit);
  if (tags.empty()) return false;
  for (size_t i = 0; i < std::min(tags.size(), kMostTags); ++i) add_tag(section, audit, tags[i], i == 0);
  if (tags.size() > kMostTags) {
    add(section, "p", "note", fmt::format("{} more tags are in the JSON.", tags.size() - kMostTags));
  }
  return true;
}

}  // namespace fovea::report
