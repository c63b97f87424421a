#include "report/report.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/format_version.h"
#include "report/embedded_files.h"
#include "report/sections.h"

namespace fovea {
namespace {

using namespace report;

struct Section {
  const char* id;
  bool (*fill)(Node section, const Audit& audit);
};

constexpr Section kSections[] = {
    {"header", fill_header},
    {"verdict", fill_verdict},
    {"configurations", fill_configurations},
    {"differences", fill_differences},
    {"accuracy", fill_accuracy},
    {"tags", fill_tags},
    {"drift", fill_drift},
    {"nodes", fill_nodes},
    {"cost", fill_cost},
    {"search", fill_search},
    {"problems", fill_problems},
    {"environment", fill_environment},
    {"footer", fill_footer},
};

[[noreturn]] void refuse(std::string what) {
  throw Error(ErrorKind::corrupt, "this is no audit: " + what,
              "give what `fovea audit --json` or `fovea.probe` wrote");
}

}  // namespace

std::string html_report_of_text(std::string_view text) {
  constexpr int kMaxDepth = 64;  // an audit has seven
  const auto depth_check = [](int depth, Json::parse_event_t, const Json&) {
    if (depth > kMaxDepth) refuse("it is nested too deeply");
    return true;
  };
  Json audit;
  try {
    audit = Json::parse(text, depth_check);
  } catch (const Json::exception& error) {
    refuse(fmt::format("it is not valid JSON: {}", error.what()));
  }
  if (!audit.is_object() || report::text(audit, "format") != "fovea-audit") {
    refuse("it has no \"format\": \"fovea-audit\"");
  }
  return html_report(audit);
}

std::string html_report(const nlohmann::json& audit) {
  // Invalid UTF-8 (strings set by a program, not parsed) becomes U+FFFD.
  const Json clean = Json::parse(audit.dump(-1, ' ', false, Json::error_handler_t::replace));
  const Json& version = member(clean, "version");
  if (version.is_number_integer())
    check_version(kAuditJson, version.get<int64_t>(), "what is to be reported");
  const Audit read = read_audit(clean);
  pugi::xml_document document;
  const std::string_view page = embedded_page();
  FOVEA_CHECK(document.load_buffer(page.data(), page.size(), pugi::parse_default | pugi::parse_doctype));
  const std::string model = text(member(clean, "model"), "dir");
  if (!model.empty()) add_text(document.child("html").child("head").child("title"), ": " + model);
  for (const Section& section : kSections) {
    const Node element = by_id(document, section.id);
    if (!section.fill(element, read)) remove(element);
  }
  // Nothing but the page's own style and script, which are known by their digests, and small pictures in it.
  set(by_id(document, "policy"), "content",
      "default-src 'none'; style-src 'sha256-" FOVEA_REPORT_STYLE_DIGEST
      "'; script-src 'sha256-" FOVEA_REPORT_SCRIPT_DIGEST
      "'; img-src data:; base-uri 'none'; form-action 'none'");
  std::string html = serialise(document);
  // Style and script are the only text that is not escaped. Data cannot contain "<", so these are the page's
  // own tags.
  html.insert(html.find("</style>"), embedded_style());
  html.insert(html.rfind("</script>"), embedded_script());
  return html;
}

}  // namespace fovea
