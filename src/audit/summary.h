// What an audit says of one configuration, from the results of its questions.
#pragma once

#include <nlohmann/json.hpp>
#include <span>

#include "audit/configuration.h"
#include "audit/memory_plan.h"
#include "audit/result_store.h"
#include "audit/statistics.h"
#include "suite/record.h"

namespace fovea {

// A question with the results of one configuration.
struct AnsweredItem {
  const SuiteItem* item = nullptr;
  const ItemFacts* facts = nullptr;
  const ItemResult* result = nullptr;
};

// Those of `items` that the store has a result for, in order.
std::vector<AnsweredItem> answered_items(const ResultStore& store, const Configuration& configuration,
                                         std::span<const SuiteItem* const> items);

struct Score {
  int64_t count = 0, correct = 0;
  double kl = 0;  // mean over the tokens compared
  int64_t tokens = 0;
  double seconds = 0;
  double accuracy() const {
    return count > 0 ? static_cast<double>(correct) / static_cast<double>(count) : 0;
  }
  Interval interval() const { return wilson_interval(correct, count); }
};
Score score_of(std::span<const AnsweredItem> answered);

// {count, correct, accuracy, interval}
nlohmann::ordered_json score_json(const Score& score);

// Layer by layer over all questions.
std::vector<LayerSums> layers_of(std::span<const AnsweredItem> answered);

// The object of docs/guide/audit.md, "A configuration". `drift`: with `layers`.
nlohmann::ordered_json configuration_json(const Configuration& configuration, bool is_reference,
                                          std::span<const AnsweredItem> answered, const MemoryPlan& memory,
                                          bool drift, const Precision& precision);

// The largest resident set of this process so far.
int64_t resident_peak_bytes();

}  // namespace fovea
