// The engines of an audit's configurations. They share a checkpoint and equal converted weights; those that
// have no room beside each other are opened when their turn comes, and released after.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>

#include "audit/configuration.h"
#include "model/converted_weights.h"

namespace fovea {

// Converted weights, in bytes: those that are in memory now, and those that other configurations than the one
// that is asked would have there beside it.
struct ConvertedBytes {
  int64_t now = 0, others = 0;
};

// What an engine opened with these options and asked would need: Throws Error(exhausted) when there is no
// room for it. Weights that have none are streamed, or, if they may not be, `fits` is false and nothing has
// changed.
struct EngineRoom {
  bool fits = true;
  std::optional<int64_t> kv_bytes = {};  // with EngineOptions::kv_offload: KvOffload::bytes
};
using EngineCheck =
    std::function<EngineRoom(const EngineOptions& asked, const ConvertedBytes& converted, bool may_stream,
                             int64_t tokens, std::span<const Picture>, std::span<const MediaOptions>)>;

class ConfigurationEngines {
 public:
  using List = std::span<const Configuration* const>;

  // `base` is borrowed: what has a configuration does not say is as with it. With a device map it is itself
  // the engine of the only configuration. Without a check everything is kept.
  ConfigurationEngines(const Engine& base, EngineCheck check) : base_(base), check_(std::move(check)) {}

  bool checks() const { return check_ != nullptr; }
  // Resolved; nothing is loaded. Throws Error for a policy that does not fit the model.
  const Precision& precision(const Configuration& configuration);

  // Decides what stays in memory while these configurations are asked one after the other: all of them and
  // those that were asked before; or these alone; or as many of these, from the first on, as leave room for
  // any other. Throws Error(exhausted) naming one that has none.
  void make_room(List configurations, int64_t tokens, std::span<const Picture> pictures,
                 std::span<const MediaOptions> media);
  // Whether make_room() has kept each configuration of its call, so far.
  bool keeps_all() const { return keeps_all_; }

  // Opens it, if it is not; before that those are released that do not stay. The reference is valid until the
  // next call.
  const Engine& engine(const Configuration& configuration);

 private:
  using Check = std::function<EngineRoom(const Configuration&, int64_t others, bool may_stream)>;

  EngineOptions options_of(const Configuration& configuration) const;
  const ConvertedWeights& weights_of(const Configuration& configuration);
  ConvertedWeights weights_of(const std::set<std::string>& keys) const;
  std::set<std::string> open_ones() const;
  int64_t bytes_beside(const Configuration& one, ConvertedWeights others);
  bool fit_beside(const std::set<std::string>& kept, List all, const Check& check);
  std::set<std::string> choose_kept(List configurations, const Check& check);

  const Engine& base_;
  EngineCheck check_;
  std::map<std::string, Precision> precisions_;      // by the configuration's key, as all of these
  std::map<std::string, ConvertedWeights> weights_;  // of each that was asked for
  std::map<std::string, Engine> engines_;
  std::map<std::string, int64_t> kv_bytes_;
  std::set<std::string> kept_;
  bool keeps_all_ = true;
};

}  // namespace fovea
