// The text form of a policy.
#include <fmt/ranges.h>

#include <charconv>

#include "base/error.h"
#include "policy/precision_policy.h"

namespace fovea {

namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

[[noreturn]] void refuse_setting(std::string_view setting, const std::string& reason) {
  throw Error(ErrorKind::invalid_argument, fmt::format("precision '{}': {}", setting, reason),
              "write preset=NAME, dtype=T, logits=T, text.NODE=V, text.layers.0.NODE=V or "
              "vision.layers.0-3.NODE=V, separated by commas (fovea presets --help lists the nodes)");
}

// A signed number at the start of `text`, which loses it.
bool take_number(std::string_view& text, int64_t& number) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

void set_path(PrecisionPolicy& policy, std::string_view setting, std::string_view path,
              std::string_view value) {
  const size_t dot = path.find('.');
  const std::string_view first = path.substr(0, dot);
  if (dot == std::string_view::npos || (first != "text" && first != "vision")) {
    refuse_setting(setting, fmt::format("'{}' is no setting", path));
  }
  const Tower tower = first == "text" ? Tower::text : Tower::vision;
  path.remove_prefix(dot + 1);
  PolicyScope scope{tower, true, 0, 0};
  if (path.starts_with("layers.")) {
    path.remove_prefix(std::string_view("layers.").size());
    const size_t end = path.find('.');
    if (end == std::string_view::npos) refuse_setting(setting, "there is no node after the layers");
    scope = parse_layers(tower, path.substr(0, end));
    path.remove_prefix(end + 1);
  }
  policy.set(scope, path, value);
}

}  // namespace

PolicyScope parse_layers(Tower tower, std::string_view range) {
  PolicyScope scope{tower, false, 0, 0};
  std::string_view rest = range;
  bool good = take_number(rest, scope.first);
  scope.last = scope.first;
  if (good && !rest.empty()) {
    good = rest.front() == '-';
    rest.remove_prefix(1);
    good = good && take_number(rest, scope.last);
  }
  if (good && rest.empty()) return scope;
  throw Error(ErrorKind::invalid_argument, fmt::format("'{}' are no layers", range),
              "write one layer (0, or -1 for the last) or a range (0-3)");
}

PrecisionPolicy PrecisionPolicy::parse_text(std::string_view text) {
  PrecisionPolicy policy;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string_view setting = trimmed(text.substr(0, comma));
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    const size_t equals = setting.find('=');
    if (equals == std::string_view::npos) refuse_setting(setting, "there is no '='");
    const std::string_view name = trimmed(setting.substr(0, equals)),
                           value = trimmed(setting.substr(equals + 1));
    if (name == "preset") {
      policy.set_preset(value);
    } else if (name == "dtype") {
      policy.set_dtype(parse_node_dtype(name, value));
    } else if (name == "logits") {
      policy.set_logits(parse_node_dtype(name, value));
    } else {
      set_path(policy, setting, name, value);
    }
  }
  return policy;
}

std::string PrecisionPolicy::text() const {
  std::vector<std::string> settings;
  if (preset_) settings.push_back("preset=" + *preset_);
  if (dtype_) settings.push_back(fmt::format("dtype={}", name_of(*dtype_)));
  if (logits_) settings.push_back(fmt::format("logits={}", name_of(*logits_)));
  for (const ScopedSettings& scoped : scopes_) {
    for (const NodeSetting& setting : scoped.settings) {
      settings.push_back(fmt::format("{}.{}={}", scoped.scope.text(), setting.node, setting.value));
    }
  }
  return fmt::format("{}", fmt::join(settings, ","));
}

}  // namespace fovea
