#include "text/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "text/reference_unicode.h"
#include "text/utf8.h"

namespace fovea {
namespace {

constexpr auto kCompose = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);

int combining_class(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

std::vector<utf8proc_int32_t> decompose(std::string_view text) {
  std::vector<utf8proc_int32_t> code_points;
  code_points.reserve(text.size() + 1);
  for (size_t at = 0, length = 0; at < text.size(); at += length) {
    const char32_t code_point = decode_utf8(text.substr(at), length);
    utf8proc_int32_t parts[16];  // no canonical decomposition is longer than 4
    int boundary_class = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code_point), parts,
                                                           16, kCompose, &boundary_class);
    FOVEA_CHECK(count >= 0 && count <= 16);
    code_points.insert(code_points.end(), parts, parts + count);
  }
  return code_points;
}

// Canonical ordering. utf8proc's own is an insertion sort, quadratic in a long run of marks.
void order_marks(std::vector<utf8proc_int32_t>& code_points) {
  const auto is_mark = [](utf8proc_int32_t code_point) { return combining_class(code_point) != 0; };
  for (auto begin = code_points.begin(); begin != code_points.end();) {
    begin = std::find_if(begin, code_points.end(), is_mark);
    const auto end = std::find_if_not(begin, code_points.end(), is_mark);
    std::stable_sort(begin, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return combining_class(a) < combining_class(b);
    });
    begin = end;
  }
}

// Code points below U+0300 (lead bytes below 0xCC) neither combine nor change under NFC.
bool is_plain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0xCC; });
}

void append_nfc(std::string& result, std::string_view text) {
  if (is_plain(text)) {
    result.append(text);
    return;
  }
  std::vector<utf8proc_int32_t> code_points = decompose(text);
  order_marks(code_points);
  const utf8proc_ssize_t count = utf8proc_normalize_utf32(
      code_points.data(), static_cast<utf8proc_ssize_t>(code_points.size()), kCompose);
  FOVEA_CHECK(count >= 0);
  for (utf8proc_ssize_t i = 0; i < count; ++i) append_utf8(result, static_cast<char32_t>(code_points[i]));
}

}  // namespace

std::string nfc(std::string_view text) {
  if (is_plain(text)) return std::string(text);
  std::string result;
  result.reserve(text.size());
  size_t begin = 0;
  for (size_t at = 0, length = 0; at < text.size(); at += length) {
    // What the reference does not know never reorders nor composes: it parts the text.
    if (!is_inert_in_reference_nfc(decode_utf8(text.substr(at), length))) continue;
    append_nfc(result, text.substr(begin, at - begin));
    result.append(text.substr(at, length));
    begin = at + length;
  }
  append_nfc(result, text.substr(begin));
  return result;
}

}  // namespace fovea
