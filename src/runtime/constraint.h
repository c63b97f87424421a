// Answers that must follow a grammar.
#pragma once

#include <memory>

#include "grammar/grammar.h"
#include "runtime/engine.h"

namespace fovea {

// From now on the options' answers follow the grammar: each token fits, and when the value is whole only the
// ids that end an answer may come (or, where more may follow, also those). An answer that ends for its length
// or at a stop string may be cut off anywhere. Without a grammar nothing changes. Throws
// Error(invalid_argument) where ignore_eos is set or the checkpoint names no id that ends an answer.
void constrain(GenerationOptions& options, std::shared_ptr<const Grammar> grammar);

}  // namespace fovea
