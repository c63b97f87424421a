#include "cli/progress_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include "cli/output.h"

namespace fovea {

using std::chrono::duration;
using std::chrono::steady_clock;

ProgressBar::ProgressBar() : terminal_(notes() != Notes::few && isatty(STDERR_FILENO) != 0) {}

ProgressFn ProgressBar::callback() {
  if (!terminal_) return {};
  return [this](std::string_view stage, int64_t done, int64_t total) { draw(stage, done, total); };
}

void ProgressBar::draw(std::string_view stage, int64_t done, int64_t total) {
  const auto now = steady_clock::now();
  if (stage != stage_) {
    stage_ = stage;
    stage_start_ = now;
  } else if (done < total && duration<double>(now - last_draw_).count() < 0.1) {
    return;
  }
  last_draw_ = now;
  if (done >= total) {
    clear();
    return;
  }
  constexpr int kWidth = 30;
  const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0;
  const double elapsed = duration<double>(now - stage_start_).count();
  const auto filled = static_cast<size_t>(share * kWidth);
  std::string left = share > 0.02 ? fmt::format("{:.0f} s left", elapsed / share - elapsed) : "";
  write_standard_error(fmt::format("\r\033[K{:<8} [{}{}] {:3.0f} %  {}", stage, std::string(filled, '#'),
                                   std::string(kWidth - filled, '.'), 100 * share, left));
  drawn_ = true;
}

void ProgressBar::clear() {
  if (!drawn_) return;
  write_standard_error("\r\033[K");
  drawn_ = false;
}

}  // namespace fovea
