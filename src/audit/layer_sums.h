// Sums over the rows of one layer, of which errors and shares are quotients; sums of several questions just
// add.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "model/layer_observer.h"

namespace fovea {

// Squared norms of a difference and of the reference.
struct ErrorSum {
  double difference = 0, reference = 0;
  void add(const ErrorSum& other) {
    difference += other.difference;
    reference += other.reference;
  }
  // |a - b| / |b|; nothing when there is no reference.
  std::optional<double> relative() const {
    if (!(reference > 0)) return std::nullopt;
    return std::sqrt(difference / reference);
  }
};

// The examined rows of one head.
struct HeadSums {
  int64_t rows = 0, at_risk = 0, overflows = 0;
  double largest_score = 0;             // |scaled score|
  int64_t measured = 0;                 // rows whose kernel error was measured
  double kernel_error = 0, spread = 0;  // sums over these
  double predicted_error = 0;           // NaN where the formula does not apply
  void add(const HeadSums& other);
};

struct LayerSums {
  ModelPart part = ModelPart::text;
  int64_t layer = 0;
  ErrorSum attention_all, attention_answer, hidden_all, hidden_answer;
  std::vector<HeadSums> heads;
  void add(const LayerSums& other);
  HeadSums total() const;  // over heads
};

// Adds layer by layer; `sums` may be empty before the first.
void add_layers(std::vector<LayerSums>& sums, const std::vector<LayerSums>& more);

nlohmann::json to_json(const LayerSums& sums);
LayerSums layer_sums_from(const nlohmann::json& stored);

}  // namespace fovea
