#include "report/number_format.h"

#include <fmt/format.h>

#include <cmath>

namespace fovea::report {
namespace {

constexpr const char* kNarrowSpace = "\u202F";
constexpr const char* kNone = "\u2013";

}  // namespace

std::string percent(double share) {
  if (!std::isfinite(share)) return kNone;
  return fmt::format("{:.1f}{}%", share * 100 + 0.0, kNarrowSpace);
}

std::string points(double difference) {
  if (!std::isfinite(difference)) return kNone;
  const double rounded = std::round(difference * 1000) / 10;
  const char* sign = rounded < 0 ? "\u2212" : rounded > 0 ? "+" : "\u00B1";
  return fmt::format("{}{:.1f}{}pp", sign, std::abs(rounded), kNarrowSpace);
}

std::string small_number(double value) {
  if (!std::isfinite(value)) return kNone;
  if (value == 0) return "0";
  const double size = std::abs(value);
  std::string text = size < 1e-3 || size >= 1e6 ? fmt::format("{:.1e}", value) : fmt::format("{:.3g}", value);
  if (text[0] == '-') text.replace(0, 1, "\u2212");
  // 1.0e-05 reads as 1.0e-5.
  if (const size_t e = text.find('e'); e != std::string::npos) {
    const int exponent = std::stoi(text.substr(e + 1));
    text = fmt::format("{}e{}{}", text.substr(0, e), exponent < 0 ? "\u2212" : "", std::abs(exponent));
  }
  return text;
}

std::string count_of(double value) {
  if (!std::isfinite(value)) return kNone;
  std::string digits = fmt::format("{:.0f}", std::abs(value));
  for (size_t i = digits.size(); i > 3 && digits.size() > 4; i -= 3) digits.insert(i - 3, kNarrowSpace);
  return (value < 0 ? "\u2212" : "") + digits;
}

std::string size_of(double bytes) {
  if (!std::isfinite(bytes)) return kNone;
  // One unit whatever the size, that of the tables in the terminal: figures can be compared at a glance.
  const std::string tenths = fmt::format("{:.1f}", std::abs(bytes) / 1e6);
  const size_t point = tenths.size() - 2;
  std::string whole = tenths.substr(0, point);
  for (size_t i = whole.size(); i > 3 && whole.size() > 4; i -= 3) whole.insert(i - 3, kNarrowSpace);
  return fmt::format("{}{}{}{}MB", bytes < 0 ? "\u2212" : "", whole, tenths.substr(point), kNarrowSpace);
}

std::string duration_of(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return kNone;
  if (seconds < 0.9995) return fmt::format("{:.0f}{}ms", seconds * 1000, kNarrowSpace);
  if (seconds < 59.95) return fmt::format("{:.1f}{}s", seconds, kNarrowSpace);
  const double whole = std::round(seconds);
  if (whole < 3600) {
    return fmt::format("{:.0f}{}min {:02.0f}{}s", std::floor(whole / 60), kNarrowSpace, std::fmod(whole, 60),
                       kNarrowSpace);
  }
  const double minutes = std::round(seconds / 60);
  return fmt::format("{:.0f}{}h {:02.0f}{}min", std::floor(minutes / 60), kNarrowSpace,
                     std::fmod(minutes, 60), kNarrowSpace);
}

}  // namespace fovea::report
