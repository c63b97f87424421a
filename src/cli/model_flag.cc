#include "cli/model_flag.h"

#include <cstdlib>

#include "checkpoint/model_folder.h"
#include "cli/help.h"

namespace fovea {

namespace {

// Empty where the variable is not set; "~/x" lies in the home folder, as in huggingface_hub.
std::filesystem::path folder_in(const char* variable) {
  const char *value = std::getenv(variable), *home = std::getenv("HOME");
  if (value == nullptr || *value == '\0') return {};
  const std::string text = value;
  if (home != nullptr && (text == "~" || text.starts_with("~/"))) return home + text.substr(1);
  return text;
}

std::filesystem::path hub_cache() {
  for (const char* variable : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const auto cache = folder_in(variable); !cache.empty()) return cache;
  }
  if (const auto home = folder_in("HF_HOME"); !home.empty()) return home / "hub";
  auto cache = folder_in("XDG_CACHE_HOME");
  if (cache.empty()) cache = folder_in("HOME") / ".cache";
  return cache / "huggingface" / "hub";
}

}  // namespace

CLI::Option* add_model_to(CLI::App& command, std::string& model) {
  return command
      .add_option(
          "-m,--model", model,
          "checkpoint folder in Hugging Face form, or ORG/NAME[@REVISION] in the local Hugging Face cache")
      ->envname("FOVEA_MODEL")
      ->type_name("DIR|ORG/NAME")
      ->group(kCommonOptions);
}

std::filesystem::path model_folder(const std::string& model) { return find_model(model, hub_cache()); }

}  // namespace fovea
