#include "report/fields.h"

#include <cmath>
#include <limits>

#include "report/number_format.h"

namespace fovea::report {

const Json& member(const Json& object, const char* key) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

double number(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::string text(const Json& object, const char* key) {
  const Json& value = member(object, key);
  if (value.is_string()) return value.get<std::string>();
  return value.is_number() ? value.dump() : std::string();
}

bool flag(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_boolean() && value.get<bool>();
}

std::vector<const Json*> objects(const Json& object, const char* key) {
  std::vector<const Json*> result;
  const Json& list = member(object, key);
  if (!list.is_array()) return result;
  for (const Json& element : list) {
    if (element.is_object()) result.push_back(&element);
  }
  return result;
}

std::pair<double, double> interval(const Json& object, const char* key) {
  const Json& pair = member(object, key);
  if (pair.is_array() && pair.size() == 2 && pair[0].is_number() && pair[1].is_number()) {
    return {pair[0].get<double>(), pair[1].get<double>()};
  }
  const double none = std::numeric_limits<double>::quiet_NaN();
  return {none, none};
}

const Configuration* Audit::find(std::string_view name) const {
  for (const Configuration& configuration : configurations) {
    if (configuration.name == name) return &configuration;
  }
  return nullptr;
}

const Configuration* Audit::reference() const {
  for (const Configuration& configuration : configurations) {
    if (configuration.is_reference) return &configuration;
  }
  return nullptr;
}

Audit read_audit(const Json& data) {
  Audit audit{&data, {}};
  const std::string recommended = text(member(data, "recommended"), "name");
  const std::string reference = text(data, "reference");
  size_t next_style = 1;
  for (const Json* object : objects(data, "configurations")) {
    Configuration configuration{object, text(*object, "name"), text(*object, "description"), 0, false, false};
    if (configuration.name.empty()) configuration.name = "unnamed";
    configuration.is_reference = flag(*object, "is_reference") || configuration.name == reference;
    configuration.is_recommended = !recommended.empty() && configuration.name == recommended;
    if (!configuration.is_reference) configuration.style = next_style++;
    audit.configurations.push_back(std::move(configuration));
  }
  return audit;
}

bool is_probe(const Audit& audit) { return text(*audit.data, "made_by") == "fovea.probe"; }

}  // namespace fovea::report
