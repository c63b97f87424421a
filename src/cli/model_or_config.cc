#include "cli/model_or_config.h"

#include <stdlib.h>  // mkdtemp

#include <system_error>

#include "base/error.h"
#include "base/scratch_file.h"
#include "checkpoint/hollow_checkpoint.h"
#include "cli/help.h"

namespace fovea {

void add_config_to(CLI::App& command, std::string& config) {
  command.get_option("--model")->required(false);
  command
      .add_option("--config", config,
                  "in place of -m, without weights: a published size, a model's config.json, or its folder")
      ->type_name("3b|7b|32b|72b|FILE|DIR")
      ->group(kCommonOptions);
}

ModelOrConfig::ModelOrConfig(const ModelFlag& model, const std::string& config) : config_(config) {
  if (config.empty() && model.empty()) {
    throw Error(ErrorKind::invalid_argument, "neither -m nor --config says which model is meant",
                "give -m DIR, or --config 3b, 7b, 32b, 72b or a config.json");
  }
  if (config.empty()) {
    files_ = model_files(model);
    return;
  }
  std::string made = (temporary_folder() / "fovea-plan-XXXXXX").string();
  if (::mkdtemp(made.data()) == nullptr) {
    throw Error(ErrorKind::io, fmt::format("{}: the folder cannot be made", made),
                "set TMPDIR to a folder that can be written to");
  }
  files_ = made;
  try {
    write_hollow_checkpoint(config, files_.model);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove_all(files_.model, ignored);
    throw;
  }
}

ModelOrConfig::~ModelOrConfig() {
  if (!hollow()) return;
  std::error_code ignored;  // nothing can be done about a folder that stays
  std::filesystem::remove_all(files_.model, ignored);
}

std::vector<std::string> ModelOrConfig::shown(std::vector<std::string> arguments, bool takes_config) const {
  if (!hollow()) return arguments;
  const std::string made = files_.model.string();
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (!arguments[i].starts_with(made)) continue;
    const bool itself = arguments[i] == made && i > 0 && arguments[i - 1] == "-m";
    if (itself && takes_config) {
      arguments[i - 1] = "--config";
      arguments[i] = config_;
    } else {
      arguments[i].replace(0, made.size(), "DIR");
    }
  }
  return arguments;
}

}  // namespace fovea
