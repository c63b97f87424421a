#include "cli/guard_text.h"

#include <fmt/format.h>

#include <algorithm>

namespace fovea {

using nlohmann::ordered_json;

namespace {

using Layers = std::vector<std::vector<HeadGuard>>;

HeadGuard total_of(const std::vector<HeadGuard>& heads) {
  HeadGuard total;
  for (const HeadGuard& head : heads) total.add(head);
  return total;
}

HeadGuard total_of(const Layers& layers) {
  HeadGuard total;
  for (const auto& heads : layers) total.add(total_of(heads));
  return total;
}

ordered_json counts_json(const HeadGuard& seen) {
  return {{"rows", seen.rows},
          {"at_risk", seen.at_risk},
          {"overflows", seen.overflows},
          {"recomputed", seen.recomputed},
          {"would_be_at_risk", seen.would_be_at_risk},
          {"largest", seen.largest}};
}

ordered_json tower_json(const Layers& layers) {
  ordered_json tower = counts_json(total_of(layers));
  tower["layers"] = ordered_json::array();
  for (const auto& heads : layers) {
    ordered_json list = ordered_json::array();
    for (const HeadGuard& head : heads) list.push_back(counts_json(head));
    tower["layers"].push_back(std::move(list));
  }
  return tower;
}

// The layer with the most rows at risk.
size_t worst_layer(const Layers& layers) {
  const auto fewer = [](const auto& a, const auto& b) { return total_of(a).at_risk < total_of(b).at_risk; };
  return static_cast<size_t>(std::max_element(layers.begin(), layers.end(), fewer) - layers.begin());
}

std::string tower_warning(const char* tower, const Layers& layers) {
  const HeadGuard all = total_of(layers);
  if (all.at_risk == 0) return "";
  const auto touched = std::count_if(layers.begin(), layers.end(),
                                     [](const auto& heads) { return total_of(heads).at_risk > 0; });
  const size_t worst = worst_layer(layers);
  const HeadGuard layer = total_of(layers[worst]);
  std::string heads;
  for (size_t h = 0; h < layers[worst].size(); ++h) {
    if (layers[worst][h].at_risk > 0) heads += fmt::format("{}{}", heads.empty() ? "" : ",", h);
  }
  return fmt::format(
      "{}: {} of {} rows in {} of {} layers; most in layer {} ({} of {}, heads {}, |score| up to {:.0f})",
      tower, all.at_risk, all.rows, touched, layers.size(), worst, layer.at_risk, layer.rows, heads,
      layer.largest);
}

}  // namespace

ordered_json guard_json(const GuardReport& report) {
  ordered_json object = {{"mode", name_of(report.options.mode)}};
  if (report.options.mode == GuardMode::off) return object;
  object["tau"] = report.options.tau;
  object["text"] = tower_json(report.text);
  object["vision"] = tower_json(report.vision);
  return object;
}

std::string guard_warning(const Engine& engine, const GuardReport& report) {
  const std::string text = tower_warning("text", report.text),
                    vision = tower_warning("vision", report.vision);
  if (text.empty() && vision.empty()) return "";
  const std::string where = text + (text.empty() || vision.empty() ? "" : "; ") + vision;
  if (report.options.mode == GuardMode::escalate) {
    return fmt::format("guard: scores that {} cannot resolve were kept in fp32: {}", name_of(engine.dtype()),
                       where);
  }
  return fmt::format(
      "guard: {} cannot resolve the attention scores of {}; use --guard escalate, --preset eager-qk-fp32 or "
      "--attn flash_attention_2",
      name_of(engine.dtype()), where);
}

}  // namespace fovea
