// Reading the audit's JSON: what is missing, null or of another type is absent, never an exception.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace fovea::report {

using Json = nlohmann::json;

// The member, or a null value.
const Json& member(const Json& object, const char* key);
// NaN when absent.
double number(const Json& object, const char* key);
// A string as it is, a number as text, otherwise empty.
std::string text(const Json& object, const char* key);
bool flag(const Json& object, const char* key);
// The elements that are objects, or none.
std::vector<const Json*> objects(const Json& object, const char* key);
// [low, high], or NaNs.
std::pair<double, double> interval(const Json& object, const char* key);

// One configuration of the audit and how it looks everywhere in the report.
struct Configuration {
  const Json* data;
  std::string name;
  std::string description;  // one line that says what it computes; may be empty
  size_t style;             // 0 for the reference, see style_class()
  bool is_reference, is_recommended;
};

struct Audit {
  const Json* data;
  std::vector<Configuration> configurations;
  // Null when there is none.
  const Configuration* find(std::string_view name) const;
  const Configuration* reference() const;
};

Audit read_audit(const Json& data);
// Made by python's fovea.probe: what it examined runs in transformers.
bool is_probe(const Audit& audit);

}  // namespace fovea::report
