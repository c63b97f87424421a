#include "report/line_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "report/number_format.h"

namespace fovea::report {
namespace {

constexpr double kWidth = 380, kHeight = 236;
constexpr double kCharacter = 7.4;  // the width of one at a phone's larger font (report.css)
constexpr double kLeft = 44, kRight = 372, kTop = 22, kBottom = 194;

struct Scale {
  bool logarithmic;
  double low, high;  // of the axis; exponents of ten when logarithmic
  double y(double value) const {
    const double at = logarithmic ? (value > 0 ? std::log10(value) : low) : value;
    const double share = (std::clamp(at, low, high) - low) / (high - low);
    return kBottom - share * (kBottom - kTop);
  }
};

// Around all values and intervals; a share's axis begins at 0 unless every value is high.
Scale scale_of(const LineChart& chart) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const ChartSeries& series : chart.series) {
    for (const ChartPoint& point : series.points) {
      for (double value : {point.value, point.interval ? point.interval->first : point.value,
                           point.interval ? point.interval->second : point.value}) {
        if (!std::isfinite(value) || (chart.logarithmic && value <= 0)) continue;
        low = std::min(low, value);
        high = std::max(high, value);
      }
    }
  }
  if (!chart.logarithmic) return {false, low >= 0.6 ? 0.5 : 0.0, 1.0};
  if (low > high) return {true, -8, 0};
  Scale scale{true, std::floor(std::log10(low)), std::ceil(std::log10(high))};
  if (scale.high - scale.low < 1) scale.high = scale.low + 1;
  return scale;
}

double x_of(const LineChart& chart, double at) {
  if (chart.ticks.size() < 2) return (kLeft + kRight) / 2;
  // Room for half of the first and last label, and for series that stand beside each other.
  const double inset = std::clamp(
      kCharacter / 2 * double(std::max(chart.ticks.front().size(), chart.ticks.back().size())), 16.0, 44.0);
  return kLeft + inset + at / double(chart.ticks.size() - 1) * (kRight - kLeft - 2 * inset);
}

Node line(Node parent, const char* css_class, double x1, double y1, double x2, double y2) {
  Node result = add(parent, "path", css_class);
  set(result, "d", fmt::format("M{:.1f} {:.1f}L{:.1f} {:.1f}", x1, y1, x2, y2));
  return result;
}

Node text_at(Node parent, const char* css_class, double x, double y, std::string_view text) {
  Node result = add(parent, "text", css_class, text);
  set(result, "x", x);
  set(result, "y", y);
  return result;
}

std::string tick_label(const Scale& scale, double at) {
  if (!scale.logarithmic) return fmt::format("{:.0f}%", at * 100);
  return at == 0 ? "1" : fmt::format("1e{}{:.0f}", at < 0 ? "\u2212" : "", std::abs(at));
}

void draw_axes(Node svg, const LineChart& chart, const Scale& scale) {
  const double range = scale.high - scale.low;
  const double step = scale.logarithmic ? std::ceil(range / 6) : range > 0.5 ? 0.25 : 0.1;
  for (double at = scale.low; at <= scale.high + 1e-9; at += step) {
    const double y = kBottom - (at - scale.low) / range * (kBottom - kTop);
    line(svg, at == scale.low ? "axis" : "grid", kLeft, y, kRight, y);
    text_at(svg, "end", kLeft - 5, y + 3.5, tick_label(scale, at));
  }
  // As many tick labels as fit, always with the first.
  size_t longest = 1;
  for (const std::string& tick : chart.ticks) longest = std::max(longest, tick.size());
  const double needed = kCharacter * double(longest) + 8;
  const double spacing = chart.ticks.size() < 2 ? needed : x_of(chart, 1) - x_of(chart, 0);
  const size_t every = static_cast<size_t>(std::ceil(needed / std::max(spacing, 0.1)));
  for (size_t i = 0; i < chart.ticks.size(); i += std::max<size_t>(every, 1)) {
    line(svg, "axis", x_of(chart, double(i)), kBottom, x_of(chart, double(i)), kBottom + 4);
    text_at(svg, "middle", x_of(chart, double(i)), kBottom + 16, chart.ticks[i]);
  }
  text_at(svg, "middle label", (kLeft + kRight) / 2, kHeight - 8, chart.x_label);
  text_at(svg, "label", 2, 11, chart.y_label);
}

// One of six shapes, so that the colour is never the only difference.
void draw_marker(Node parent, size_t style, double x, double y) {
  constexpr double r = 3.6;
  const std::array<std::string, 6> shapes = {
      fmt::format("M{:.1f} {:.1f}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0Z", x - r, y, fmt::arg("r", r),
                  fmt::arg("d", 2 * r)),
      fmt::format("M{:.1f} {:.1f}h{d}v{d}h-{d}Z", x - 3.2, y - 3.2, fmt::arg("d", 6.4)),
      fmt::format("M{:.1f} {:.1f}l4.2 7.4h-8.4Z", x, y - 4.6),
      fmt::format("M{:.1f} {:.1f}l4.6 4.6l-4.6 4.6l-4.6 -4.6Z", x, y - 4.6),
      fmt::format("M{:.1f} {:.1f}l4.2 -7.4h-8.4Z", x, y + 4.6),
      fmt::format("M{:.1f} {:.1f}v2.6h2.6v2.6h2.6v-2.6h2.6v-2.6h-2.6v-2.6h-2.6v2.6Z", x - 3.9, y - 1.3),
  };
  set(add(parent, "path", "marker"), "d", shapes[style % shapes.size()]);
}

// A point as it is drawn, and the lines on which it lies.
struct Place {
  size_t at;  // index into the ticks
  double x, y;
  const ChartPoint* point;
};

struct Line {
  const ChartSeries* series;
  double shift;  // to the right, so that points of equal value stand side by side
  std::vector<Place> places;
  std::vector<size_t> by_tick;  // which place stands there, counted from 1; 0 for none
  const Place* at(size_t tick) const { return by_tick[tick] > 0 ? &places[by_tick[tick] - 1] : nullptr; }
};

std::vector<Line> lines_of(const LineChart& chart, const Scale& scale) {
  const double room = chart.ticks.size() > 1 ? x_of(chart, 1) - x_of(chart, 0) : 0;
  const double step = chart.series.empty() ? 0 : std::min(6.0, 0.6 * room / double(chart.series.size()));
  const double middle = (double(chart.series.size()) - 1) / 2;
  std::vector<Line> lines;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const double shift = std::clamp((double(i) - middle) * step, -14.0, 14.0);
    Line line{&chart.series[i], shift, {}, std::vector<size_t>(chart.ticks.size(), 0)};
    for (const ChartPoint& point : chart.series[i].points) {
      if (!std::isfinite(point.value)) continue;
      line.places.push_back({point.at, x_of(chart, double(point.at)) + shift, scale.y(point.value), &point});
      line.by_tick.at(point.at) = line.places.size();
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

// Of the lines that run where `line` does between two of its places: how many there are, and which of them
// it is.
struct Turn {
  size_t of = 1, index = 0;
  friend bool operator==(const Turn&, const Turn&) = default;
};

Turn turn_of(const std::vector<Line>& lines, const Line& line, const Place& from, const Place& to) {
  constexpr double kNear = 2.5;  // lines are 2 wide
  Turn turn{0, 0};
  for (const Line& other : lines) {
    if (other.series->predicted) continue;
    const Place *first = other.at(from.at), *last = other.at(to.at);
    if (first == nullptr || last == nullptr) continue;
    if (std::abs(first->y - from.y) > kNear || std::abs(last->y - to.y) > kNear) continue;
    if (&other == &line) turn.index = turn.of;
    ++turn.of;
  }
  return turn;
}

// One piece of a line; where several coincide it is dashed so that each has its turn at the same place.
void draw_piece(Node group, const Line& line, size_t first, size_t last, const Turn& turn) {
  constexpr double kDash = 8;
  std::string path;
  for (size_t i = first; i <= last; ++i) {
    path += fmt::format("{}{:.1f} {:.1f}", i == first ? "M" : "L", line.places[i].x, line.places[i].y);
  }
  Node piece = add(group, "path", turn.of > 1 ? "shared" : "line");
  set(piece, "d", path);
  if (turn.of < 2) return;
  const double others = kDash * double(turn.of - 1);
  set(piece, "stroke-dasharray", fmt::format("{} {}", kDash, others));
  set(piece, "stroke-dashoffset", line.shift - kDash * double(turn.index));
}

// True where it coincides with another line somewhere.
bool draw_pieces(Node group, const std::vector<Line>& lines, const Line& line) {
  bool shares = false;
  for (size_t first = 0; first + 1 < line.places.size();) {
    const Turn turn = turn_of(lines, line, line.places[first], line.places[first + 1]);
    size_t last = first + 1;
    while (last + 1 < line.places.size() &&
           turn_of(lines, line, line.places[last], line.places[last + 1]) == turn) {
      ++last;
    }
    draw_piece(group, line, first, last, turn);
    shares |= turn.of > 1;
    first = last;
  }
  return shares;
}

void draw_predicted(Node group, const Line& line) {
  std::string path;
  for (const Place& place : line.places) {
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", place.x, place.y);
  }
  if (line.places.size() > 1) set(add(group, "path", "predicted"), "d", path);
}

// `index` of the line: where only some points carry a marker, those of different lines are different points.
void draw_points(Node group, const Scale& scale, const Line& shown, size_t index) {
  for (const Place& place : shown.places) {
    if (!place.point->interval) continue;
    line(group, "interval", place.x, scale.y(place.point->interval->first), place.x,
         scale.y(place.point->interval->second));
  }
  // Many points of a dense line would hide it: then only some carry a marker, and all keep their label.
  const size_t every = std::max<size_t>(1, shown.places.size() / 8);
  for (size_t i = 0; i < shown.places.size(); ++i) {
    const Place& place = shown.places[i];
    Node spot = add(group, "g");
    add(spot, "title", {}, shown.series->name + ": " + place.point->label);
    if ((i + 2 * index) % every == 0) {
      draw_marker(spot, shown.series->style, place.x, place.y);
    } else {
      Node target = add(spot, "circle", "target");
      set(target, "cx", place.x);
      set(target, "cy", place.y);
      set(target, "r", 4.0);
    }
  }
}

}  // namespace

std::string style_class(size_t style) {
  constexpr size_t kColours = 7;  // besides the neutral one of the reference; report.css has them
  if (style == 0) return "k0";
  return fmt::format("k{}{}", (style - 1) % kColours + 1, (style - 1) / kColours % 2 == 1 ? " dashed" : "");
}

std::vector<std::string> draw(Node parent, const LineChart& chart) {
  Node svg = add(parent, "svg", "chart");
  set(svg, "viewBox", fmt::format("0 0 {} {}", kWidth, kHeight));
  set(svg, "role", "img");
  set(svg, "aria-label", chart.title);
  const Scale scale = scale_of(chart);
  draw_axes(svg, chart, scale);
  const std::vector<Line> lines = lines_of(chart, scale);
  std::vector<std::string> shared;
  for (size_t i = 0; i < lines.size(); ++i) {
    const ChartSeries& series = *lines[i].series;
    Node group = add(svg, "g", style_class(series.style));
    if (series.predicted) {
      draw_predicted(group, lines[i]);
      continue;
    }
    if (draw_pieces(group, lines, lines[i])) shared.push_back(series.name);
    draw_points(group, scale, lines[i], i);
  }
  return shared;
}

void draw_key(Node parent, size_t style) {
  Node svg = add(parent, "svg", "key " + style_class(style));
  set(svg, "viewBox", "0 0 26 12");
  set(svg, "aria-hidden", "true");
  line(svg, "line", 1, 6, 25, 6);
  draw_marker(svg, style, 13, 6);
}

}  // namespace fovea::report
