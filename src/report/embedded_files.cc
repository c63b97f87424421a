#include "report/embedded_files.h"

// Defined in embedded_files.S.in.
extern "C" {
extern const char fovea_report_page[];
extern const char fovea_report_page_end[];
extern const char fovea_report_style[];
extern const char fovea_report_style_end[];
extern const char fovea_report_script[];
extern const char fovea_report_script_end[];
}

namespace fovea::report {
namespace {

std::string_view between(const char* begin, const char* end) {
  return {begin, static_cast<size_t>(end - begin)};
}

}  // namespace

std::string_view embedded_page() { return between(fovea_report_page, fovea_report_page_end); }
std::string_view embedded_style() { return between(fovea_report_style, fovea_report_style_end); }
std::string_view embedded_script() { return between(fovea_report_script, fovea_report_script_end); }

}  // namespace fovea::report
