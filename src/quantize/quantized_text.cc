#include "quantize/quantized_text.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format_version.h"
#include "checkpoint/strict_json.h"

namespace fovea {
namespace {

using nlohmann::json;

const char* hugging_face_name(DType type) {
  return type == DType::bf16 ? "bfloat16" : type == DType::f16 ? "float16" : "float32";
}

// Older files call it torch_dtype; a nested one must not contradict.
void set_dtype(json& object, DType type) {
  object[object.contains("dtype") ? "dtype" : "torch_dtype"] = hugging_face_name(type);
  if (object.contains("dtype") && object.contains("torch_dtype"))
    object["torch_dtype"] = hugging_face_name(type);
}

// The source may call tied what is not (checkpoint/tied_head.h); a quantized head could no longer be
// compared.
void set_tied(json& object, bool tied) {
  if (object.contains("tie_word_embeddings")) object["tie_word_embeddings"] = tied;
}

constexpr const char* kLayouts = R"(
`out` and `in` are the sizes of the matrix, rounded up to 16 and 64 with zeros.

| form | tensor | type | shape | meaning |
| --- | --- | --- | --- | --- |
| w8a8 | `*.weight_packed` | I8 | [out/16, in/4, 16, 4] | values from -127 to 127 |
| w8a8 | `*.weight_scale` | F32 | [out] | weight = scale x value; inputs are rounded to 8 bits per token as well |
| int4 | `*.weight_packed` | U8 | [out/16, in/64, 8, 16, 4] | two values + 8: low half of the byte for the first 32 inputs of a group, high half for the other 32 |
| int4 | `*.weight_scale` | BF16 | [out/16, in/64, 16] | weight = scale x (half - 8), one scale for 64 inputs |

In torch, with `p` and `s` read from the file:

```python
def w8a8(p, s):
    return p.permute(0, 2, 1, 3).reshape(p.shape[0] * 16, -1).float() * s[:, None]

def int4(p, s):
    q = torch.stack([p & 15, p >> 4], 2).int() - 8           # [out/16, in/64, 2, 8, 16, 4]
    q = q.permute(0, 4, 1, 2, 3, 5).reshape(p.shape[0] * 16, p.shape[1], 64)
    return (q.float() * s.permute(0, 2, 1).reshape(p.shape[0] * 16, -1, 1).float()).flatten(1)
```
)";

}  // namespace

std::string quantized_config(const std::string& source, const std::string& file_name,
                             const QuantizeOptions& options, const std::vector<QuantizedModule>& modules,
                             bool tied) {
  json config = parse_json_object(source, file_name);
  set_dtype(config, options.dtype);
  set_tied(config, tied);
  if (const auto text = config.find("text_config"); text != config.end() && text->is_object()) {
    set_dtype(*text, options.dtype);
    set_tied(*text, tied);
  }
  json lists = json::object();
  for (const QuantizedModule& module : modules) {
    lists[name_of(module.quantization)].push_back(module.name);
  }
  config["quantization_config"] = {{"quant_method", "fovea"},
                                   {"version", kQuantizedFolder.version},
                                   {"made_by", fmt::format("fovea {}", program_version())},
                                   {"precision", options.policy},
                                   {"weight_group_size", {{"int4", 64}}},
                                   {"modules", lists}};
  return config.dump(2) + "\n";
}

std::string quantization_readme(const QuantizeSummary& summary, const QuantizeOptions& options) {
  std::string text =
      "# How these weights were made\n\n`fovea quantize` wrote this folder from another checkpoint, ";
  text += fmt::format(
      "symmetrically and without calibration, by the precision policy\n\n```\n{}\n```\n\n"
      "config.json lists every quantized module under `quantization_config`.\n\n"
      "| stored as | tensors | parameters | bytes before | bytes now |\n| --- | --- | --- | --- | --- |\n",
      options.policy);
  for (const auto& [name, form] : summary.forms) {
    text += fmt::format("| {} | {} | {} | {} | {} |\n", name, form.tensors, form.parameters,
                        form.bytes_before, form.bytes);
  }
  text += fmt::format("| all | | | {} | {} |\n\n## Layout\n", summary.bytes_before, summary.bytes);
  return text + kLayouts;
}

}  // namespace fovea
