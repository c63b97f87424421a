// A progress bar on stderr, only when stderr is a terminal.
#pragma once

#include <chrono>
#include <string>

#include "base/progress.h"

namespace fovea {

class ProgressBar {
 public:
  ProgressBar();
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // A function that draws into this bar; empty when stderr is no terminal.
  ProgressFn callback();
  void clear();

 private:
  void draw(std::string_view stage, int64_t done, int64_t total);

  bool terminal_;
  bool drawn_ = false;
  std::string stage_;
  std::chrono::steady_clock::time_point stage_start_, last_draw_;
};

}  // namespace fovea
