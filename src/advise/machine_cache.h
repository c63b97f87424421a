// What was measured of machines, kept in a JSON file between runs. It can always be measured again: what is
// wrong with the file is said and costs two seconds, never the advice.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "advise/machine.h"

namespace fovea {

// The entry `key`, when the file has one that makes sense. `note`: what is wrong with the file, if anything
// is.
std::optional<Measured> read_measured(const std::filesystem::path& file, const std::string& key,
                                      std::string& note);

// Adds or replaces the entry. Returns why it could not be kept, or "".
std::string keep_measured(const std::filesystem::path& file, const std::string& key,
                          const Measured& measured);

}  // namespace fovea
