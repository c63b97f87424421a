#include "audit/layer_sums.h"

#include <algorithm>

#include "base/error.h"

namespace fovea {

using nlohmann::json;

void HeadSums::add(const HeadSums& other) {
  rows += other.rows;
  at_risk += other.at_risk;
  overflows += other.overflows;
  largest_score = std::max(largest_score, other.largest_score);
  measured += other.measured;
  kernel_error += other.kernel_error;
  spread += other.spread;
  predicted_error += other.predicted_error;
}

void LayerSums::add(const LayerSums& other) {
  attention_all.add(other.attention_all);
  attention_answer.add(other.attention_answer);
  hidden_all.add(other.hidden_all);
  hidden_answer.add(other.hidden_answer);
  if (heads.empty()) heads.resize(other.heads.size());
  FOVEA_CHECK(heads.size() == other.heads.size() || other.heads.empty());
  for (size_t h = 0; h < other.heads.size(); ++h) heads[h].add(other.heads[h]);
}

HeadSums LayerSums::total() const {
  HeadSums sum;
  for (const HeadSums& head : heads) sum.add(head);
  return sum;
}

void add_layers(std::vector<LayerSums>& sums, const std::vector<LayerSums>& more) {
  for (const LayerSums& layer : more) {
    const auto same = std::find_if(sums.begin(), sums.end(), [&](const LayerSums& s) {
      return s.part == layer.part && s.layer == layer.layer;
    });
    if (same == sums.end()) {
      sums.push_back(layer);
    } else {
      same->add(layer);
    }
  }
  std::stable_sort(sums.begin(), sums.end(), [](const LayerSums& a, const LayerSums& b) {
    return a.part != b.part ? a.part == ModelPart::vision : a.layer < b.layer;
  });
}

namespace {

json to_json(const ErrorSum& sum) { return {sum.difference, sum.reference}; }
ErrorSum error_sum_from(const json& stored) {
  return {stored.at(0).get<double>(), stored.at(1).get<double>()};
}

// JSON has no NaN.
json number_or_null(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }
double number_or_nan(const json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

// Of the scores only an infinite one is no number.
double score_from(const json& value) {
  return value.is_null() ? std::numeric_limits<double>::infinity() : value.get<double>();
}

}  // namespace

json to_json(const LayerSums& sums) {
  json heads = json::array();
  for (const HeadSums& h : sums.heads) {
    heads.push_back({h.rows, h.at_risk, h.overflows, number_or_null(h.largest_score), h.measured,
                     number_or_null(h.kernel_error), number_or_null(h.spread),
                     number_or_null(h.predicted_error)});
  }
  return {{"tower", sums.part == ModelPart::vision ? "vision" : "text"},
          {"layer", sums.layer},
          {"attention", {to_json(sums.attention_all), to_json(sums.attention_answer)}},
          {"hidden", {to_json(sums.hidden_all), to_json(sums.hidden_answer)}},
          {"heads", heads}};
}

LayerSums layer_sums_from(const json& stored) {
  LayerSums sums;
  sums.part = stored.at("tower") == "vision" ? ModelPart::vision : ModelPart::text;
  sums.layer = stored.at("layer").get<int64_t>();
  sums.attention_all = error_sum_from(stored.at("attention").at(0));
  sums.attention_answer = error_sum_from(stored.at("attention").at(1));
  sums.hidden_all = error_sum_from(stored.at("hidden").at(0));
  sums.hidden_answer = error_sum_from(stored.at("hidden").at(1));
  for (const auto& h : stored.at("heads")) {
    sums.heads.push_back({h.at(0).get<int64_t>(), h.at(1).get<int64_t>(), h.at(2).get<int64_t>(),
                          score_from(h.at(3)), h.at(4).get<int64_t>(), number_or_nan(h.at(5)),
                          number_or_nan(h.at(6)), number_or_nan(h.at(7))});
  }
  return sums;
}

}  // namespace fovea
