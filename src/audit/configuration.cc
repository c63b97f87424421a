#include "audit/configuration.h"

#include <algorithm>

#include "base/error.h"

namespace fovea {

namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\n')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\n')) text.remove_suffix(1);
  return text;
}

// Takes "guard=..." out of settings separated by commas.
GuardMode take_guard(std::string& settings) {
  constexpr std::string_view kName = "guard=";
  GuardMode mode = GuardMode::off;
  std::string rest;
  for (size_t at = 0; at <= settings.size();) {
    const size_t end = std::min(settings.find(',', at), settings.size());
    const std::string_view setting = trimmed(std::string_view(settings).substr(at, end - at));
    if (setting.starts_with(kName)) {
      mode = parse_guard(setting.substr(kName.size()));
    } else if (!setting.empty()) {
      if (!rest.empty()) rest += ',';
      rest += setting;
    }
    at = end + 1;
  }
  settings = rest;
  return mode;
}

Tower tower_named(const std::string& name) { return name == "vision" ? Tower::vision : Tower::text; }

}  // namespace

Configuration parse_configuration(std::string_view text) {
  text = trimmed(text);
  if (text.empty()) {
    throw Error(ErrorKind::invalid_argument, "a configuration is empty",
                "give names separated by commas, say eager-bf16,sdpa,flash-bf16");
  }
  const size_t colon = text.find(':');
  std::string settings(colon == std::string_view::npos ? "" : text.substr(colon + 1));
  std::replace(settings.begin(), settings.end(), ';', ',');
  const std::string_view preset = trimmed(text.substr(0, colon));
  Configuration configuration;
  configuration.name = std::string(text);
  configuration.guard = take_guard(settings);
  configuration.policy = settings.empty() ? PrecisionPolicy() : PrecisionPolicy::parse_text(settings);
  if (!preset.empty()) configuration.policy.set_preset(preset);
  return configuration;
}

std::vector<Configuration> parse_configurations(std::string_view list) {
  std::vector<Configuration> configurations;
  while (true) {
    const size_t comma = list.find(',');
    Configuration one = parse_configuration(list.substr(0, comma));
    for (const Configuration& other : configurations) {
      if (other.name != one.name) continue;
      throw Error(ErrorKind::invalid_argument, fmt::format("configuration {} is there twice", one.name),
                  "name every configuration once; settings inside one are separated by semicolons");
    }
    configurations.push_back(std::move(one));
    if (comma == std::string_view::npos) return configurations;
    list.remove_prefix(comma + 1);
  }
}

std::string Configuration::key() const {
  return guard == GuardMode::off ? policy.text() : fmt::format("{} guard={}", policy.text(), name_of(guard));
}

std::string flags_of(const Configuration& configuration) {
  const PrecisionPolicy& policy = configuration.policy;
  std::string flags;
  if (policy.preset() && !policy.dtype() && !policy.logits() && policy.scopes().empty()) {
    flags = "--preset " + *policy.preset();
  } else if (policy != PrecisionPolicy()) {
    flags = "--precision " + policy.text();
  }
  if (configuration.guard == GuardMode::off) return flags;
  return fmt::format("{}{}--guard {}", flags, flags.empty() ? "" : " ", name_of(configuration.guard));
}

PrecisionPolicy with_node(const PrecisionPolicy& policy, const NodeAddress& address, std::string_view value) {
  PrecisionPolicy result;
  if (policy.preset()) result.set_preset(*policy.preset());
  if (policy.dtype()) result.set_dtype(*policy.dtype());
  if (address.tower.empty()) {
    result.set_logits(parse_node_dtype(address.node, value));
  } else if (policy.logits()) {
    result.set_logits(*policy.logits());
  }
  for (const ScopedSettings& scope : policy.scopes()) {
    for (const NodeSetting& setting : scope.settings) {
      const bool replaced = !address.tower.empty() && scope.scope.tower == tower_named(address.tower) &&
                            setting.node == address.node;
      if (!replaced) result.set(scope.scope, setting.node, setting.value);
    }
  }
  if (!address.tower.empty()) {
    PolicyScope whole;
    whole.tower = tower_named(address.tower);
    result.set(whole, address.node, value);
  }
  return result;
}

}  // namespace fovea
