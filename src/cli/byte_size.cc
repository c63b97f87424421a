#include "cli/byte_size.h"

#include <cmath>
#include <regex>

#include "base/error.h"
#include "cli/option_values.h"

namespace fovea {

int64_t parse_bytes(const std::string& text, const std::string& flag) {
  static const std::regex form(R"((\d{1,18}(?:\.\d{1,6})?)\s*([KMGT]?)(i?)B?)", std::regex::icase);
  constexpr size_t kLongest = 40;  // std::regex goes one call deeper for every character
  std::smatch match;
  const bool understood = text.size() <= kLongest && std::regex_match(text, match, form);
  if (understood && (match[2].length() > 0 || match[3].length() == 0)) {
    const std::string units = "KMGT";
    const auto power =
        match[2].length() == 0 ? 0 : units.find(static_cast<char>(std::toupper(match[2].str()[0]))) + 1;
    const double bytes =
        std::stod(match[1]) * std::pow(match[3].length() > 0 ? 1024.0 : 1000.0, static_cast<double>(power));
    if (bytes >= 1 && bytes < 1e18) return static_cast<int64_t>(bytes);
  }
  throw Error(ErrorKind::invalid_argument, fmt::format("{} {} is no amount of memory", flag, in_quotes(text)),
              "write for example 8G, 512M or 1.5GiB");
}

}  // namespace fovea
