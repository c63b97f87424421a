// The JSON of an audit as a page. Its makers are fovea's own, its texts are not, and `fovea report` reads any
// file.
#include "base/error.h"
#include "report/report.h"
#include "target.h"

FOVEA_FUZZ_TARGET(report) {
  const auto audit = nlohmann::json::parse(bytes, nullptr, false);
  if (audit.is_object()) fovea::html_report(audit);
  try {
    fovea::html_report_of_text(bytes);
  } catch (const fovea::Error&) {
  }
}
