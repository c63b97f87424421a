// The model of commands that read no weights: the files of -m, or what --config says of one.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/model_flag.h"

namespace fovea {

// Adds --config beside -m, which then is not required.
void add_config_to(CLI::App& command, std::string& config);

class ModelOrConfig {
 public:
  // For a config makes a folder with hollow weights (checkpoint/hollow_checkpoint.h) among the temporary
  // files, which is gone with this object. Throws Error(invalid_argument) when neither is given; a config
  // goes before a model.
  ModelOrConfig(const ModelFlag& model, const std::string& config);
  ModelOrConfig(const ModelOrConfig&) = delete;
  ModelOrConfig& operator=(const ModelOrConfig&) = delete;
  ~ModelOrConfig();

  const ModelFiles& files() const { return files_; }
  bool hollow() const { return !config_.empty(); }
  // What the user calls it: the model or the config.
  std::string name() const { return hollow() ? config_ : files_.model.string(); }
  // Arguments of a command that is to be shown: the made folder is called DIR, as in the documents; of a
  // command that takes it, "-m DIR" is --config.
  std::vector<std::string> shown(std::vector<std::string> arguments, bool takes_config) const;

 private:
  ModelFiles files_;
  std::string config_;
};

}  // namespace fovea
