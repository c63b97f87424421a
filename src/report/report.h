// The audit as one HTML file that people read: on a phone, on a screen, in print. It needs no network, no
// other file and no script.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace fovea {

// audit: the object that `fovea audit --json` writes (docs/audit.md). Sections for which it holds nothing are
// left out; every text in it is escaped.
std::string html_report(const nlohmann::json& audit);

}  // namespace fovea
