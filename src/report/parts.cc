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

void place(Node element, double left, double width) {
  set(element, "style", fmt::format("left:{:.2f}%;width:{:.2f}%", left * 100, width * 100));
}

}  // namespace

void add_bar(Node parent, double share, std::string_view css_class, std::pair<double, double> interval) {
  Node bar = add(parent, "span", "bar " + std::string(css_class));
  set(bar, "aria-hidden", "true");
  if (std::isfinite(share)) place(add(bar, "span", "fill"), 0, std::clamp(share, 0.0, 1.0));
  if (interval.first >= 0 && interval.second <= 1) {
    place(add(bar, "span", "whisker"), interval.first, interval.second - interval.first);
  }
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
  draw(figure, chart);
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
  // What a probe examined runs in transformers: what is to be set there is no command of ours.
  if (text(*audit.data, "made_by") == "fovea.probe") return flags;
  const std::string dir = text(member(*audit.data, "model"), "dir");
  std::string command = "fovea run -m " + (dir.empty() ? "DIR" : shell_word(dir));
  const std::string mmproj = text(member(*audit.data, "model"), "mmproj");
  if (!mmproj.empty()) command += " --mmproj " + shell_word(mmproj);
  // Flags that are quoted already stay as they are.
  if (flags.find_first_of("'\"") != std::string::npos) return command + " " + flags;
  std::istringstream words(flags);
  for (std::string word; words >> word;) command.append(" ").append(shell_word(word));
  return command;
}

}  // namespace fovea::report
