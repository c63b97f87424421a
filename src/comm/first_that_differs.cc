#include <algorithm>
#include <vector>

#include "comm/communicator.h"

namespace fovea {

std::optional<int> Communicator::first_that_differs(uint64_t value) {
  std::vector<uint64_t> all(static_cast<size_t>(size()));
  all_gather(std::as_bytes(std::span(&value, 1)), std::as_writable_bytes(std::span(all)));
  const auto other = std::find_if(all.begin(), all.end(), [&](uint64_t v) { return v != all.front(); });
  if (other == all.end()) return std::nullopt;
  return static_cast<int>(other - all.begin());
}

}  // namespace fovea
