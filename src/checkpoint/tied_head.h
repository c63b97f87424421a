// Which matrix is the output head, where config.json calls it tied to the embedding.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace fovea {

// With tie_word_embeddings and a plain lm_head.weight among `tensors`: alone it is the embedding, and is
// renamed; beside an equal embedding it goes unused; beside another one it is the head, and `config` no
// longer tied, with a warning. Both matrices may then have been read: `drop_pages` is called after every few
// megabytes.
void settle_tied_head(std::vector<TensorInfo>& tensors, ModelConfig& config,
                      const std::function<void()>& drop_pages);

}  // namespace fovea
