// "did you mean": the known word that is nearest to one that is not.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fovea {

// The nearest of `known`, or "" when none is near. Leading dashes, case, and '_' for '-' make no difference.
std::string nearest(std::string_view word, const std::vector<std::string>& known);

// "; did you mean X?", or "".
std::string did_you_mean(std::string_view word, const std::vector<std::string>& known);

// For options of llama.cpp, vLLM and transformers that fovea has nothing of the kind of: what to do instead,
// or "".
std::string foreign_option_remedy(std::string_view option);

}  // namespace fovea
