// The JSON form of a policy.
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "policy/precision_policy.h"

namespace fovea {

namespace {

using nlohmann::ordered_json;

constexpr size_t kMaxBytes = size_t{1} << 20;

[[noreturn]] void refuse_json(const std::string& reason) {
  throw Error(
      ErrorKind::invalid_argument, "precision policy: " + reason,
      R"(write {"preset": "eager-bf16", "text": {"scores": "fp32", "layers": {"0-3": {"k": "fp32"}}}})");
}

// nlohmann keeps one of two equal keys and nests without limit; this refuses both while parsing.
class Watch {
 public:
  bool operator()(int depth, ordered_json::parse_event_t event, const ordered_json& parsed) {
    using Event = ordered_json::parse_event_t;
    if (depth > 8) refuse_json("it nests deeper than a policy does");
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key && !keys_.back().insert(parsed.get<std::string>()).second) {
      refuse_json(fmt::format("\"{}\" is stated twice", parsed.get<std::string>()));
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;
};

std::string word_of(std::string_view name, const ordered_json& value) {
  if (value.is_boolean()) return value.get<bool>() ? "on" : "off";
  if (!value.is_string()) refuse_json(fmt::format("\"{}\" is no string", name));
  return value.get<std::string>();
}

const ordered_json& object_of(std::string_view name, const ordered_json& value) {
  if (!value.is_object()) refuse_json(fmt::format("\"{}\" is no object", name));
  return value;
}

void read_tower(PrecisionPolicy& policy, Tower tower, const ordered_json& object) {
  for (const auto& [name, value] : object.items()) {
    if (name != "layers") {
      policy.set({tower, true, 0, 0}, name, word_of(name, value));
      continue;
    }
    for (const auto& [range, settings] : object_of(name, value).items()) {
      const PolicyScope scope = parse_layers(tower, range);
      for (const auto& [node, word] : object_of(range, settings).items()) {
        policy.set(scope, node, word_of(node, word));
      }
    }
  }
}

}  // namespace

PrecisionPolicy PrecisionPolicy::parse_json(std::string_view text) {
  if (text.size() > kMaxBytes) refuse_json("it has more than 1 MiB");
  ordered_json object;
  try {
    object = ordered_json::parse(text.begin(), text.end(), Watch());
  } catch (const ordered_json::exception& failure) {
    refuse_json(fmt::format("it is not valid JSON: {}", failure.what()));
  }
  PrecisionPolicy policy;
  for (const auto& [name, value] : object_of("the policy", object).items()) {
    if (name == "text" || name == "vision") {
      read_tower(policy, name == "text" ? Tower::text : Tower::vision, object_of(name, value));
    } else if (name == "preset") {
      policy.set_preset(word_of(name, value));
    } else if (name == "dtype") {
      policy.set_dtype(parse_node_dtype(name, word_of(name, value)));
    } else if (name == "logits") {
      policy.set_logits(parse_node_dtype(name, word_of(name, value)));
    } else {
      refuse_json(fmt::format("there is no \"{}\": it has preset, dtype, logits, text and vision", name));
    }
  }
  return policy;
}

std::string PrecisionPolicy::json() const {
  ordered_json object = ordered_json::object();
  if (preset_) object["preset"] = *preset_;
  if (dtype_) object["dtype"] = name_of(*dtype_);
  if (logits_) object["logits"] = name_of(*logits_);
  for (const ScopedSettings& scoped : scopes_) {
    ordered_json& tower = object[name_of(scoped.scope.tower)];
    const std::string prefix = std::string(name_of(scoped.scope.tower)) + ".layers.";
    ordered_json& to =
        scoped.scope.all_layers ? tower : tower["layers"][scoped.scope.text().substr(prefix.size())];
    for (const NodeSetting& setting : scoped.settings) to[setting.node] = setting.value;
  }
  return object.dump(2);
}

}  // namespace fovea
