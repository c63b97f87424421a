// The sections of the report. Each fills its element of report.html and returns false when the audit holds
// nothing for it; the element is then removed.
#pragma once

#include "report/fields.h"
#include "report/html.h"

namespace fovea::report {

bool fill_header(Node section, const Audit& audit);
bool fill_verdict(Node section, const Audit& audit);
bool fill_configurations(Node section, const Audit& audit);
bool fill_accuracy(Node section, const Audit& audit);
bool fill_tags(Node section, const Audit& audit);
bool fill_drift(Node section, const Audit& audit);
bool fill_nodes(Node section, const Audit& audit);
bool fill_cost(Node section, const Audit& audit);
bool fill_search(Node section, const Audit& audit);
bool fill_differences(Node section, const Audit& audit);
bool fill_problems(Node section, const Audit& audit);
bool fill_environment(Node section, const Audit& audit);
bool fill_footer(Node section, const Audit& audit);

}  // namespace fovea::report
