// Pieces that several sections use: bars, names, badges, commands, legends.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "report/fields.h"
#include "report/html.h"
#include "report/line_chart.h"

namespace fovea::report {

// A bar from 0 to 1, a small drawing, with an optional interval drawn over it. The number stands beside it,
// so it is decoration only.
void add_bar(Node parent, double share, std::string_view css_class,
             std::pair<double, double> interval = {-1, -1});
// An empty bar, and a piece of one: shares of its width.
Node add_bar(Node parent, std::string_view css_class);
void add_bar_piece(Node bar, double left, double width, std::string_view css_class);
// The key of a configuration and its name; an unknown configuration has a name only.
void add_name(Node parent, const Configuration& configuration);
void add_badge(Node parent, std::string_view css_class, std::string_view text);
// The class of a table that has a column for each configuration.
const char* table_class(const Audit& audit);
// Text to be copied; report.js adds a button.
void add_command(Node parent, std::string_view command);
void add_legend(Node parent, const std::vector<const Configuration*>& configurations);
// A figure with a heading, a legend and a line chart.
void add_chart(Node parent, const Audit& audit, const LineChart& chart, std::string_view note = {});
// <details> for what is not needed at first sight; returns its body.
Node add_details(Node parent, std::string_view summary);
// "92.5 % (80.1–97.4)"
std::string accuracy_with_interval(const Json& object);
// The parts that are not empty, with the separator between them.
std::string joined(const std::vector<std::string>& parts, std::string_view separator);
// "fovea chat -m DIR FLAGS", each word quoted where a shell needs it: it runs as it stands. Of a probe, what
// is to be set in transformers.
std::string run_command(const Audit& audit, const std::string& flags);
// The command line that made the audit, quoted for a shell; empty when the audit has none that may be offered
// for copying: a list of words without control characters that begins with fovea's own program.
std::string repeat_command(const Audit& audit);
// Cut between characters, not inside one, with an ellipsis behind.
std::string shortened(std::string text, size_t most_bytes);
// The bound of Wilson's 95 % interval, as the audit computes it.
std::pair<double, double> wilson_interval(double correct, double count);

}  // namespace fovea::report
