// A LoRA adapter's two files, behind one another: four bytes say how long adapter_config.json is. The model
// is the tiny one that the golden adapters are for. Every byte that a part claims is there.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "checkpoint/config.h"
#include "checkpoint/lora_adapter.h"
#include "scratch.h"
#include "target.h"

namespace {

fovea::ModelConfig tiny_model() {
  const std::filesystem::path file =
      std::filesystem::path(FOVEA_SOURCE_DIR) / "tests" / "golden" / "one_image" / "config.json";
  std::ifstream in(file, std::ios::binary);
  return fovea::parse_config(std::string(std::istreambuf_iterator<char>(in), {}), file.string());
}

unsigned sum_of(const fovea::MatrixView& view) {
  unsigned sum = 0;
  const auto* data = static_cast<const unsigned char*>(view.data);
  const auto size = static_cast<int64_t>(view.rows * view.cols * static_cast<int64_t>(bytes_of(view.dtype)));
  for (int64_t i = 0; data != nullptr && i < size; ++i) sum += data[i];
  return sum;
}

}  // namespace

FOVEA_FUZZ_TARGET(lora_adapter) {
  static const fovea::fuzz::Scratch scratch;
  static const fovea::ModelConfig model = tiny_model();
  uint32_t length = 0;
  if (bytes.size() < sizeof length) return;
  std::memcpy(&length, bytes.data(), sizeof length);
  bytes.remove_prefix(sizeof length);
  const size_t cut = std::min<size_t>(length, bytes.size());
  const auto config = scratch.write("adapter_config.json", bytes.substr(0, cut));
  scratch.write("adapter_model.safetensors", bytes.substr(cut));
  const auto adapter = fovea::LoraAdapter::open(config.parent_path(), model);
  unsigned sum = 0;
  for (const fovea::LoraChange& change : adapter.changes())
    sum += sum_of(change.down) + sum_of(change.up) + sum_of(change.magnitude);
  for (const fovea::LoraReplacement& replacement : adapter.replacements()) sum += sum_of(replacement.values);
  volatile unsigned kept = sum;  // or the loads would be left out
  (void)kept;
}
