// What Python hands over as JSON, as the engine takes it. A value of another type is a mistake of the caller,
// with its name.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "audit/audit.h"
#include "runtime/engine.h"

namespace fovea::python {

// Nothing for what is missing or null. Throws Error(invalid_argument) naming the field.
template <typename T>
std::optional<T> field(const nlohmann::json& options, const char* name) {
  const auto found = options.find(name);
  if (found == options.end() || found->is_null()) return std::nullopt;
  try {
    return found->get<T>();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorKind::invalid_argument, fmt::format("{} = {} is of the wrong type", name, found->dump()),
                "see help(fovea.Engine)");
  }
}

// But for `context`.
EngineOptions engine_options(const nlohmann::json& options);
MediaLimits media_limits(const nlohmann::json& options);
// The rules of `fovea run`: a temperature, top_p or top_k samples, a temperature of 0 is greedy.
GenerationOptions generation_options(const nlohmann::json& given, GenerationOptions options);
AuditOptions audit_options(const nlohmann::json& options);

}  // namespace fovea::python
