// A line chart as inline SVG: vector in print, no script, and drawn for 360 pixels so that it stays legible
// on a phone.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "report/html.h"

namespace fovea::report {

struct ChartPoint {
  size_t at;  // index into LineChart::ticks
  double value;
  std::optional<std::pair<double, double>> interval = std::nullopt;
  std::string label = {};  // what a pointer resting on it reads
};

struct ChartSeries {
  std::string name;
  size_t style;  // the configuration's index: its colour and marker everywhere
  std::vector<ChartPoint> points;
  bool predicted = false;  // by a formula: a dotted line without markers
};

struct LineChart {
  std::string title;  // for those who cannot see it
  std::string x_label, y_label;
  std::vector<std::string> ticks;  // the categories along x, in order
  std::vector<ChartSeries> series;
  // Logarithmic: values <= 0 stand on the lower edge. Otherwise the values are shares from 0 to 1, shown as
  // percent.
  bool logarithmic = false;
};

// 0 is the reference, neutral; from 1 on a palette that colour-blind people can tell apart, then again with
// dashes.
std::string style_class(size_t style);
// Returns the names of the series that coincide with others somewhere, which are drawn there in turns: first
// a piece of one, then a piece of the next.
std::vector<std::string> draw(Node parent, const LineChart& chart);
// The small picture of a configuration's line and marker, for legends and tables.
void draw_key(Node parent, size_t style);

}  // namespace fovea::report
