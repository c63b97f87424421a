// What every result of an audit satisfies, by its model, its questions and its options; a state file that
// says otherwise was edited or damaged.
#pragma once

#include <set>
#include <string>

#include "audit/item_result.h"

namespace fovea {

struct ResultShape {
  int64_t vision_blocks = 0, vision_heads = 0, text_layers = 0, text_heads = 0;
  int64_t max_context = 0, max_new_tokens = 0;
  std::set<std::string> questions;  // their ids
};

// Each throws Error(corrupt) naming what cannot be.
void check_question(const std::string& id, const ResultShape& shape);
void check_facts(const ItemFacts& facts, const ResultShape& shape);
void check_result(const ItemResult& result, const ResultShape& shape);

}  // namespace fovea
