// Accuracy over the length of the context, the number of images, and their tokens.
#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <map>

#include "report/number_format.h"
#include "report/parts.h"
#include "report/sections.h"

namespace fovea::report {
namespace {

// One bucket of one configuration: "eager 90.0 % (80.1-97.4), 13 questions".
std::string describe(const std::string& bucket, const Json& data) {
  return fmt::format("{}: {} of {} right, {}", bucket, count_of(number(data, "correct")),
                     count_of(number(data, "count")), accuracy_with_interval(data));
}

// The buckets of all configurations in ascending order, by their number and label.
using Buckets = std::map<double, std::string>;

struct Breakdown {
  const char* field;   // of a configuration
  const char* number;  // of a bucket: what it is sorted by
  const char* label;   // of a bucket
  const char* title;
  const char* x_label;
};

Buckets buckets_of(const Audit& audit, const Breakdown& breakdown) {
  Buckets buckets;
  for (const Configuration& configuration : audit.configurations) {
    for (const Json* bucket : objects(*configuration.data, breakdown.field)) {
      const double at = number(*bucket, breakdown.number);
      if (std::isfinite(at)) buckets[at] = text(*bucket, breakdown.label);
    }
  }
  return buckets;
}

void add_numbers(Node section, const Audit& audit, const Breakdown& breakdown, const Buckets& buckets) {
  Table table(add_details(section, "Numbers: " + std::string(breakdown.title)), breakdown.title);
  table.column(breakdown.x_label, false);
  for (const Configuration& configuration : audit.configurations) table.column(configuration.name);
  for (const auto& [at, label] : buckets) {
    table.row(label);
    for (const Configuration& configuration : audit.configurations) {
      std::string cell = "\u2013";
      for (const Json* bucket : objects(*configuration.data, breakdown.field)) {
        if (number(*bucket, breakdown.number) == at) {
          cell = fmt::format("{} of {}", count_of(number(*bucket, "correct")),
                             count_of(number(*bucket, "count")));
        }
      }
      table.cell(cell);
    }
  }
}

// With a single bucket a chart would only repeat the table above.
bool add_breakdown(Node charts, Node section, const Audit& audit, const Breakdown& breakdown) {
  const Buckets buckets = buckets_of(audit, breakdown);
  if (buckets.size() < 2) return false;
  LineChart chart{breakdown.title, breakdown.x_label, "right answers", {}, {}};
  std::map<double, size_t> place;
  for (const auto& [at, label] : buckets) {
    place[at] = chart.ticks.size();
    chart.ticks.push_back(label);
  }
  for (const Configuration& configuration : audit.configurations) {
    ChartSeries series{configuration.name, configuration.style, {}};
    for (const Json* bucket : objects(*configuration.data, breakdown.field)) {
      const auto found = place.find(number(*bucket, breakdown.number));
      if (found == place.end()) continue;
      ChartPoint point{found->second, number(*bucket, "accuracy")};
      const auto bounds = interval(*bucket, "interval");
      if (std::isfinite(bounds.first)) point.interval = bounds;
      point.label = describe(text(*bucket, breakdown.label), *bucket);
      series.points.push_back(std::move(point));
    }
    if (!series.points.empty()) chart.series.push_back(std::move(series));
  }
  add_chart(charts, audit, chart);
  add_numbers(section, audit, breakdown, buckets);
  return true;
}

}  // namespace

bool fill_accuracy(Node section, const Audit& audit) {
  Node charts = add(section, "div", "charts");
  const bool context =
      add_breakdown(charts, section, audit,
                    {"by_context", "min", "label", "Accuracy over context length", "prompt tokens"});
  const bool images = add_breakdown(charts, section, audit,
                                    {"by_images", "images", "images", "Accuracy over images", "images"});
  const bool budgets =
      add_breakdown(charts, section, audit,
                    {"by_image_budget", "budget", "budget", "Accuracy over the image-token budget",
                     "tokens of all images of a question, at most"});
  return context || images || budgets;
}

}  // namespace fovea::report
