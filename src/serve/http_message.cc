#include "serve/http_message.h"

#include <algorithm>

namespace fovea {
namespace {

char small(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

bool equal_without_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return small(x) == small(y); });
}

const std::string* HttpHead::header(std::string_view name) const {
  const auto found =
      std::ranges::find_if(headers, [&](const auto& one) { return equal_without_case(one.first, name); });
  return found == headers.end() ? nullptr : &found->second;
}

int64_t HttpHead::count(std::string_view name) const {
  return std::ranges::count_if(headers, [&](const auto& one) { return equal_without_case(one.first, name); });
}

}  // namespace fovea
