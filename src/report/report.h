// The audit as one HTML file that people read: on a phone, on a screen, in print. It needs no network, no
// other file and no script.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace fovea {

// audit: the object that `fovea audit --json` writes (docs/guide/audit.md). Sections for which it holds
// nothing are left out; every text in it is escaped.
std::string html_report(const nlohmann::json& audit);

// The same of a file's text, which anybody may have written. Throws Error(corrupt) for what is no JSON, is
// nested too deeply or is no audit, and Error(unsupported) for one of another version.
std::string html_report_of_text(std::string_view text);

}  // namespace fovea
