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

CLI::Option* add_model_to(CLI::App& command, ModelFlag& flag) {
  command
      .add_option("--mmproj", flag.mmproj,
                  "with a GGUF file behind -m: the one that holds its vision tower, as llama.cpp makes it")
      ->type_name("FILE.gguf")
      ->group(kCommonOptions);
  return command
      .add_option(
          "-m,--model", flag.model,
          "checkpoint folder in Hugging Face form, ORG/NAME[@REVISION] in the local Hugging Face cache, "
          "or a GGUF file (with --mmproj)")
      ->envname("FOVEA_MODEL")
      ->type_name("DIR|ORG/NAME|FILE.gguf")
      ->group(kCommonOptions);
}

ModelFiles model_files(const ModelFlag& flag) {
  return {find_model(flag.model, hub_cache()), std::filesystem::path(flag.mmproj)};
}

}  // namespace fovea
