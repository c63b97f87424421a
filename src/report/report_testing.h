// What the report's tests have in common: the sample audit, and looking into a page.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <pugixml.hpp>
#include <string>
#include <string_view>

#include "report/report.h"

namespace fovea {

using nlohmann::json;

inline json sample() {
  std::ifstream file(FOVEA_SOURCE_DIR "/tests/data/audit/sample.json");
  return json::parse(file);
}

inline bool has(const std::string& html, std::string_view text) {
  return html.find(text) != std::string::npos;
}

inline size_t count(const std::string& html, std::string_view text) {
  size_t found = 0;
  for (size_t at = html.find(text); at != std::string::npos; at = html.find(text, at + 1)) ++found;
  return found;
}

inline pugi::xml_document parsed(const std::string& html) {
  pugi::xml_document document;
  const pugi::xml_parse_result result = document.load_string(html.c_str());
  EXPECT_TRUE(result) << result.description() << " at " << html.substr(size_t(result.offset), 80);
  return document;
}

// A section as its own text, empty when it is absent.
inline std::string section(const std::string& html, const std::string& id) {
  const size_t begin = html.find("<section id=\"" + id + "\"");
  return begin == std::string::npos ? "" : html.substr(begin, html.find("</section>", begin) - begin);
}

inline std::string base64(const std::string& bytes) {
  constexpr const char* kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    unsigned three = 0;
    for (size_t j = i; j < i + 3; ++j)
      three = three << 8 | (j < bytes.size() ? static_cast<unsigned char>(bytes[j]) : 0u);
    for (int shift = 18; shift >= 0; shift -= 6) text += kLetters[three >> shift & 63];
  }
  for (size_t i = bytes.size() % 3; i != 0 && i < 3; ++i) text[text.size() - 3 + i] = '=';
  return text;
}

}  // namespace fovea
