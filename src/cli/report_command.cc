// `fovea report`: the page of an audit that was written as JSON before, here or by `fovea.probe` in Python.
#include <memory>

#include "base/error.h"
#include "base/input_files.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/text_file.h"
#include "report/report.h"

namespace fovea {

namespace {

struct ReportFlags {
  std::string audit, out;
};

void run(const ReportFlags& flags) {
  InputFiles inputs;
  inputs.add(flags.audit);
  if (!flags.out.empty()) inputs.refuse_as_output(flags.out, "--out");
  check_writable(flags.out);
  const std::string page = html_report_of_text(read_text_file(flags.audit));
  if (flags.out.empty()) return write_output(page);
  write_file(flags.out, page);
}

}  // namespace

void add_report_command(CLI::App& app) {
  const auto flags = std::make_shared<ReportFlags>();
  CLI::App* command = app.add_subcommand("report", "make the HTML page of an audit from its JSON");
  command
      ->add_option("audit", flags->audit,
                   "what `fovea audit --json` or fovea.probe wrote; - reads standard input")
      ->required()
      ->type_name("FILE");
  command->add_option("--out", flags->out, "where to write it; standard output when not given")
      ->type_name("FILE");
  command->callback([flags] { run(*flags); });
}

}  // namespace fovea
