#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace fovea {
namespace {

constexpr bool spells_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr int kSpellings = 0x100 + 0x44;  // 68 bytes do not spell themselves

struct Tables {
  std::array<char32_t, 256> spelling{};
  std::array<int16_t, kSpellings> byte{};
};

constexpr Tables make_tables() {
  Tables tables;
  for (auto& entry : tables.byte) entry = -1;
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t character = spells_itself(byte) ? static_cast<char32_t>(byte) : next++;
    tables.spelling[byte] = character;
    tables.byte[character] = static_cast<int16_t>(byte);
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

char32_t spelling_of_byte(uint8_t byte) { return kTables.spelling[byte]; }

std::string bytes_of_spelling(std::string_view spelling) {
  std::string bytes;
  bytes.reserve(spelling.size());
  for (size_t at = 0, length = 0; at < spelling.size(); at += length) {
    const char32_t character = decode_utf8(spelling.substr(at), length);
    if (character >= kSpellings || kTables.byte[character] < 0) return std::string(spelling);
    bytes.push_back(static_cast<char>(kTables.byte[character]));
  }
  return bytes;
}

}  // namespace fovea
