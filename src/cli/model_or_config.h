// The model of commands that read no weights: the folder of -m, or what --config says of one.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

namespace fovea {

// Adds --config beside -m, which then is not required.
void add_config_to(CLI::App& command, std::string& config);

class ModelOrConfig {
 public:
  // For a config makes a folder with hollow weights (checkpoint/hollow_checkpoint.h) among the temporary
  // files, which is gone with this object. Throws Error(invalid_argument) when neither is given; a config
  // goes before a model.
  ModelOrConfig(const std::string& model, const std::string& config);
  ModelOrConfig(const ModelOrConfig&) = delete;
  ModelOrConfig& operator=(const ModelOrConfig&) = delete;
  ~ModelOrConfig();

  const std::filesystem::path& folder() const { return folder_; }
  bool hollow() const { return !config_.empty(); }
  // What the user calls it: the folder or the config.
  std::string name() const { return hollow() ? config_ : folder_.string(); }
  // Arguments of a command that is to be shown: the made folder is called DIR, as in the documents; of a
  // command that takes it, "-m DIR" is --config.
  std::vector<std::string> shown(std::vector<std::string> arguments, bool takes_config) const;

 private:
  std::filesystem::path folder_;
  std::string config_;
};

}  // namespace fovea
