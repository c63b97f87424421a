#include "cli/option_values.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/frame_rate.h"
#include "base/printable.h"
#include "cli/suggestion.h"

namespace fovea {

namespace {

// More than any request, machine or suite has, and far from where sums of a few would overflow.
constexpr uint64_t kMost = std::numeric_limits<int32_t>::max();

struct WholeBounds {
  const char* option;
  int64_t least;
  uint64_t most;
};
constexpr WholeBounds kWhole[] = {{"--max-new-tokens", 0, kMost},
                                  {"--context", 1, kMost},
                                  {"--prefill-chunk", 0, kMost},
                                  {"--prompt-lookup-num-tokens", 0, kMost},
                                  {"--min-pixels", 1, kMost},
                                  {"--max-pixels", 1, kMost},
                                  {"--max-image-tokens", 1, kMost},
                                  {"--max-total-image-tokens", 1, kMost},
                                  {"--image-budgets", 1, kMost},
                                  {"--top-k", 0, kMost},
                                  {"--attention-map-layer", 0, kMost},
                                  {"--attention-map-head", 0, kMost},
                                  {"--no-repeat-ngram-size", 0, kMost},
                                  {"--threads", 1, 1024},
                                  {"--ranks", 1, 65536},
                                  {"--tensor-parallel", 1, 65536},
                                  {"--limit", 0, kMost},
                                  {"--max-num-seqs", 1, 4096},
                                  {"--max-num-batched-tokens", 2, 1'000'000},
                                  {"--port", 0, 65535},
                                  {"--limit-images", 0, kMost},
                                  {"--max-queue", 0, 1'000'000},
                                  {"--max-connections", 1, 1'000'000},
                                  {"--attribution-items", 1, kMost},
                                  {"--repetitions", 1, 1000},
                                  {"--count", 1, 1'000'000},
                                  {"--seed", 0, std::numeric_limits<uint64_t>::max()}};

struct RealBounds {
  const char* option;
  double least;
  bool above;  // more than `least`, not equal to it
  double most;
};
constexpr RealBounds kReal[] = {
    {"--temperature", 0, false, 1e6},        {"--top-p", 0, true, 1},
    {"--repetition-penalty", 0, true, 1000}, {"--fps", kFrameRateMin, false, kFrameRateMax},
    {"--shutdown-timeout", 0, false, 1e6},   {"--target", 0, false, 1}};

template <typename Number>
bool read_number(std::string_view text, Number& value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stop == end;
}

CLI::Validator real_number(const RealBounds& bounds) {
  return CLI::Validator(
      [bounds](const std::string& text) {
        double value = 0;
        const bool fine = read_number(text, value) && std::isfinite(value) && value <= bounds.most &&
                          (bounds.above ? value > bounds.least : value >= bounds.least);
        if (fine) return std::string();
        return fmt::format("{} is not a number {} {} {} {}", in_quotes(text), bounds.above ? "above" : "from",
                           bounds.least, bounds.above ? "and up to" : "to", bounds.most);
      },
      "");
}

CLI::Validator named_path() {
  return CLI::Validator(
      [](const std::string& text) { return text.empty() ? "an empty text names no file" : std::string(); },
      "");
}

}  // namespace

std::string in_quotes(std::string_view text) {
  constexpr size_t kLongest = 60;
  if (text.size() <= kLongest) return fmt::format("'{}'", printable(text));
  size_t end = kLongest;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // not within a character
  return fmt::format("'{}...'", printable(text.substr(0, end)));
}

CLI::Validator whole_number(int64_t least, uint64_t most) {
  return CLI::Validator(
      [least, most](const std::string& text) {
        uint64_t value = 0;
        const bool fine = read_number(text, value) && value <= most && value >= static_cast<uint64_t>(least);
        return fine ? std::string()
                    : fmt::format("{} is not a whole number from {} to {}", in_quotes(text), least, most);
      },
      "");
}

void check_values(CLI::App& command) {
  for (const WholeBounds& bounds : kWhole) {
    if (CLI::Option* option = command.get_option_no_throw(bounds.option))
      option->check(whole_number(bounds.least, bounds.most));
  }
  for (const RealBounds& bounds : kReal) {
    if (CLI::Option* option = command.get_option_no_throw(bounds.option)) option->check(real_number(bounds));
  }
  for (CLI::Option* option : command.get_options([](CLI::Option*) { return true; })) {
    const std::string type = option->get_type_name();
    const bool path = type.find("FILE") != std::string::npos || type.find("DIR") != std::string::npos;
    if (path) option->check(named_path());
  }
}

CLI::Option* choose(CLI::Option* option, const std::vector<std::string>& values, const OtherNames& others) {
  option->type_name(fmt::format("{}", fmt::join(values, "|")));
  option->transform(CLI::Validator(
      [values, others](std::string& text) {
        for (const auto& [other, value] : others) {
          if (text == other) text = value;
        }
        if (std::find(values.begin(), values.end(), text) != values.end()) return std::string();
        return fmt::format("{} is none of {}{}", in_quotes(text), fmt::join(values, ", "),
                           did_you_mean(text, values));
      },
      ""));
  return option;
}

const OtherNames& other_dtype_names() {
  static const OtherNames names = {{"bfloat16", "bf16"}, {"float16", "fp16"}, {"half", "fp16"},
                                   {"f16", "fp16"},      {"float32", "fp32"}, {"float", "fp32"},
                                   {"f32", "fp32"}};
  return names;
}

}  // namespace fovea
