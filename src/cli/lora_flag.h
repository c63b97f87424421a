// --lora: adapters by their folders.
#pragma once

#include <string>
#include <vector>

namespace fovea {

struct LoraFlag {
  std::string name;  // by which a request chooses it; the folder's own where none was given
  std::string dir;
  double scale = 1;
};

// "[NAME=]DIR[:SCALE]". Throws Error(invalid_argument).
LoraFlag parse_lora_flag(const std::string& text);

}  // namespace fovea
