#include "quantize/folder_copies.h"

#include "checkpoint/strict_json.h"

namespace fovea {

namespace fs = std::filesystem;

void copy_others(const Checkpoint& checkpoint, const OutputFolder& to) {
  for (const auto& [name, text] : checkpoint.folder_texts()) {
    if (name != "config.json") to.write_text(name, text);
  }
  if (checkpoint.is_gguf()) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoint.dir())) {
    const std::string name = entry.path().filename().string(), ending = entry.path().extension().string();
    const bool text = ending == ".json" || ending == ".txt" || ending == ".jinja" || ending == ".md" ||
                      ending == ".model" || ending.empty();
    if (!entry.is_regular_file() || !text || name.starts_with('.')) continue;
    if (name == "config.json" || name == "QUANTIZATION.md" || name.ends_with(".index.json")) continue;
    to.copy(entry.path());
  }
}

ConfigText config_text(const Checkpoint& checkpoint) {
  const fs::path file = checkpoint.dir() / "config.json";
  return {checkpoint.is_gguf() ? checkpoint.folder_texts().at("config.json") : read_json_text(file),
          file.string()};
}

}  // namespace fovea
