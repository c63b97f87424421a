#include "audit/configuration_engines.h"

#include <algorithm>

#include "base/error.h"
#include "base/freed_memory.h"

namespace fovea {

namespace {

template <typename Work>
auto naming(const Configuration& configuration, const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("configuration {}: {}", configuration.name, error.message()),
                error.remedy());
  }
}

}  // namespace

EngineOptions ConfigurationEngines::options_of(const Configuration& configuration) const {
  EngineOptions options;
  options.policy = configuration.policy;
  options.guard.mode = configuration.guard;
  options.vision_budget_bytes =
      base_.options().vision_budget_bytes;  // with() inherits them, a check reads them
  options.kv_offload = base_.options().kv_offload;
  return options;
}

const Precision& ConfigurationEngines::precision(const Configuration& configuration) {
  if (base_.device_map() != nullptr) return base_.precision();
  const auto known = precisions_.find(configuration.key());
  if (known != precisions_.end()) return known->second;
  const PolicyTarget target = policy_target(options_of(configuration), base_.checkpoint());
  Precision resolved = naming(configuration, [&] { return configuration.policy.resolve(target).precision; });
  return precisions_.emplace(configuration.key(), std::move(resolved)).first->second;
}

const ConvertedWeights& ConfigurationEngines::weights_of(const Configuration& configuration) {
  const auto known = weights_.find(configuration.key());
  if (known != weights_.end()) return known->second;
  return weights_.emplace(configuration.key(), ConvertedWeights(base_.checkpoint(), precision(configuration)))
      .first->second;
}

// With those of the base, which is there in any case.
ConvertedWeights ConfigurationEngines::weights_of(const std::set<std::string>& keys) const {
  ConvertedWeights all(base_.checkpoint(), base_.precision());
  for (const std::string& key : keys) all.add(weights_.at(key));
  return all;
}

std::set<std::string> ConfigurationEngines::open_ones() const {
  std::set<std::string> keys;
  for (const auto& [key, engine] : engines_) keys.insert(key);
  return keys;
}

int64_t ConfigurationEngines::bytes_beside(const Configuration& one, ConvertedWeights others) {
  others.add(weights_of(one));
  return others.bytes() - weights_of(one).bytes();
}

// Whether each of `all` has room beside `kept`, without streaming.
bool ConfigurationEngines::fit_beside(const std::set<std::string>& kept, List all, const Check& check) {
  const ConvertedWeights together = weights_of(kept);
  const auto fits = [&](const Configuration* one) {
    try {
      return check(*one, bytes_beside(*one, together), false).fits;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::exhausted) throw;
      return false;
    }
  };
  return std::all_of(all.begin(), all.end(), fits);
}

std::set<std::string> ConfigurationEngines::choose_kept(List configurations, const Check& check) {
  std::set<std::string> kept = open_ones(), these;
  for (const Configuration* one : configurations) {
    weights_of(*one);
    these.insert(one->key());
  }
  kept.insert(these.begin(), these.end());
  if (fit_beside(kept, configurations, check)) return kept;
  if (fit_beside(these, configurations, check)) return these;
  keeps_all_ = false;
  kept.clear();
  for (const Configuration* one : configurations) {
    kept.insert(one->key());
    if (!fit_beside(kept, configurations, check)) kept.erase(one->key());
  }
  return kept;
}

void ConfigurationEngines::make_room(List configurations, int64_t tokens, std::span<const Picture> pictures,
                                     std::span<const MediaOptions> media) {
  if (!check_) return;
  const bool streams = base_.streams_weights();
  const int64_t now = streams ? 0 : weights_of(open_ones()).bytes();
  const auto check = [&](const Configuration& one, int64_t others, bool may_stream) {
    return check_(options_of(one), {now, streams ? 0 : others}, may_stream, tokens, pictures, media);
  };
  if (!streams) kept_ = choose_kept(configurations, check);
  for (const Configuration* one : configurations) {  // streamed, if need be
    const int64_t others = bytes_beside(*one, weights_of(kept_));
    const EngineRoom room = naming(*one, [&] { return check(*one, others, true); });
    if (room.kv_bytes) kv_bytes_[one->key()] = *room.kv_bytes;
  }
}

const Engine& ConfigurationEngines::engine(const Configuration& configuration) {
  if (base_.device_map() != nullptr) return base_;
  const std::string key = configuration.key();
  auto known = engines_.find(key);
  if (known == engines_.end()) {
    if (check_ && !base_.streams_weights()) {
      const auto released =
          std::erase_if(engines_, [&](const auto& open) { return !kept_.contains(open.first); });
      if (released > 0) return_freed_memory();
    }
    weights_of(configuration);
    known = naming(configuration,
                   [&] { return engines_.emplace(key, base_.with(options_of(configuration))).first; });
  }
  if (const auto bytes = kv_bytes_.find(key); bytes != kv_bytes_.end())
    known->second.limit_kv_cache(bytes->second);
  return known->second;
}

}  // namespace fovea
