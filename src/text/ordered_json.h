// JSON whose keys keep their order: what a model is shown, or must write, in the order in which it was
// stated. Untrusted.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace fovea {

using OrderedJson = nlohmann::ordered_json;

// Finding a key in such an object takes a look at each: so keys are few.
inline constexpr size_t kMaxOrderedJsonBytes = size_t{256} << 10, kMostOrderedJsonKeys = 5000;
inline constexpr int kMaxOrderedJsonDepth = 64;

// `where` is what errors call it. Throws FieldError(invalid_argument) for what is no JSON or has a key twice,
// FieldError(exhausted) beyond the limits above.
OrderedJson parse_ordered_json(std::string_view text, const std::string& where);

// On one line with ", " and ": ", as Python's json.dumps(value, ensure_ascii=False) writes it, which is what
// transformers' templates call tojson.
std::string python_json(const OrderedJson& value);

// A value in an error: short, on one line, control characters escaped.
std::string shown_json(const OrderedJson& value);

}  // namespace fovea
