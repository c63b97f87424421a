#include "report/thumbnail.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace fovea::report {
namespace {

constexpr std::string_view kHead = "data:image/png;base64,";

int value_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

// Padded base64 and nothing else; the bits behind the last byte are zero.
std::optional<std::string> decoded(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0 || text.size() / 4 * 3 > kThumbnailBytes) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  uint32_t bits = 0, held = 0;
  for (const char c : text.substr(0, text.size() - padding)) {
    const int value = value_of(c);
    if (value < 0) return std::nullopt;
    bits = (bits << 6 | static_cast<uint32_t>(value)) & 0xFFFF;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes += static_cast<char>(bits >> held & 0xFF);
  }
  if ((bits & ((1u << held) - 1)) != 0) return std::nullopt;
  return bytes;
}

uint32_t number_at(std::string_view bytes, size_t at) {
  uint32_t number = 0;
  for (size_t i = 0; i < 4; ++i) number = number << 8 | static_cast<unsigned char>(bytes[at + i]);
  return number;
}

}  // namespace

std::optional<Thumbnail> thumbnail_of(const std::string& url) {
  constexpr std::string_view kSignature = "\x89PNG\r\n\x1A\n";
  constexpr std::array<std::string_view, 6> kAllowed = {"IHDR", "sRGB", "PLTE", "tRNS", "IDAT", "IEND"};
  if (!url.starts_with(kHead)) return std::nullopt;
  const std::optional<std::string> png = decoded(std::string_view(url).substr(kHead.size()));
  if (!png || !png->starts_with(kSignature)) return std::nullopt;
  Thumbnail found{url, 0, 0};
  bool ended = false, has_pixels = false;
  for (size_t at = kSignature.size(); at < png->size();) {
    if (ended || png->size() - at < 12) return std::nullopt;
    const size_t length = number_at(*png, at), left = png->size() - at - 12;
    const std::string_view type = std::string_view(*png).substr(at + 4, 4);
    if (length > left || std::find(kAllowed.begin(), kAllowed.end(), type) == kAllowed.end())
      return std::nullopt;
    const bool is_head = type == "IHDR";
    if (is_head != (at == kSignature.size()) ||
        (is_head && (length != 13 || static_cast<unsigned char>((*png)[at + 16]) > 8)))
      return std::nullopt;
    if (is_head) {
      found.width = number_at(*png, at + 8);
      found.height = number_at(*png, at + 12);
    }
    has_pixels |= type == "IDAT";
    ended = type == "IEND";
    at += 12 + length;
  }
  const auto fits = [](int64_t side) { return side > 0 && side <= kThumbnailPixels; };
  if (!ended || !has_pixels || !fits(found.width) || !fits(found.height)) return std::nullopt;
  return found;
}

}  // namespace fovea::report
