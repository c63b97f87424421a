// Drift: how far each layer's hidden state and attention leave the reference, over the layers of each tower.
#include <fmt/format.h>

#include <cmath>
#include <functional>

#include "report/number_format.h"
#include "report/parts.h"
#include "report/sections.h"

namespace fovea::report {
namespace {

using Measure = std::function<double(const Json& layer)>;

// The rows of answer tokens where there are any, as in the text tower; all rows otherwise.
double hidden_error(const Json& layer) {
  const Json& error = member(layer, "hidden_error");
  const double answer = number(error, "answer");
  return std::isfinite(answer) ? answer : number(error, "all");
}

double kernel_error(const Json& layer) { return number(layer, "kernel_error"); }
double predicted_error(const Json& layer) { return number(layer, "predicted_error"); }

std::vector<const Json*> layers_of(const Configuration& configuration, const std::string& tower) {
  std::vector<const Json*> result;
  for (const Json* layer : objects(*configuration.data, "layers")) {
    if (text(*layer, "tower") == tower) result.push_back(layer);
  }
  return result;
}

void add_series(LineChart& chart, const Configuration& configuration, const std::string& tower,
                const Measure& measure, bool predicted) {
  ChartSeries series{configuration.name, configuration.style, {}, predicted};
  for (const Json* layer : layers_of(configuration, tower)) {
    const double value = measure(*layer), index = number(*layer, "layer");
    // An exact layer has no place on a logarithmic axis.
    if (!(value > 0) || !(index >= 0)) continue;
    for (size_t at = 0; at < chart.ticks.size(); ++at) {
      if (chart.ticks[at] != count_of(index)) continue;
      series.points.push_back(
          {at, value, std::nullopt, fmt::format("layer {}: {}", index, small_number(value))});
    }
  }
  if (!series.points.empty()) chart.series.push_back(std::move(series));
}

std::vector<std::string> layer_names(const Audit& audit, const std::string& tower) {
  std::vector<std::string> names;
  for (const Configuration& configuration : audit.configurations) {
    std::vector<std::string> these;
    for (const Json* layer : layers_of(configuration, tower))
      these.push_back(count_of(number(*layer, "layer")));
    if (these.size() > names.size()) names = std::move(these);
  }
  return names;
}

bool add_tower(Node charts, const Audit& audit, const std::string& tower) {
  LineChart hidden{tower == "text" ? "Drift over text layers" : "Drift over vision blocks",
                   tower == "text" ? "layer" : "block",
                   "relative error",
                   layer_names(audit, tower),
                   {},
                   true};
  LineChart kernel = hidden;
  kernel.title = tower == "text" ? "Attention alone, text layers" : "Attention alone, vision blocks";
  for (const Configuration& configuration : audit.configurations) {
    add_series(hidden, configuration, tower, hidden_error, false);
    add_series(kernel, configuration, tower, predicted_error, true);
    add_series(kernel, configuration, tower, kernel_error, false);
  }
  if (!hidden.series.empty()) add_chart(charts, audit, hidden, "hidden state after each layer");
  if (!kernel.series.empty()) {
    add_chart(charts, audit, kernel,
              "against exact attention of the same Q, K, V; dotted: predicted by the formula");
  }
  return !hidden.series.empty() || !kernel.series.empty();
}

std::string rows_at_risk(const Json& layer) {
  const double at_risk = number(layer, "rows_at_risk"), rows = number(layer, "rows");
  if (!std::isfinite(at_risk)) return "\u2013";
  return std::isfinite(rows) ? count_of(at_risk) + " of " + count_of(rows) : count_of(at_risk);
}

void add_numbers(Node parent, const Configuration& configuration) {
  const std::vector<const Json*> layers = objects(*configuration.data, "layers");
  if (layers.empty() || configuration.is_reference) return;
  add_name(add(parent, "h3"), configuration);
  Table table(parent, fmt::format("Layers of {}", configuration.name));
  table.column("layer", false);
  for (const char* column : {"hidden state", "attention alone", "predicted", "spread A", "largest score S",
                             "rows at risk", "overflows"}) {
    table.column(column);
  }
  for (const Json* layer : layers) {
    table.row(text(*layer, "tower") + " " + count_of(number(*layer, "layer")));
    for (double value : {hidden_error(*layer), kernel_error(*layer), predicted_error(*layer),
                         number(*layer, "spread"), number(*layer, "largest_score")}) {
      table.cell(small_number(value));
    }
    table.cell(rows_at_risk(*layer));
    table.cell(count_of(number(*layer, "overflows")));
  }
}

}  // namespace

bool fill_drift(Node section, const Audit& audit) {
  Node charts = add(section, "div", "charts");
  const bool text_drawn = add_tower(charts, audit, "text");
  const bool vision_drawn = add_tower(charts, audit, "vision");
  if (!text_drawn && !vision_drawn) return false;
  Node details = add_details(section, "Numbers: every layer of every configuration");
  for (const Configuration& configuration : audit.configurations) add_numbers(details, configuration);
  return true;
}

}  // namespace fovea::report
