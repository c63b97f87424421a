// Ends a streamed answer at the first stop string, without ever showing part of one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fovea {

class StopStrings {
 public:
  // Throws Error(invalid_argument) for an empty stop string.
  explicit StopStrings(std::vector<std::string> stops);

  // Takes new text; returns what can be shown now. Text that may be the beginning of a stop string is held
  // back.
  std::string push(std::string_view text);
  // What was held back, once no more text comes (empty after a stop).
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace fovea
