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

void draw_series(Node svg, const LineChart& chart, const Scale& scale, const ChartSeries& series,
                 double shift) {
  Node group = add(svg, "g", style_class(series.style));
  std::string path;
  std::vector<std::pair<double, double>> places;
  for (const ChartPoint& point : series.points) {
    if (!std::isfinite(point.value)) continue;
    places.emplace_back(x_of(chart, double(point.at)) + shift, scale.y(point.value));
    path +=
        fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", places.back().first, places.back().second);
    if (point.interval) {
      const double x = places.back().first;
      line(group, "interval", x, scale.y(point.interval->first), x, scale.y(point.interval->second));
    }
  }
  if (places.size() > 1) set(add(group, "path", series.predicted ? "predicted" : "line"), "d", path);
  if (series.predicted) return;
  // Many points of a dense line would hide it: then only some carry a marker, and all keep their label.
  const size_t every = std::max<size_t>(1, places.size() / 10);
  size_t i = 0;
  for (const ChartPoint& point : series.points) {
    if (!std::isfinite(point.value)) continue;
    Node spot = add(group, "g");
    add(spot, "title", {}, series.name + ": " + point.label);
    if (i % every == 0) {
      draw_marker(spot, series.style, places[i].first, places[i].second);
    } else {
      Node target = add(spot, "circle", "target");
      set(target, "cx", places[i].first);
      set(target, "cy", places[i].second);
      set(target, "r", 4.0);
    }
    ++i;
  }
}

}  // namespace

std::string style_class(size_t style) {
  constexpr size_t kColours = 7;  // besides the neutral one of the reference; report.css has them
  if (style == 0) return "k0";
  return fmt::format("k{}{}", (style - 1) % kColours + 1, (style - 1) / kColours % 2 == 1 ? " dashed" : "");
}

void draw(Node parent, const LineChart& chart) {
  Node svg = add(parent, "svg", "chart");
  set(svg, "viewBox", fmt::format("0 0 {} {}", kWidth, kHeight));
  set(svg, "role", "img");
  set(svg, "aria-label", chart.title);
  const Scale scale = scale_of(chart);
  draw_axes(svg, chart, scale);
  // Series stand side by side, or equal values and their intervals would hide each other.
  const bool has_intervals =
      std::any_of(chart.series.begin(), chart.series.end(), [](const ChartSeries& series) {
        return std::any_of(series.points.begin(), series.points.end(),
                           [](const ChartPoint& p) { return !!p.interval; });
      });
  const double room = has_intervals && chart.ticks.size() > 1 ? x_of(chart, 1) - x_of(chart, 0) : 0;
  const double step = chart.series.empty() ? 0 : std::min(6.0, 0.6 * room / double(chart.series.size()));
  const double middle = (double(chart.series.size()) - 1) / 2;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const double shift = std::clamp((double(i) - middle) * step, -14.0, 14.0);
    draw_series(svg, chart, scale, chart.series[i], shift);
  }
}

void draw_key(Node parent, size_t style) {
  Node svg = add(parent, "svg", "key " + style_class(style));
  set(svg, "viewBox", "0 0 26 12");
  set(svg, "aria-hidden", "true");
  line(svg, "line", 1, 6, 25, 6);
  draw_marker(svg, style, 13, 6);
}

}  // namespace fovea::report
