#include "serve/trace.h"

#include <fmt/format.h>

#include <cerrno>

#include "base/error.h"
#include "base/output_file.h"

namespace fovea {

StepTrace::StepTrace(const std::filesystem::path& path) : file_(path, std::ios::trunc) {
  if (!file_) fail_to_write("open", path, errno);
  file_ << "[\n" << R"({"name":"process_name","ph":"M","pid":1,"args":{"name":"fovea serve"}})";
}

StepTrace::~StepTrace() { file_ << "\n]\n"; }

double StepTrace::micros(Clock::time_point time) const {
  return std::chrono::duration<double, std::micro>(time - begin_).count();
}

void StepTrace::step(Clock::time_point start, const BatchMetrics& before, const BatchMetrics& after) {
  const auto in = [&](RequestState state) { return after.schedule.in(state); };
  const double at = micros(start), took = micros(Clock::now()) - at;
  file_ << fmt::format(
      ",\n{{\"name\":\"step\",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":{:.1f},\"dur\":{:.1f},\"args\":{{"
      "\"rows\":{},\"pictures\":{},\"preemptions\":{},\"found_blocks\":{}}}}}",
      at, took, after.rows - before.rows, after.pictures_encoded - before.pictures_encoded,
      after.schedule.preemptions - before.schedule.preemptions,
      after.schedule.blocks.hits - before.schedule.blocks.hits);
  file_ << fmt::format(
      ",\n{{\"name\":\"requests\",\"ph\":\"C\",\"pid\":1,\"ts\":{:.1f},\"args\":{{\"queued\":{},\"vision\":{}"
      ","
      "\"prefill\":{},\"decode\":{}}}}}",
      at + took, in(RequestState::queued) + in(RequestState::twin) + in(RequestState::preempted),
      in(RequestState::vision), in(RequestState::prefill), in(RequestState::decode));
  file_ << fmt::format(
      ",\n{{\"name\":\"blocks\",\"ph\":\"C\",\"pid\":1,\"ts\":{:.1f},\"args\":{{\"used\":{},"
      "\"cached\":{}}}}}",
      at + took, after.schedule.used_blocks, after.schedule.cached_blocks);
}

}  // namespace fovea
