#include "runtime/stop_strings.h"

#include <algorithm>

#include "base/error.h"

namespace fovea {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) {
    if (stop.empty())
      throw Error(ErrorKind::invalid_argument, "a stop string is empty", "leave --stop out instead");
  }
}

std::string StopStrings::push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  size_t end = std::string::npos, hold = 0;
  for (const std::string& stop : stops_) {
    end = std::min(end, held_.find(stop));
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > hold; --length) {
      if (held_.ends_with(std::string_view(stop).substr(0, length))) hold = length;
    }
  }
  stopped_ = end != std::string::npos;
  const size_t shown = stopped_ ? end : held_.size() - hold;
  std::string result = held_.substr(0, shown);
  held_.erase(0, shown);
  if (stopped_) held_.clear();
  return result;
}

std::string StopStrings::finish() {
  std::string rest;
  rest.swap(held_);
  return rest;
}

}  // namespace fovea
