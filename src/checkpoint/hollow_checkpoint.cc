#include "checkpoint/hollow_checkpoint.h"

#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/output_file.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/embedded_files.h"
#include "checkpoint/safetensors_writer.h"
#include "checkpoint/synth_configs.h"
#include "checkpoint/tensor_names.h"

namespace fovea {

namespace {

namespace fs = std::filesystem;

void write_text(const fs::path& path, const std::string& text) {
  OutputFile file(path);
  file.append(text);
  file.finish();
}

void write_hollow_weights(const ModelConfig& config, const fs::path& path) {
  std::vector<TensorToWrite> tensors;
  int64_t bytes = 0;
  for (const ExpectedTensor& tensor : expected_tensors(config)) {
    tensors.push_back({older_tensor_name(tensor.name), stored_type(config.dtype), tensor.shape, nullptr});
    bytes += element_count(tensor.shape, tensor.name) * static_cast<int64_t>(bytes_of(config.dtype));
  }
  const std::string header = safetensors_header(tensors, {{"format", "pt"}});
  write_text(path, header);
  std::error_code failure;
  fs::resize_file(path, header.size() + static_cast<uintmax_t>(bytes), failure);
  if (failure) fail_to_write("make room in", path, failure.value());
}

}  // namespace

void write_hollow_checkpoint(const std::string& shape, const fs::path& out) {
  const std::string text = synthetic_config_json(shape);
  const ModelConfig config = parse_config(text, shape);
  if (config.quantization.method != QuantizationConfig::Method::none) {
    throw Error(ErrorKind::unsupported, fmt::format("{} describes quantized weights", shape),
                "give the config of the model before quantization, and --preset balanced or fast");
  }
  OutputFile tokenizer(out / "tokenizer.json");
  decompress_tokenizer([&](std::string_view piece) { tokenizer.append(piece); });
  tokenizer.finish();
  write_text(out / "tokenizer_config.json", synthetic_tokenizer_config_json(embedded_chat_template()));
  write_text(out / "chat_template.json", chat_template_json(embedded_chat_template()));
  write_text(out / "preprocessor_config.json", synthetic_preprocessor_json(config.vision));
  write_hollow_weights(config, out / "model.safetensors");
  write_text(out / "config.json", text);
}

}  // namespace fovea
