// What the guard saw, for people and for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "runtime/engine.h"

namespace fovea {

// {"mode", "tau", "text": {totals and the layers' heads}, "vision": {...}}; {"mode": "off"} when it was off.
nlohmann::ordered_json guard_json(const GuardReport& report);

// One line: what, where, and the flag that cures it; empty when no stored score was at risk.
std::string guard_warning(const Engine& engine, const GuardReport& report);

}  // namespace fovea
