// The quantization_config of an otherwise valid config.json.
#include <string>

#include "checkpoint/config.h"
#include "target.h"

namespace {

constexpr const char* kBefore =
    R"({"architectures":["Qwen2_5_VLForConditionalGeneration"],"model_type":"qwen2_5_vl",
"hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,
"vocab_size":320,"rope_scaling":{"type":"mrope","mrope_section":[2,3,3]},"vision_config":{"depth":2,"hidden_size":32,
"intermediate_size":48,"num_heads":2,"out_hidden_size":64},"quantization_config":)";

}  // namespace

FOVEA_FUZZ_TARGET(quantization_config) {
  fovea::parse_config(kBefore + std::string(bytes) + "}", "config.json");
}
