// The parts of the engine as pieces of work: projections, attention, what stands between them, preprocessing.
#pragma once

#include <memory>
#include <vector>

#include "base/precision.h"
#include "bench/measurement.h"

namespace fovea::bench {

// A part by name. `make` allocates its data, checks the result of one call against an independent one (throws
// Error(numeric) when it is wrong) and returns the work; the data lives as long as the returned call.
struct Part {
  std::string name;
  std::function<Work()> make;
};

std::vector<Part> linear_parts();
std::vector<Part> attention_parts();
std::vector<Part> elementwise_parts();
std::vector<Part> media_parts();

}  // namespace fovea::bench
