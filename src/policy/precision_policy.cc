#include "policy/precision_policy.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "policy/validate.h"

namespace fovea {

namespace {

void apply(TowerPrecision& precision, const ScopedSettings& scoped, DType dtype) {
  for (const NodeSetting& setting : scoped.settings) {
    const Node& node = node_named(setting.node, scoped.scope.tower);
    set_node(precision, node, setting.value);
    if (setting.node != "attention") continue;
    const TowerPrecision fresh = scoped.scope.tower == Tower::text
                                     ? TowerPrecision::text(dtype, precision.kind)
                                     : TowerPrecision::vision(dtype, precision.kind);
    precision.attention = fresh.attention;
  }
}

size_t place_of(std::string_view node) {
  const auto table = nodes();
  return static_cast<size_t>(
      std::find_if(table.begin(), table.end(), [&](const Node& n) { return n.name == node; }) -
      table.begin());
}

// Indices of the first and last layer of a scope.
std::pair<int64_t, int64_t> layers_of(const PolicyScope& scope, int64_t count) {
  const int64_t first = scope.first < 0 ? scope.first + count : scope.first,
                last = scope.last < 0 ? scope.last + count : scope.last;
  const std::string which = scope.tower == Tower::text ? "text decoder" : "vision tower";
  if (first < 0 || last < 0 || first >= count || last >= count) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{}: the {} has {} layers", scope.text(), which, count),
                fmt::format("count from 0 to {}, or from the end with -1 to -{}", count - 1, count));
  }
  if (first > last && scope.first >= 0 && scope.last < 0) {  // as --kv-cache-dtype int8 on two layers
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{}: of the {} layers of the {} none is left", scope.text(), count, which),
                "name the layers one by one; for keys and values in 8 bits in every layer, instead of "
                "--kv-cache-dtype int8: --precision text.k_cache=int8,text.v_cache=int8,text.bias_split=on");
  }
  if (first > last) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{}: layer {} comes after layer {}", scope.text(), first, last),
                "name the smaller layer first");
  }
  return {first, last};
}

[[noreturn]] void refuse_second(std::string_view what, std::string_view before, std::string_view now) {
  throw Error(ErrorKind::invalid_argument, fmt::format("{} is set to {} and to {}", what, before, now),
              "keep one of the two");
}

}  // namespace

std::string PolicyScope::text() const {
  if (all_layers) return name_of(tower);
  if (first == last) return fmt::format("{}.layers.{}", name_of(tower), first);
  return fmt::format("{}.layers.{}-{}", name_of(tower), first, last);
}

PrecisionPolicy PrecisionPolicy::of_preset(std::string_view name) {
  PrecisionPolicy policy;
  policy.set_preset(name);
  return policy;
}

void PrecisionPolicy::set_preset(std::string_view name) {
  if (preset_ && *preset_ != name) refuse_second("the preset", *preset_, name);
  preset_ = preset_named(name).name;
}

void PrecisionPolicy::set_dtype(DType dtype) {
  if (dtype_ && *dtype_ != dtype) refuse_second("dtype", name_of(*dtype_), name_of(dtype));
  dtype_ = dtype;
}

void PrecisionPolicy::set_logits(DType dtype) {
  if (logits_ && *logits_ != dtype) refuse_second("logits", name_of(*logits_), name_of(dtype));
  logits_ = dtype;
}

void PrecisionPolicy::set(const PolicyScope& scope, std::string_view node, std::string_view value) {
  TowerPrecision checked;
  set_node(checked, node_named(node, scope.tower), value);
  auto scoped =
      std::find_if(scopes_.begin(), scopes_.end(), [&](const ScopedSettings& s) { return s.scope == scope; });
  if (scoped == scopes_.end()) {
    // Towers before layers, text before vision; ranges stay in the order they were named in.
    const auto rank = [](const PolicyScope& s) {
      return (s.all_layers ? 0 : 2) + (s.tower == Tower::text ? 0 : 1);
    };
    scoped = scopes_.insert(
        std::upper_bound(scopes_.begin(), scopes_.end(), rank(scope),
                         [&](int mine, const ScopedSettings& s) { return mine < rank(s.scope); }),
        {scope, {}});
  }
  auto& settings = scoped->settings;
  const auto at = std::find_if(settings.begin(), settings.end(),
                               [&](const NodeSetting& s) { return place_of(s.node) >= place_of(node); });
  if (at != settings.end() && at->node == node) {
    if (at->value != value) refuse_second(scope.text() + "." + at->node, at->value, value);
    return;
  }
  settings.insert(at, {std::string(node), std::string(value)});
}

// For the whole tower, by a preset or by name.
bool PrecisionPolicy::sets(Tower tower, std::string_view node) const {
  if (preset_) return true;
  return std::any_of(scopes_.begin(), scopes_.end(), [&](const ScopedSettings& scoped) {
    if (scoped.scope.tower != tower || !scoped.scope.all_layers) return false;
    return std::any_of(scoped.settings.begin(), scoped.settings.end(),
                       [&](const NodeSetting& setting) { return setting.node == node; });
  });
}

LayeredPrecision PrecisionPolicy::resolve_tower(Tower tower, DType dtype, AttentionKind attention,
                                                int64_t layers, const StoredQuantization& stored) const {
  LayeredPrecision result;
  if (preset_) {
    result.tower = preset_named(*preset_).tower(tower, dtype);
  } else {
    result.tower = tower == Tower::text ? TowerPrecision::text(dtype, attention)
                                        : TowerPrecision::vision(dtype, attention);
  }
  for (const ScopedSettings& scoped : scopes_) {
    if (scoped.scope.tower == tower && scoped.scope.all_layers) apply(result.tower, scoped, dtype);
  }
  check_nodes(result.tower, name_of(tower));
  if (tower == Tower::text && !sets(tower, "head")) result.tower.head = stored.head;
  result.layers.assign(static_cast<size_t>(layers), result.tower);
  const auto& stored_layers = tower == Tower::text ? stored.text : stored.vision;
  FOVEA_CHECK(stored_layers.empty() || std::ssize(stored_layers) == layers);
  const bool attention_open = !sets(tower, "quantization"),
             mlp_open = attention_open && !sets(tower, "mlp_quantization");
  for (size_t i = 0; i < stored_layers.size(); ++i) {
    if (attention_open) result.layers[i].quantization = stored_layers[i].attention;
    if (mlp_open) result.layers[i].mlp_quantization = stored_layers[i].mlp;
  }
  for (const ScopedSettings& scoped : scopes_) {
    if (scoped.scope.tower != tower || scoped.scope.all_layers) continue;
    const auto [first, last] = layers_of(scoped.scope, layers);
    for (int64_t i = first; i <= last; ++i) apply(result.layers[static_cast<size_t>(i)], scoped, dtype);
  }
  for (size_t i = 0; i < result.layers.size(); ++i) {
    check_nodes(result.layers[i], fmt::format("{}.layers.{}", name_of(tower), i));
  }
  return result;
}

ResolvedPolicy PrecisionPolicy::resolve(const PolicyTarget& target) const {
  const std::optional<DType> fixed = preset_ ? preset_named(*preset_).dtype : std::nullopt;
  for (const std::optional<DType>* asked : {&dtype_, &target.dtype}) {
    const std::optional<DType>& other = fixed ? fixed : dtype_;
    if (!*asked || !other || **asked == *other) continue;
    throw Error(ErrorKind::invalid_argument,
                fmt::format("dtype {} contradicts {}, which has {}", name_of(**asked),
                            fixed ? "preset " + *preset_ : "the precision policy", name_of(*other)),
                "leave the dtype out, or choose a preset without one (fovea presets)");
  }
  ResolvedPolicy result;
  result.dtype = fixed ? *fixed : dtype_ ? *dtype_ : target.dtype.value_or(target.model_dtype);
  result.precision.text =
      resolve_tower(Tower::text, result.dtype, target.text_attention, target.text_layers, target.stored);
  result.precision.vision = resolve_tower(Tower::vision, result.dtype, target.vision_attention,
                                          target.vision_layers, target.stored);
  result.precision.logits = logits_.value_or(result.dtype);
  return result;
}

void set_kv_cache(PrecisionPolicy& policy, std::string_view dtype) {
  const std::array cache = {"k_cache", "v_cache"};
  if (dtype != name_of(DType::i8)) {
    for (const char* node : cache) policy.set({}, node, dtype);
    return;
  }
  for (const ScopedSettings& other : policy.scopes()) {
    for (const NodeSetting& setting : other.settings) {
      const bool named = std::find(cache.begin(), cache.end(), setting.node) != cache.end();
      if (!named || other.scope != PolicyScope{}) continue;
      throw Error(ErrorKind::invalid_argument,
                  fmt::format("text.{}={} contradicts a KV cache of int8", setting.node, setting.value),
                  "leave one of the two out");
    }
  }
  // Before the policy's own layers, which go before it.
  PrecisionPolicy result;
  const PolicyScope inner{Tower::text, false, 1, -2};
  for (const char* node : cache) result.set(inner, node, dtype);
  result.set(inner, "bias_split", "on");
  for (const ScopedSettings& other : policy.scopes()) {
    for (const NodeSetting& setting : other.settings) result.set(other.scope, setting.node, setting.value);
  }
  if (policy.preset()) result.set_preset(*policy.preset());
  if (policy.dtype()) result.set_dtype(*policy.dtype());
  if (policy.logits()) result.set_logits(*policy.logits());
  policy = result;
}

}  // namespace fovea
