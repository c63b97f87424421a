// The nodes of the computation by name: one table for parsing, printing and help.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/precision.h"

namespace fovea {

enum class Tower : uint8_t { text, vision };
const char* name_of(Tower tower);

struct Node {
  using Member = std::variant<AttentionKind TowerPrecision::*, DType TowerPrecision::*,
                              bool TowerPrecision::*, DType AttentionPrecision::*, bool AttentionPrecision::*,
                              ScalePlacement AttentionPrecision::*, MaskAdd AttentionPrecision::*,
                              ScoreShift AttentionPrecision::*, KCentring AttentionPrecision::*,
                              Quantization TowerPrecision::*>;

  const char* name;
  Member member;
  std::vector<std::string_view> values;  // the words it understands
  bool text_only;                        // the vision tower has no such node
  const char* meaning;                   // one line
};

// In the order of the computation; `attention` is the first.
std::span<const Node> nodes();
// Throws Error(invalid_argument) listing the valid names, or saying that the vision tower has no such node.
const Node& node_named(std::string_view name, Tower tower);

// Throws Error(invalid_argument) listing the valid values.
void set_node(TowerPrecision& precision, const Node& node, std::string_view value);
std::string value_of(const TowerPrecision& precision, const Node& node);

// fp32, bf16 or fp16, for the settings that belong to no tower.
DType parse_node_dtype(std::string_view name, std::string_view value);

}  // namespace fovea
