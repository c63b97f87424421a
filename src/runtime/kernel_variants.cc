#include "runtime/kernel_variants.h"

#include "kernels/kernels.h"

namespace fovea {

std::vector<std::string> available_kernel_variants() {
  std::vector<std::string> names;
  for (const Kernels* variant : available_kernels()) names.emplace_back(variant->name);
  return names;
}

std::string chosen_kernel_variant() { return kernels().name; }

}  // namespace fovea
