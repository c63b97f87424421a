// model.safetensors.index.json beside two small shards.
#include <cstdint>
#include <string>

#include "checkpoint/weight_files.h"
#include "scratch.h"
#include "target.h"

namespace {

std::string shard(const std::string& tensor) {
  const std::string header = "{\"" + tensor + R"(":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(header.size());
  return bytes + header + "ab";
}

}  // namespace

FOVEA_FUZZ_TARGET(weight_index) {
  static const fovea::fuzz::Scratch scratch;
  static const bool written = [] {
    scratch.write("a.safetensors", shard("x"));
    scratch.write("b.safetensors", shard("y"));
    return true;
  }();
  (void)written;
  scratch.write("model.safetensors.index.json", bytes);
  fovea::open_weight_files(scratch.path());
}
