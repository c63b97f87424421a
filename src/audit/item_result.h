// What is kept of one question under one configuration. Everything an audit reports is computed from these,
// so that a resumed audit reports what an uninterrupted one would.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "audit/layer_sums.h"

namespace fovea {

struct ItemResult {
  std::string answer;
  bool correct = false;
  std::string problem;                      // not empty: the computation stopped here, and why
  int64_t tokens = 0;                       // of the free answer, its end token included
  std::optional<int64_t> first_divergence;  // first answer token that differs from the reference's
  std::vector<double> kl;                   // per answer token of the reference, teacher-forced
  int64_t agreed = 0;                       // of these tokens, how many are the most likely one here too
  double seconds = 0;                       // vision and text, as if nothing were shared
  std::vector<LayerSums> layers;  // vision blocks, then text layers; empty when nothing was examined
};

// What is known of a question whatever the configuration.
struct ItemFacts {
  int64_t context = 0, images = 0, largest_patches = 0;
  std::vector<std::string> warnings = {};  // of its prompt, for people
};

nlohmann::json to_json(const ItemResult& result);
nlohmann::json to_json(const ItemFacts& facts);
// Inverse of the above. Throws nlohmann::json::exception for anything else.
ItemResult item_result_from(const nlohmann::json& stored);
ItemFacts item_facts_from(const nlohmann::json& stored);

}  // namespace fovea
