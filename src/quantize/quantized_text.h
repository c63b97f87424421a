// What a quantized folder says about itself.
#pragma once

#include <string>
#include <vector>

#include "quantize/quantize.h"

namespace fovea {

struct QuantizedModule {
  std::string name;  // "model.layers.0.mlp.down_proj"
  Quantization quantization;
};

// config.json of the source with the new dtype, a quantization_config, and whether the head is tied.
std::string quantized_config(const std::string& source, const std::string& file_name,
                             const QuantizeOptions& options, const std::vector<QuantizedModule>& modules,
                             bool tied);
// QUANTIZATION.md
std::string quantization_readme(const QuantizeSummary& summary, const QuantizeOptions& options);

}  // namespace fovea
