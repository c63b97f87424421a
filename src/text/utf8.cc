#include "text/utf8.h"

#include <algorithm>

namespace fovea {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// The bytes that may follow a lead byte (Unicode 15, table 3-7): the second byte's range excludes overlong
// forms, surrogates and code points above U+10FFFF; further bytes are 80..BF.
struct LeadByte {
  size_t length;
  uint8_t second_low, second_high;
};

LeadByte lead_byte(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte < 0xF0) {
    return {3, static_cast<uint8_t>(byte == 0xE0 ? 0xA0 : 0x80),
            static_cast<uint8_t>(byte == 0xED ? 0x9F : 0xBF)};
  }
  if (byte < 0xF5) {
    return {4, static_cast<uint8_t>(byte == 0xF0 ? 0x90 : 0x80),
            static_cast<uint8_t>(byte == 0xF4 ? 0x8F : 0xBF)};
  }
  return {0, 0, 0};
}

}  // namespace

Utf8Step next_utf8(std::string_view text) {
  const LeadByte lead = lead_byte(static_cast<uint8_t>(text[0]));
  if (lead.length == 0) return {Utf8Step::Kind::malformed, 1};
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == text.size()) return {Utf8Step::Kind::incomplete, i};
    const auto byte = static_cast<uint8_t>(text[i]);
    const uint8_t low = i == 1 ? lead.second_low : 0x80, high = i == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) return {Utf8Step::Kind::malformed, i};
  }
  return {Utf8Step::Kind::character, lead.length};
}

std::string replace_malformed_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    size_t good = 0;
    Utf8Step step{Utf8Step::Kind::character, 0};
    while (good < text.size()) {
      step = next_utf8(text.substr(good));
      if (step.kind != Utf8Step::Kind::character) break;
      good += step.length;
    }
    result.append(text.substr(0, good));
    text.remove_prefix(good);
    if (text.empty()) break;
    result.append(kReplacement);
    text.remove_prefix(step.length);
  }
  return result;
}

size_t incomplete_utf8_tail(std::string_view text) {
  // A tail is a lead byte within the last three bytes with nothing but valid continuations after it.
  const size_t longest = std::min<size_t>(3, text.size());
  for (size_t tail = 1; tail <= longest; ++tail) {
    const std::string_view end = text.substr(text.size() - tail);
    if ((static_cast<uint8_t>(end[0]) & 0xC0) == 0x80) continue;
    const Utf8Step step = next_utf8(end);
    return step.kind == Utf8Step::Kind::incomplete && step.length == tail ? tail : 0;
  }
  return 0;
}

void append_utf8(std::string& text, char32_t code_point) {
  const auto byte = [&](char32_t value) { text.push_back(static_cast<char>(value)); };
  if (code_point < 0x80) {
    byte(code_point);
  } else if (code_point < 0x800) {
    byte(0xC0 | (code_point >> 6));
    byte(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    byte(0xE0 | (code_point >> 12));
    byte(0x80 | ((code_point >> 6) & 0x3F));
    byte(0x80 | (code_point & 0x3F));
  } else {
    byte(0xF0 | (code_point >> 18));
    byte(0x80 | ((code_point >> 12) & 0x3F));
    byte(0x80 | ((code_point >> 6) & 0x3F));
    byte(0x80 | (code_point & 0x3F));
  }
}

char32_t decode_utf8(std::string_view text, size_t& length) {
  const auto lead = static_cast<uint8_t>(text[0]);
  length = lead_byte(lead).length;
  if (length == 1) return lead;
  char32_t code_point = lead & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) code_point = (code_point << 6) | (static_cast<uint8_t>(text[i]) & 0x3F);
  return code_point;
}

}  // namespace fovea
