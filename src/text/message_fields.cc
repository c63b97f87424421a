#include "text/message_fields.h"

#include <algorithm>
#include <cmath>

#include "base/field_error.h"
#include "base/frame_rate.h"

namespace fovea {
namespace {

using nlohmann::json;

const char* remedy_for(const std::string& name) {
  if (name == "sample_fps" || name == "raw_fps")
    return "it says at which rate listed frames were taken; for a video file give fps, the rate to sample at";
  return "remove the field";
}

constexpr uint64_t kMostPixels = uint64_t{1} << 40, kLongestSide = 1 << 20, kMostFrames = 1 << 20;

}  // namespace

void refuse_message(const std::string& field, const std::string& words, const std::string& remedy) {
  throw FieldError(ErrorKind::invalid_argument, field, words, remedy);
}

void not_supported(const std::string& field, const std::string& words, const std::string& remedy) {
  throw FieldError(ErrorKind::unsupported, field, words, remedy);
}

MessageFields::MessageFields(const json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object()) refuse_message(where_, "is not an object", kPartForms);
}

const json* MessageFields::get(const char* name) {
  asked_.emplace_back(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<std::string> MessageFields::string(const char* name) {
  const json* value = get(name);
  if (!value) return std::nullopt;
  if (!value->is_string()) refuse_message(place_of(name), "is not a string", kPartForms);
  return value->get<std::string>();
}

std::optional<int64_t> MessageFields::pixels(const char* name) {
  return count(name, "pixels", "200704", kMostPixels);
}

std::optional<int64_t> MessageFields::tokens(const char* name) {
  return count(name, "tokens", "256", kMostPixels);
}

std::optional<int64_t> MessageFields::side(const char* name) {
  return count(name, "pixels", "280", kLongestSide);
}

std::optional<int64_t> MessageFields::frames(const char* name) {
  return count(name, "frames", "16", kMostFrames);
}

std::optional<int64_t> MessageFields::count(const char* name, const char* unit, const char* example,
                                            uint64_t most) {
  const json* value = get(name);
  if (!value) return std::nullopt;
  if (!value->is_number_unsigned() || value->get<uint64_t>() == 0 || value->get<uint64_t>() > most) {
    refuse_message(place_of(name), fmt::format("is not a positive number of {}", unit),
                   fmt::format("give a whole number such as {}", example));
  }
  return value->get<int64_t>();
}

std::optional<double> MessageFields::number(const char* name) const {
  const json& value = object_.at(name);
  if (value.is_number()) return value.get<double>();
  if (!value.is_string()) return std::nullopt;
  // Not strtod, which takes a comma or a point as the locale has it, and "nan".
  const json parsed = json::parse(value.get_ref<const std::string&>(), nullptr, false);
  return parsed.is_number() ? std::optional(parsed.get<double>()) : std::nullopt;
}

std::optional<double> MessageFields::rate(const char* name) {
  if (!get(name)) return std::nullopt;
  const std::optional<double> value = number(name);
  if (!value || !is_frame_rate(*value)) {
    refuse_message(place_of(name), fmt::format("is not a number from {} to {}", kFrameRateMin, kFrameRateMax),
                   "give frames per second, such as 2.0");
  }
  return value;
}

std::optional<double> MessageFields::seconds(const char* name) {
  const json* value = get(name);
  if (!value) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() < 0) {
    refuse_message(place_of(name), "is not a number of seconds", "give seconds from the start, such as 2.5");
  }
  return value->get<double>();
}

void MessageFields::refuse_the_rest() const {
  for (const auto& [name, value] : object_.items()) {
    if (value.is_null() || std::find(asked_.begin(), asked_.end(), name) != asked_.end()) continue;
    not_supported(where_ + '.' + name, "is not supported", remedy_for(name));
  }
}

}  // namespace fovea
