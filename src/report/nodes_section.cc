// Attribution: which node of the arithmetic is to blame, ranked.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/number_format.h"
#include "report/parts.h"
#include "report/sections.h"

namespace fovea::report {
namespace {

struct Scales {
  double kl_gain = 0, kl_loss = 0;
};

// Bars of KL are relative to the largest; those of accuracy to 1.
Scales scales_of(const std::vector<const Json*>& nodes) {
  Scales scales;
  for (const Json* node : nodes) {
    if (const double gain = number(*node, "kl_gain"); std::isfinite(gain))
      scales.kl_gain = std::max(scales.kl_gain, gain);
    if (const double loss = number(*node, "kl_loss"); std::isfinite(loss))
      scales.kl_loss = std::max(scales.kl_loss, loss);
  }
  return scales;
}

void add_measure(Table& table, double value, double largest, std::string_view shown, const char* css_class) {
  Node cell = table.cell({}, "measure");
  add_bar(cell, largest > 0 ? value / largest : 0.0, css_class);
  add(cell, "span", "value", shown);
}

void add_node(Table& table, const Json& node, const Scales& scales) {
  Node header = table.row({});
  add(header, "span", "node", text(node, "node"));
  if (flag(node, "guilty")) add_badge(header, "bad", "to blame");
  if (const std::string why = text(node, "why"); !why.empty()) add(header, "span", "why", why);
  const double gain = number(node, "accuracy_gain"), loss = number(node, "accuracy_loss");
  const double kl_gain = number(node, "kl_gain"), kl_loss = number(node, "kl_loss");
  add_measure(table, gain, 1, points(gain), "raised");
  add_measure(table, kl_gain, scales.kl_gain, small_number(kl_gain), "raised");
  add_measure(table, loss, 1, points(-loss), "lowered");
  add_measure(table, kl_loss, scales.kl_loss, small_number(kl_loss), "lowered");
}

void add_nodes(Node parent, const std::vector<const Json*>& nodes, const Scales& scales,
               std::string_view caption) {
  Table table(parent, caption, "stack nodes");
  table.column("node", false);
  for (const char* title : {"raised: accuracy", "raised: KL", "lowered: accuracy", "lowered: KL"}) {
    table.column(title, false);
  }
  for (const Json* node : nodes) add_node(table, *node, scales);
}

}  // namespace

bool fill_nodes(Node section, const Audit& audit) {
  const std::vector<const Json*> nodes = objects(*audit.data, "attribution");
  if (nodes.empty()) return false;
  const Json& of = member(*audit.data, "attribution_of");
  if (const std::string verdict = text(of, "verdict"); !verdict.empty()) {
    add(section, "p", "lead", verdict);
  }
  const std::string failing = text(of, "configuration");
  if (!failing.empty() && audit.reference() != nullptr) {
    add(section, "p", "about",
        fmt::format("Raised: what {} wins back with this node in fp32. Lowered: what {} loses with this node "
                    "alone in "
                    "the type it has in {}. {} questions.",
                    failing, audit.reference()->name, failing, count_of(number(of, "items"))));
  }
  // The first are shown, and the one to blame wherever it stands.
  constexpr size_t kShown = 4;
  std::vector<const Json*> first, others;
  for (const Json* node : nodes) {
    (first.size() < kShown || flag(*node, "guilty") ? first : others).push_back(node);
  }
  const Scales scales = scales_of(nodes);
  add_nodes(section, first, scales, "Nodes, the guiltiest first");
  if (!others.empty()) {
    add_nodes(add_details(section, count_of(double(others.size())) + " more nodes"), others, scales,
              "Nodes that matter less");
  }
  return true;
}

}  // namespace fovea::report
