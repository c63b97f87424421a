#include "audit/summary.h"

#include <sys/resource.h>

#include <algorithm>
#include <map>

#include "audit/description.h"
#include "audit/score_error.h"

namespace fovea {

using nlohmann::ordered_json;

namespace {

ordered_json number_or_null(std::optional<double> value) {
  return value && std::isfinite(*value) ? ordered_json(*value) : ordered_json(nullptr);
}

template <typename Key>
using Groups = std::map<Key, std::vector<AnsweredItem>>;

// 0-255, 256-511, 512-1023, ...
int64_t context_bin(int64_t tokens) {
  int64_t low = 0;
  for (int64_t next = 256; tokens >= next; next *= 2) low = next;
  return low;
}

ordered_json by_context(std::span<const AnsweredItem> answered) {
  Groups<int64_t> groups;
  for (const AnsweredItem& a : answered) groups[context_bin(a.facts->context)].push_back(a);
  ordered_json list = ordered_json::array();
  for (const auto& [low, group] : groups) {
    const int64_t high = low == 0 ? 255 : 2 * low - 1;
    ordered_json entry = {{"label", fmt::format("{}-{}", low, high)}, {"min", low}, {"max", high}};
    entry.update(score_json(score_of(group)));
    list.push_back(entry);
  }
  return list;
}

ordered_json by_images(std::span<const AnsweredItem> answered) {
  Groups<int64_t> groups;
  for (const AnsweredItem& a : answered) groups[a.facts->images].push_back(a);
  ordered_json list = ordered_json::array();
  for (const auto& [images, group] : groups) {
    ordered_json entry = {{"images", images}};
    entry.update(score_json(score_of(group)));
    list.push_back(entry);
  }
  return list;
}

ordered_json by_tag(std::span<const AnsweredItem> answered) {
  Groups<std::pair<std::string, std::string>> groups;
  for (const AnsweredItem& a : answered) {
    for (const auto& tag : a.item->tags) groups[tag].push_back(a);
  }
  // A tag that is different for every question says nothing as a group.
  constexpr size_t kMostGroups = 50;
  std::map<std::string, size_t> values;
  for (const auto& [tag, group] : groups) ++values[tag.first];
  ordered_json list = ordered_json::array();
  for (const auto& [tag, group] : groups) {
    if (values[tag.first] > kMostGroups) continue;
    ordered_json entry = {{"tag", tag.first}, {"value", tag.second}};
    entry.update(score_json(score_of(group)));
    list.push_back(entry);
  }
  return list;
}

std::vector<double> all_kl(std::span<const AnsweredItem> answered) {
  std::vector<double> values;
  for (const AnsweredItem& a : answered)
    values.insert(values.end(), a.result->kl.begin(), a.result->kl.end());
  return values;
}

ordered_json kl_detail(std::vector<double> values) {
  if (values.empty()) return nullptr;
  std::sort(values.begin(), values.end());
  return {{"tokens", values.size()},
          {"mean", mean(values)},
          {"median", quantile(values, 0.5)},
          {"p95", quantile(values, 0.95)},
          {"max", values.back()}};
}

struct Agreement {
  std::optional<double> tokens, answers;
  ordered_json divergences = ordered_json::array();
};

Agreement agreement_of(std::span<const AnsweredItem> answered) {
  int64_t tokens = 0, agreed = 0, identical = 0, compared = 0;
  std::map<int64_t, int64_t> positions;
  for (const AnsweredItem& a : answered) {
    tokens += static_cast<int64_t>(a.result->kl.size());
    agreed += a.result->agreed;
    if (a.result->kl.empty()) continue;
    ++compared;
    identical += !a.result->first_divergence;
    if (a.result->first_divergence) ++positions[*a.result->first_divergence];
  }
  Agreement result;
  if (tokens > 0) result.tokens = static_cast<double>(agreed) / static_cast<double>(tokens);
  if (compared > 0) result.answers = static_cast<double>(identical) / static_cast<double>(compared);
  for (const auto& [position, count] : positions)
    result.divergences.push_back({{"position", position}, {"count", count}});
  return result;
}

std::optional<double> per_row(double sum, int64_t rows) {
  if (rows == 0) return std::nullopt;
  return sum / static_cast<double>(rows);
}

ordered_json heads_json(const LayerSums& layer, bool rounded) {
  ordered_json heads = ordered_json::array();
  for (size_t h = 0; h < layer.heads.size(); ++h) {
    const HeadSums& head = layer.heads[h];
    heads.push_back({{"head", h},
                     {"largest_score", head.largest_score},
                     {"rows_at_risk", rounded ? ordered_json(head.at_risk) : ordered_json(nullptr)},
                     {"kernel_error", number_or_null(per_row(head.kernel_error, head.measured))}});
  }
  return heads;
}

bool is_rounded(const LayerSums& layer, const Precision& precision) {
  const LayeredPrecision& tower = layer.part == ModelPart::vision ? precision.vision : precision.text;
  return scores_are_rounded(tower.layers.at(static_cast<size_t>(layer.layer)));
}

ordered_json layer_json(const LayerSums& layer, const Precision& precision) {
  const HeadSums total = layer.total();
  const bool rounded = is_rounded(layer, precision);
  return {{"tower", layer.part == ModelPart::vision ? "vision" : "text"},
          {"layer", layer.layer},
          {"attention_error",
           {{"answer", number_or_null(layer.attention_answer.relative())},
            {"all", number_or_null(layer.attention_all.relative())}}},
          {"hidden_error",
           {{"answer", number_or_null(layer.hidden_answer.relative())},
            {"all", number_or_null(layer.hidden_all.relative())}}},
          {"kernel_error", number_or_null(per_row(total.kernel_error, total.measured))},
          {"predicted_error", number_or_null(per_row(total.predicted_error, total.measured))},
          {"spread", number_or_null(per_row(total.spread, total.measured))},
          {"largest_score", total.largest_score},
          {"rows_at_risk", rounded ? ordered_json(total.at_risk) : ordered_json(nullptr)},
          {"rows", total.rows},
          {"overflows", total.overflows},
          {"heads", heads_json(layer, rounded)}};
}

// rows_at_risk, rows, largest_score, overflows over all layers, and `layers`.
void put_layers(ordered_json& json, const std::vector<LayerSums>& layers, bool drift,
                const Precision& precision) {
  HeadSums total;
  bool rounded = false;
  ordered_json list = ordered_json::array();
  for (const LayerSums& layer : layers) {
    total.add(layer.total());
    rounded = rounded || is_rounded(layer, precision);
    if (drift) list.push_back(layer_json(layer, precision));
  }
  json["rows_at_risk"] = rounded && total.rows > 0 ? ordered_json(total.at_risk) : ordered_json(nullptr);
  json["rows"] = total.rows;
  json["largest_score"] = total.rows > 0 ? number_or_null(total.largest_score) : ordered_json(nullptr);
  json["overflows"] = total.overflows;
  json["layers"] = drift ? list : ordered_json(nullptr);
}

ordered_json tags_json(const SuiteItem& item) {
  ordered_json tags = ordered_json::object();
  for (const auto& [name, value] : item.tags) tags[name] = value;
  return tags;
}

ordered_json item_json(const AnsweredItem& a) {
  const ItemResult& r = *a.result;
  const auto tokens = static_cast<int64_t>(r.kl.size());
  return {
      {"id", a.item->id},
      {"context", a.facts->context},
      {"images", a.facts->images},
      {"tags", tags_json(*a.item)},
      {"expected", a.item->answers},
      {"answer", r.answer},
      {"correct", r.correct},
      {"tokens", r.tokens},
      {"kl", tokens > 0 ? ordered_json(mean(r.kl)) : ordered_json(nullptr)},
      {"agreement", number_or_null(per_row(static_cast<double>(r.agreed), tokens))},
      {"first_divergence", r.first_divergence ? ordered_json(*r.first_divergence) : ordered_json(nullptr)},
      {"seconds", r.seconds},
      {"problem", r.problem.empty() ? ordered_json(nullptr) : ordered_json(r.problem)}};
}

bool is_blank(const std::string& text) { return text.find_first_not_of(" \t\r\n") == std::string::npos; }

// errors, problems, empty_answers
void put_failures(ordered_json& json, std::span<const AnsweredItem> answered) {
  int64_t empty = 0;
  ordered_json problems = ordered_json::array();
  for (const AnsweredItem& a : answered) {
    if (!a.result->problem.empty()) {
      problems.push_back({{"id", a.item->id}, {"message", a.result->problem}});
    } else {
      empty += is_blank(a.result->answer);
    }
  }
  json["errors"] = problems.size();
  json["problems"] = problems;
  json["empty_answers"] = empty;
}

}  // namespace

int64_t resident_peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

std::vector<AnsweredItem> answered_items(const ResultStore& store, const Configuration& configuration,
                                         std::span<const SuiteItem* const> items) {
  std::vector<AnsweredItem> answered;
  const std::string key = configuration.key();
  for (const SuiteItem* item : items) {
    const ItemResult* result = store.find(key, item->id);
    const ItemFacts* facts = store.facts(item->id);
    if (result != nullptr && facts != nullptr) answered.push_back({item, facts, result});
  }
  return answered;
}

Score score_of(std::span<const AnsweredItem> answered) {
  Score score;
  for (const AnsweredItem& a : answered) {
    ++score.count;
    score.correct += a.result->correct;
    score.seconds += a.result->seconds;
    score.tokens += static_cast<int64_t>(a.result->kl.size());
    for (const double kl : a.result->kl) score.kl += kl;
  }
  if (score.tokens > 0) score.kl /= static_cast<double>(score.tokens);
  return score;
}

ordered_json score_json(const Score& score) {
  const Interval interval = score.interval();
  return {{"count", score.count},
          {"correct", score.correct},
          {"accuracy", score.accuracy()},
          {"interval", {interval.low, interval.high}}};
}

std::vector<LayerSums> layers_of(std::span<const AnsweredItem> answered) {
  std::vector<LayerSums> layers;
  for (const AnsweredItem& a : answered) add_layers(layers, a.result->layers);
  return layers;
}

ordered_json configuration_json(const Configuration& configuration, bool is_reference,
                                std::span<const AnsweredItem> answered, const MemoryPlan& memory, bool drift,
                                const Precision& precision) {
  ordered_json json = {{"name", configuration.name},
                       {"policy", configuration.policy.text()},
                       {"flags", flags_of(configuration)},
                       {"description", describe(precision, configuration.guard)},
                       {"is_reference", is_reference}};
  const Score score = score_of(answered);
  json.update(score_json(score));
  put_failures(json, answered);
  json["by_context"] = by_context(answered);
  json["by_images"] = by_images(answered);
  json["by_tag"] = by_tag(answered);
  json["kl"] = score.tokens > 0 ? ordered_json(score.kl) : ordered_json(nullptr);
  json["kl_detail"] = kl_detail(all_kl(answered));
  const Agreement agreement = agreement_of(answered);
  json["agreement"] = number_or_null(agreement.tokens);
  json["identical_answers"] = number_or_null(agreement.answers);
  json["first_divergence"] = agreement.divergences;
  put_layers(json, layers_of(answered), drift, precision);
  json["peak_bytes"] = memory.peak();
  json["memory"] = {{"attention", memory.attention},
                    {"kv_cache", memory.kv_cache},
                    {"activations", memory.activations},
                    {"scores", memory.scores},
                    {"resident", resident_peak_bytes()}};
  json["seconds"] = score.seconds;
  json["items"] = ordered_json::array();
  for (const AnsweredItem& a : answered) json["items"].push_back(item_json(a));
  return json;
}

}  // namespace fovea
