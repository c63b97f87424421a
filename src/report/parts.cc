#include "report/parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "report/number_format.h"

namespace fovea::report {
namespace {

std::string shell_word(const std::string& word) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=:,./+@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string quoted = "'";
  for (char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// Direction marks, which make a command read otherwise than it runs.
bool turns_direction(const std::string& word) {
  for (size_t at = word.find("\xE2\x80"); at != std::string::npos; at = word.find("\xE2\x80", at + 1)) {
    const auto third = static_cast<unsigned char>(at + 2 < word.size() ? word[at + 2] : '\0');
    if ((third >= 0xAA && third <= 0xAE) || third == 0x8E || third == 0x8F) return true;
  }
  for (size_t at = word.find("\xE2\x81"); at != std::string::npos; at = word.find("\xE2\x81", at + 1)) {
    const auto third = static_cast<unsigned char>(at + 2 < word.size() ? word[at + 2] : '\0');
    if (third >= 0xA6 && third <= 0xA9) return true;
  }
  return false;
}

bool may_be_copied(const std::string& word) {
  return std::all_of(word.begin(), word.end(), [](unsigned char c) { return c >= 0x20 && c != 0x7F; }) &&
         !turns_direction(word);
}

std::vector<std::string> command_words(const Audit& audit) {
  constexpr size_t kMostWords = 200;
  std::vector<std::string> words;
  const Json& list = member(*audit.data, "command");
  if (!list.is_array() || list.size() > kMostWords) return {};
  for (const Json& word : list) {
    if (!word.is_string() || !may_be_copied(word.get<std::string>())) return {};
    words.push_back(word.get<std::string>());
  }
  return words;
}

std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// fovea audit ..., fovea eval ..., python -m fovea.probe ...
bool is_ours(const std::vector<std::string>& words, bool probe) {
  if (probe) {
    return words.size() > 3 && file_name(words[0]).rfind("python", 0) == 0 && words[1] == "-m" &&
           words[2] == "fovea.probe";
  }
  return words.size() > 2 && file_name(words[0]) == "fovea" && (words[1] == "audit" || words[1] == "eval");
}

void place(Node rectangle, double left, double width) {
  set(rectangle, "x", fmt::format("{:.2f}%", left * 100));
  set(rectangle, "width", fmt::format("{:.2f}%", width * 100));
}

}  // namespace

Node add_bar(Node parent, std::string_view css_class) {
  Node bar = add(parent, "svg", fmt::format("bar {}", css_class));
  set(bar, "aria-hidden", "true");
  return bar;
}

void add_bar_piece(Node bar, double left, double width, std::string_view css_class) {
  Node piece = add(bar, "rect", css_class);
  place(piece, left, width);
  set(piece, "height", "100%");
}

void add_bar(Node parent, double share, std::string_view css_class, std::pair<double, double> interval) {
  Node bar = add_bar(parent, css_class);
  if (std::isfinite(share)) add_bar_piece(bar, 0, std::clamp(share, 0.0, 1.0), "fill");
  if (!(interval.first >= 0 && interval.second <= 1 && interval.first <= interval.second)) return;
  Node whisker = add(bar, "rect", "whisker");
  place(whisker, interval.first, interval.second - interval.first);
  set(whisker, "y", "40%");
  set(whisker, "height", "20%");
}

void add_name(Node parent, const Configuration& configuration) {
  Node name = add(parent, "span", "name");
  draw_key(name, configuration.style);
  add(name, "span", {}, configuration.name);
}

void add_badge(Node parent, std::string_view css_class, std::string_view text) {
  add(parent, "span", "badge " + std::string(css_class), text);
}

const char* table_class(const Audit& audit) {
  constexpr size_t kColumns = 6;
  return audit.configurations.size() > kColumns ? "stack many" : "stack";
}

void add_command(Node parent, std::string_view command) {
  add(add(parent, "pre", "command"), "code", {}, command);
}

void add_legend(Node parent, const std::vector<const Configuration*>& configurations) {
  Node list = add(parent, "ul", "legend");
  for (const Configuration* configuration : configurations) add_name(add(list, "li"), *configuration);
}

void add_chart(Node parent, const Audit& audit, const LineChart& chart, std::string_view note) {
  Node figure = add(parent, "figure");
  Node caption = add(figure, "figcaption");
  add(caption, "strong", {}, chart.title);
  if (!note.empty()) add(caption, "span", "note", note);
  std::vector<const Configuration*> shown;
  for (const Configuration& configuration : audit.configurations) {
    const bool drawn = std::any_of(chart.series.begin(), chart.series.end(), [&](const ChartSeries& series) {
      return !series.predicted && series.style == configuration.style;
    });
    if (drawn) shown.push_back(&configuration);
  }
  add_legend(figure, shown);
  const std::vector<std::string> shared = draw(figure, chart);
  if (!shared.empty()) {
    add(figure, "p", "note shares",
        "Where lines coincide they are drawn in turns: " + joined(shared, ", ") + ".");
  }
}

Node add_details(Node parent, std::string_view summary) {
  Node details = add(parent, "details");
  add(details, "summary", {}, summary);
  return details;
}

std::string accuracy_with_interval(const Json& object) {
  const auto [low, high] = interval(object, "interval");
  const std::string accuracy = percent(number(object, "accuracy"));
  if (!std::isfinite(low)) return accuracy;
  return fmt::format("{} ({:.1f}\u2013{:.1f})", accuracy, low * 100, high * 100);
}

std::string joined(const std::vector<std::string>& parts, std::string_view separator) {
  std::string result;
  for (const std::string& part : parts) {
    if (part.empty()) continue;
    if (!result.empty()) result += separator;
    result += part;
  }
  return result;
}

std::string run_command(const Audit& audit, const std::string& flags) {
  if (is_probe(audit)) return flags;
  const std::vector<std::string> made_by = command_words(audit);
  std::string command = is_ours(made_by, false) ? shell_word(made_by.front()) : "fovea";
  const std::string dir = text(member(*audit.data, "model"), "dir");
  command += " chat -m " + (dir.empty() ? "DIR" : shell_word(dir));
  const std::string mmproj = text(member(*audit.data, "model"), "mmproj");
  if (!mmproj.empty()) command += " --mmproj " + shell_word(mmproj);
  std::istringstream words(flags);
  for (std::string word; words >> word;) command.append(" ").append(shell_word(word));
  return command;
}

std::string repeat_command(const Audit& audit) {
  const std::vector<std::string> words = command_words(audit);
  if (!is_ours(words, is_probe(audit))) return {};
  std::string command;
  for (const std::string& word : words) {
    if (!command.empty()) command += ' ';
    command += shell_word(word);
  }
  return command;
}

std::string shortened(std::string text, size_t most_bytes) {
  if (text.size() <= most_bytes) return text;
  size_t end = most_bytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "\u2026";
}

std::pair<double, double> wilson_interval(double correct, double count) {
  if (!(count > 0)) return {0, 1};
  constexpr double z = 1.959963984540054;  // the normal quantile of 97.5 %
  const double p = std::min(correct / count, 1.0), squared = z * z / count;
  const double middle = (p + squared / 2) / (1 + squared);
  const double half = z * std::sqrt(p * (1 - p) / count + squared / count / 4) / (1 + squared);
  return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

}  // namespace fovea::report
