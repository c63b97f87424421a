// Which rank computes which part of the model: --device-map. Parts are the vision tower, each decoder layer
// and the output head (final norm included). Tokens are embedded by rank 0, which holds the request.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/weight_groups.h"
#include "model/held_parts.h"

namespace fovea {

struct DeviceMap {
  int vision = 0, head = 0;
  std::vector<int> layers;  // the rank of each decoder layer

  bool operator==(const DeviceMap&) const = default;

  // Entries NAME=RANK, separated by commas or lines, or one JSON object {"NAME": RANK}. Names: vision, head,
  // text (all layers), text.3, text.0-17 (both included), and those of transformers' device maps:
  // model.visual, model.language_model.layers.3, lm_head, and model.language_model.{embed_tokens,norm,
  // rotary_emb}, which have to stand where fovea keeps them: on rank 0, beside the head, anywhere. Lines may
  // end in a comment after '#'. Every part must be named exactly once. Throws Error(invalid_argument) naming
  // the entry or the parts that are missing, Error(corrupt) for broken JSON.
  static DeviceMap parse(std::string_view text, int64_t layers);

  // In order vision, layers, head; the most bytes of weights that any rank gets are as few as they can be.
  // Throws Error(invalid_argument) when there are more ranks than parts.
  static DeviceMap balanced(const WeightGroups& groups, int64_t layers, int ranks);

  // Throws Error(invalid_argument) for a rank that does not exist, and for one that would have nothing to do.
  void require_ranks(int size) const;

  // One more than the largest rank.
  int ranks() const;

  // Consecutive layers [first, last) of one rank.
  struct Stage {
    int rank;
    int64_t first, last;
  };
  std::vector<Stage> stages() const;

  HeldParts held_by(int rank) const;
  // "vision, text.0-17, head", or "nothing".
  std::string parts_of(int rank) const;
  // As parse() reads it.
  std::string text() const;
};

}  // namespace fovea
