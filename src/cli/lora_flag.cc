#include "cli/lora_flag.h"

#include <charconv>
#include <cmath>
#include <filesystem>
#include <optional>

#include "base/error.h"
#include "checkpoint/mapped_file.h"

namespace fovea {
namespace {

constexpr double kMaxScale = 1000;

std::optional<double> number_in(const std::string& text) {
  double value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

LoraFlag parse_lora_flag(const std::string& text) {
  LoraFlag flag;
  flag.dir = text;
  if (const size_t equals = text.find('='); equals != std::string::npos && !path_exists(text)) {
    flag.name = text.substr(0, equals);
    flag.dir = text.substr(equals + 1);
  }
  // A folder may have a colon in its name; a scale is a number.
  if (const size_t colon = flag.dir.rfind(':'); colon != std::string::npos && !path_exists(flag.dir)) {
    const std::optional<double> scale = number_in(flag.dir.substr(colon + 1));
    if (!scale || !std::isfinite(*scale) || std::abs(*scale) > kMaxScale) {
      throw Error(ErrorKind::invalid_argument,
                  fmt::format("--lora {}: \"{}\" is no scale", text, flag.dir.substr(colon + 1)),
                  fmt::format("give --lora DIR:0.5, with a number between -{} and {}", kMaxScale, kMaxScale));
    }
    flag.scale = *scale;
    flag.dir.resize(colon);
  }
  if (flag.dir.empty()) {
    throw Error(ErrorKind::invalid_argument, fmt::format("--lora {} names no folder", text),
                "give --lora [NAME=]DIR[:SCALE]");
  }
  if (flag.name.empty()) {
    std::filesystem::path folder(flag.dir);
    if (!folder.has_filename()) folder = folder.parent_path();
    flag.name = folder.filename().string();
  }
  return flag;
}

}  // namespace fovea
