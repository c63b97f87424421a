#include "text/message_fields.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fovea {
namespace {

using nlohmann::json;

const char* remedy_for(const std::string& name) {
  if (name == "resized_height" || name == "resized_width") return "give min_pixels and max_pixels instead";
  if (name == "nframes" || name == "max_frames" || name == "min_frames") return "give fps instead";
  if (name == "total_pixels")
    return "give max_pixels, which holds for each frame, or --max-total-image-tokens";
  if (name == "video_start" || name == "video_end")
    return "cut the video, or give its frames as a list of images";
  return "remove the field";
}

}  // namespace

void refuse_message(const std::string& message, const std::string& remedy) {
  throw Error(ErrorKind::invalid_argument, message, remedy);
}

MessageFields::MessageFields(const json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object()) refuse_message(where_ + " is not an object", kPartForms);
}

const json* MessageFields::get(const char* name) {
  asked_.emplace_back(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<std::string> MessageFields::string(const char* name) {
  const json* value = get(name);
  if (!value) return std::nullopt;
  if (!value->is_string()) refuse_message(place_of(name) + " is not a string", kPartForms);
  return value->get<std::string>();
}

std::optional<int64_t> MessageFields::pixels(const char* name) { return count(name, "pixels", "200704"); }

std::optional<int64_t> MessageFields::tokens(const char* name) { return count(name, "tokens", "256"); }

std::optional<int64_t> MessageFields::count(const char* name, const char* unit, const char* example) {
  constexpr uint64_t kMost = uint64_t{1} << 40;
  const json* value = get(name);
  if (!value) return std::nullopt;
  if (!value->is_number_unsigned() || value->get<uint64_t>() == 0 || value->get<uint64_t>() > kMost) {
    refuse_message(fmt::format("{} is not a positive number of {}", place_of(name), unit),
                   fmt::format("give a whole number such as {}", example));
  }
  return value->get<int64_t>();
}

std::optional<double> MessageFields::rate(const char* name) {
  const json* value = get(name);
  if (!value) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() <= 0) {
    refuse_message(place_of(name) + " is not a positive number", "give frames per second, such as 2.0");
  }
  return value->get<double>();
}

void MessageFields::refuse_the_rest() const {
  for (const auto& [name, value] : object_.items()) {
    if (value.is_null() || std::find(asked_.begin(), asked_.end(), name) != asked_.end()) continue;
    throw Error(ErrorKind::unsupported, fmt::format("{}.{} is not supported", where_, name),
                remedy_for(name));
  }
}

}  // namespace fovea
