#include "checkpoint/checkpoint_testing.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "checkpoint/safetensors_writer.h"
#include "checkpoint/tensor_names.h"

namespace fovea::testing {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (fs::temp_directory_path() / "fovea_checkpoint_test_XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) std::abort();
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::vector<std::string> TemporaryFolder::names() const {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path_)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void write_bytes(const fs::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string read_bytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string safetensors_bytes(const std::string& header, size_t data_bytes) {
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(header.size() >> (8 * i));
  return bytes + header + std::string(data_bytes, '\1');
}

namespace {

Json tiny_text() {
  return Json::parse(R"({"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-05, "hidden_act": "silu", "attention_dropout": 0.0, "initializer_range": 0.02,
    "use_cache": true, "use_sliding_window": false, "sliding_window": null, "max_window_layers": 80})");
}

Json tiny_vision() {
  return Json::parse(R"({"depth": 2, "fullatt_block_indexes": [1], "hidden_act": "silu", "hidden_size": 32,
    "in_channels": 3, "initializer_range": 0.02, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64,
    "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "tokens_per_second": 4,
    "window_size": 112})");
}

Json tiny_root() {
  return Json::parse(R"({"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
    "image_token_id": 100, "video_token_id": 101, "vision_start_token_id": 102, "vision_end_token_id": 103})");
}

}  // namespace

std::string tiny_flat_config() {
  Json root = tiny_root();
  root.update(tiny_text());
  root["vision_config"] = tiny_vision();
  root["vision_config"].erase("in_channels");
  root["vision_config"]["in_chans"] = 3;
  root["vision_config"]["spatial_patch_size"] = 14;
  root["rope_theta"] = 1000000.0;
  root["rope_scaling"] = Json::parse(R"({"type": "mrope", "mrope_section": [2, 3, 3]})");
  root["tie_word_embeddings"] = true;
  root["torch_dtype"] = "bfloat16";
  root["eos_token_id"] = 105;
  return root.dump(2);
}

std::string tiny_nested_config() {
  Json root = tiny_root();
  root["dtype"] = "float32";
  root["text_config"] = tiny_text();
  root["text_config"].update(Json::parse(R"({"architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "layer_types": ["full_attention", "full_attention"], "model_type": "qwen2_5_vl_text", "rope_theta": 1000000.0,
    "rope_scaling": {"mrope_section": [2, 3, 3], "rope_type": "default", "type": "default"}})"));
  root["vision_config"] = tiny_vision();
  root["vision_config"]["model_type"] = "qwen2_5_vl";
  root["transformers_version"] = "4.57.6";
  return root.dump(2);
}

std::string tiny_newest_config() {
  Json root = tiny_root();
  root["dtype"] = "float32";
  root["tie_word_embeddings"] = false;
  root["text_config"] = tiny_text();
  root["text_config"].update(Json::parse(R"({"bos_token_id": 104, "eos_token_id": 105, "pad_token_id": null,
    "layer_types": ["full_attention", "full_attention"], "model_type": "qwen2_5_vl_text",
    "rope_parameters": {"mrope_section": [2, 3, 3], "rope_theta": 1000000.0, "rope_type": "default"}})"));
  root["vision_config"] = tiny_vision();
  root["vision_config"]["model_type"] = "qwen2_5_vl_vision";
  root["vision_config"]["rope_parameters"] = Json::parse(R"({"rope_theta": 10000.0, "rope_type": "axial"})");
  root["transformers_version"] = "5.23.0";
  return root.dump(2);
}

std::string with_field(const std::string& json, const std::string& pointer, const std::string& value) {
  Json root = Json::parse(json);
  const Json::json_pointer where(pointer);
  if (!value.empty()) {
    root[where] = Json::parse(value);
  } else {
    root[where.parent_pointer()].erase(where.back());
  }
  return root.dump(2);
}

void write_tiny_weights(const fs::path& file, const ModelConfig& config, Era era, DType dtype,
                        const std::function<bool(const std::string&)>& keep) {
  std::vector<TensorToWrite> tensors;
  std::vector<std::vector<char>> storage;
  for (const ExpectedTensor& tensor : expected_tensors(config)) {
    if (!keep(tensor.name)) continue;
    const int64_t count = element_count(tensor.shape, tensor.name);
    std::vector<char>& bytes = storage.emplace_back(static_cast<size_t>(count) * bytes_of(dtype));
    for (int64_t i = 0; i < count; ++i) {
      const auto value = static_cast<float>(i % 7);
      char* const out = bytes.data() + static_cast<size_t>(i) * bytes_of(dtype);
      if (dtype == DType::f32) {
        std::memcpy(out, &value, sizeof value);
      } else {
        const uint16_t half = dtype == DType::bf16 ? bf16_from_f32(value) : f16_from_f32(value);
        std::memcpy(out, &half, sizeof half);
      }
    }
    tensors.push_back({era == Era::older ? older_tensor_name(tensor.name) : tensor.name, stored_type(dtype),
                       tensor.shape, bytes.data()});
  }
  write_safetensors(file, tensors, {{"format", "pt"}});
}

void write_tiny_weights(const fs::path& file, const ModelConfig& config, Era era, DType dtype) {
  write_tiny_weights(file, config, era, dtype, [](const std::string&) { return true; });
}

void expect_error(ErrorKind kind, const std::vector<std::string>& words,
                  const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.kind()), std::string(name_of(kind))) << error.what();
    EXPECT_FALSE(error.remedy().empty()) << error.what();
    for (const std::string& word : words) {
      EXPECT_NE(error.message().find(word), std::string::npos)
          << "no \"" << word << "\" in: " << error.what();
    }
    return;
  }
  ADD_FAILURE() << "no error was thrown; expected " << name_of(kind);
}

}  // namespace fovea::testing
