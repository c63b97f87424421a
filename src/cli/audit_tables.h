// The readable form of an audit, from its JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace fovea {

// Questions used and skipped, with every problem.
std::string suite_text(const nlohmann::ordered_json& audit);
// One line for each configuration.
std::string configurations_text(const nlohmann::ordered_json& audit);
// The share of right answers for each value of a tag, such as the suite's kind; empty without tags that are
// words.
std::string tags_text(const nlohmann::ordered_json& audit);
// The leading nodes; the candidates of the search; what is safe, and what to use. Empty without them.
std::string attribution_text(const nlohmann::ordered_json& audit);
std::string search_text(const nlohmann::ordered_json& audit);
std::string storage_search_text(const nlohmann::ordered_json& audit);
std::string conclusion_text(const nlohmann::ordered_json& audit);

}  // namespace fovea
