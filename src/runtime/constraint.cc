#include "runtime/constraint.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"

namespace fovea {

void constrain(GenerationOptions& options, std::shared_ptr<const Grammar> grammar) {
  if (!grammar) return;
  if (options.ignore_eos) {
    throw Error(ErrorKind::invalid_argument,
                "ignore_eos and an answer that must follow a schema exclude each other",
                "leave one of them out");
  }
  std::vector<int32_t> end_ids;
  for (const int64_t id : options.eos_token_ids) {
    if (id >= 0 && id <= std::numeric_limits<int32_t>::max()) end_ids.push_back(static_cast<int32_t>(id));
  }
  if (end_ids.empty()) {
    throw Error(ErrorKind::invalid_argument,
                "the checkpoint names no token that ends an answer, so none can end when its value is whole",
                "add eos_token_id to its generation_config.json");
  }
  options.sampling.grammar = std::move(grammar);
  options.sampling.end_ids = std::move(end_ids);
}

}  // namespace fovea
