// Combinations of nodes that make no sense.
#pragma once

#include <string>

#include "base/precision.h"

namespace fovea {

// Throws Error(invalid_argument) naming `where` ("text.layers.3"), the nodes and the reason.
void check_nodes(const TowerPrecision& precision, const std::string& where);

}  // namespace fovea
