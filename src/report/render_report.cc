// render_report AUDIT.json > report.html: the page of a stored audit, for tools/check_report.sh and work on
// the design.
#include <fstream>
#include <iostream>

#include "report/report.h"

int main(int count, char** arguments) {
  std::ifstream file(count == 2 ? arguments[1] : "");
  const nlohmann::json audit = nlohmann::json::parse(file, nullptr, false);
  if (audit.is_discarded()) {
    std::cerr << "render_report: needs one argument, the JSON of an audit\n";
    return 2;
  }
  std::cout << fovea::html_report(audit);
  return std::cout.good() ? 0 : 1;
}
