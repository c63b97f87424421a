#include "audit/item_result.h"

namespace fovea {

using nlohmann::json;

json to_json(const ItemResult& result) {
  json layers = json::array();
  for (const LayerSums& layer : result.layers) layers.push_back(to_json(layer));
  return {{"answer", result.answer},
          {"correct", result.correct},
          {"problem", result.problem},
          {"tokens", result.tokens},
          {"first_divergence", result.first_divergence ? json(*result.first_divergence) : json(nullptr)},
          {"kl", result.kl},
          {"agreed", result.agreed},
          {"seconds", result.seconds},
          {"layers", layers}};
}

ItemResult item_result_from(const json& stored) {
  ItemResult result;
  result.answer = stored.at("answer").get<std::string>();
  result.correct = stored.at("correct").get<bool>();
  result.problem = stored.at("problem").get<std::string>();
  result.tokens = stored.at("tokens").get<int64_t>();
  const auto& divergence = stored.at("first_divergence");
  if (!divergence.is_null()) result.first_divergence = divergence.get<int64_t>();
  result.kl = stored.at("kl").get<std::vector<double>>();
  result.agreed = stored.at("agreed").get<int64_t>();
  result.seconds = stored.at("seconds").get<double>();
  for (const auto& layer : stored.at("layers")) result.layers.push_back(layer_sums_from(layer));
  return result;
}

json to_json(const ItemFacts& facts) {
  return {{"context", facts.context},
          {"images", facts.images},
          {"largest_patches", facts.largest_patches},
          {"warnings", facts.warnings}};
}

ItemFacts item_facts_from(const json& stored) {
  return {stored.at("context").get<int64_t>(), stored.at("images").get<int64_t>(),
          stored.at("largest_patches").get<int64_t>(), stored.value("warnings", std::vector<std::string>())};
}

}  // namespace fovea
