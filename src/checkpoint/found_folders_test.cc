// Goal: folders as people have them open with the right tensors and the right words: a head beside a tied
// flag, adapters beside weights or alone, notes of a quantization that is gone. Method: a tiny checkpoint
// whose tensors are renamed, changed and added one at a time.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/safetensors_writer.h"

namespace fovea {
namespace {

using testing::Era;
using testing::expect_error;
using testing::TemporaryFolder;
using testing::tiny_flat_config;
using testing::tiny_nested_config;
using testing::with_field;
using testing::write_bytes;
using testing::write_tiny_weights;

constexpr const char* kEmbedding = "model.language_model.embed_tokens.weight";

class FoundFolder : public ::testing::Test {
 protected:
  // A tied model, with the tensors that `change` leaves.
  void write(const std::function<void(std::vector<TensorToWrite>&)>& change = {}, int64_t vocab_size = 128) {
    std::string json = with_field(tiny_flat_config(), "/tie_word_embeddings", "true");
    json = with_field(json, "/vocab_size", std::to_string(vocab_size));
    write_bytes(folder_ / "config.json", json);
    write_bytes(folder_ / "preprocessor_config.json", "{}");
    write_tiny_weights(folder_ / "all", parse_config(json, "config.json"), Era::newer, DType::bf16);
    const SafetensorsFile all = SafetensorsFile::open(folder_ / "all");
    std::vector<TensorToWrite> tensors;
    for (const StoredTensor& t : all.tensors()) tensors.push_back({t.name, t.type, t.shape, t.data});
    if (change) change(tensors);
    write_safetensors(folder_ / "model.safetensors", tensors, {{"format", "pt"}});
  }
  static const TensorToWrite& embedding(const std::vector<TensorToWrite>& tensors) {
    return *std::find_if(tensors.begin(), tensors.end(), [](const auto& t) { return t.name == kEmbedding; });
  }
  void set_config(const std::string& pointer, const std::string& value) {
    write_bytes(folder_ / "config.json",
                with_field(testing::read_bytes(folder_ / "config.json"), pointer, value));
  }
  Checkpoint open() const { return Checkpoint::open(folder_.path()); }
  std::vector<std::string> warnings() const { return open().warnings(); }

  TemporaryFolder folder_;
};

void expect_one(const std::vector<std::string>& warnings, const std::vector<std::string>& words) {
  ASSERT_EQ(warnings.size(), 1u);
  for (const std::string& word : words) EXPECT_NE(warnings[0].find(word), std::string::npos) << warnings[0];
}

TEST_F(FoundFolder, AHeadEqualToTheEmbeddingIsTied) {
  std::vector<float> widened(128 * 64);
  write([&](auto& tensors) {
    const TensorToWrite& e = embedding(tensors);
    tensors.push_back({"lm_head.weight", e.type, e.shape, e.data});
  });
  EXPECT_FALSE(open().has("lm_head.weight"));
  EXPECT_TRUE(open().config().text.tie_word_embeddings);
  EXPECT_TRUE(warnings().empty());
  write([&](auto& tensors) {
    const TensorToWrite& e = embedding(tensors);
    for (size_t i = 0; i < widened.size(); ++i) {
      widened[i] = f32_from_bf16(static_cast<const uint16_t*>(e.data)[i]);
    }
    tensors.push_back({"lm_head.weight", StoredType::f32, e.shape, widened.data()});
  });
  EXPECT_FALSE(open().has("lm_head.weight"));
  EXPECT_TRUE(warnings().empty());
}

TEST_F(FoundFolder, AHeadOfOtherValuesIsUsedAndSaidSo) {
  for (const size_t changed : {size_t{0}, size_t{128 * 64 - 1}}) {
    for (const StoredType type : {StoredType::bf16, StoredType::f32}) {
      std::vector<uint16_t> head(128 * 64);
      std::vector<float> wide(head.size());
      write([&](auto& tensors) {
        const TensorToWrite& e = embedding(tensors);
        std::memcpy(head.data(), e.data, head.size() * 2);
        head[changed] ^= 1;
        for (size_t i = 0; i < head.size(); ++i) wide[i] = f32_from_bf16(head[i]);
        const void* data = type == StoredType::bf16 ? static_cast<const void*>(head.data()) : wide.data();
        tensors.push_back({"lm_head.weight", type, e.shape, data});
      });
      const Checkpoint checkpoint = open();
      EXPECT_FALSE(checkpoint.config().text.tie_word_embeddings);
      const auto size = static_cast<int64_t>(head.size());
      const MatrixView stored = checkpoint.matrix("lm_head.weight");
      EXPECT_EQ(stored.rows * stored.cols, size);
      const auto bytes = static_cast<size_t>(size) * bytes_of(type);
      const void* written = type == StoredType::bf16 ? static_cast<const void*>(head.data()) : wide.data();
      EXPECT_EQ(std::memcmp(stored.data, written, bytes), 0);
      expect_one(checkpoint.warnings(), {"tie_word_embeddings", "lm_head.weight", "stored head is used"});
    }
  }
}

// They are compared in pieces of 4 Mi elements.
TEST_F(FoundFolder, ALargeHeadIsComparedToItsEnd) {
  constexpr int64_t kVocab = 70'000;
  for (const int64_t changed : {int64_t{-1}, (int64_t{4} << 20) - 1, int64_t{4} << 20, kVocab * 64 - 1}) {
    std::vector<uint16_t> head(static_cast<size_t>(kVocab) * 64);
    write(
        [&](auto& tensors) {
          const TensorToWrite& e = embedding(tensors);
          std::memcpy(head.data(), e.data, head.size() * 2);
          if (changed >= 0) head[static_cast<size_t>(changed)] ^= 1;
          tensors.push_back({"lm_head.weight", e.type, e.shape, head.data()});
        },
        kVocab);
    EXPECT_EQ(open().has("lm_head.weight"), changed >= 0) << changed;
  }
}

TEST_F(FoundFolder, AHeadOfAnotherShapeIsRefused) {
  write([&](auto& tensors) {
    const TensorToWrite& e = embedding(tensors);
    tensors.push_back({"lm_head.weight", e.type, {120, 64}, e.data});
  });
  expect_error(ErrorKind::corrupt, {"lm_head.weight", "[120, 64]", "[128, 64]"}, [&] { open(); });
}

TEST_F(FoundFolder, ATiedModelMayBeStoredUnderItsHeadAlone) {
  write([&](auto& tensors) {
    for (TensorToWrite& t : tensors) {
      if (t.name == kEmbedding) t.name = "lm_head.weight";
    }
  });
  const Checkpoint checkpoint = open();
  EXPECT_EQ(checkpoint.tensor(kEmbedding).file_name, "lm_head.weight");
  EXPECT_FALSE(checkpoint.has("lm_head.weight"));
  EXPECT_TRUE(checkpoint.warnings().empty());
  set_config("/tie_word_embeddings", "false");
  expect_error(ErrorKind::not_found, {kEmbedding}, [&] { open(); });
}

TEST_F(FoundFolder, AnAdapterBesideWeightsIsNotApplied) {
  write();
  EXPECT_TRUE(warnings().empty());
  write_bytes(folder_ / "adapter_config.json",
              R"({"peft_type": "LORA", "base_model_name_or_path": "org/base"})");
  expect_one(warnings(), {"LoRA adapter", "\"org/base\"", "adapter_config.json", "not applied", "merge"});
  for (const char* config : {"{", "[]", R"({"peft_type": 3, "base_model_name_or_path": {}})"}) {
    write_bytes(folder_ / "adapter_config.json", config);
    expect_one(warnings(), {"an adapter (adapter_config.json)"});
  }
  write_bytes(folder_ / "adapter_config.json",
              R"({"peft_type": "IA3", "base_model_name_or_path": "\u001b[2Jx\u0000"})");
  expect_one(warnings(), {"of type \"IA3\"", "\\u001b[2Jx\\u0000"});
  std::filesystem::remove(folder_ / "adapter_config.json");
  write_bytes(folder_ / "adapter_model.safetensors", "anything");
  expect_one(warnings(), {"adapter_model.safetensors", "not applied"});
}

TEST_F(FoundFolder, AnAdapterAloneIsRefusedAsWhatItIs) {
  write();
  write_bytes(folder_ / "adapter_config.json",
              R"({"peft_type": "LORA", "base_model_name_or_path": "org/base"})");
  std::filesystem::remove(folder_ / "model.safetensors");
  expect_error(ErrorKind::unsupported, {"LoRA adapter", "\"org/base\"", "no weights"}, [&] { open(); });
  std::filesystem::remove(folder_ / "config.json");
  expect_error(ErrorKind::unsupported, {"LoRA adapter", "no config.json"}, [&] { open(); });
  write();
  std::filesystem::remove(folder_ / "config.json");
  expect_error(ErrorKind::unsupported, {"LoRA adapter", "no config.json"}, [&] { open(); });
}

TEST_F(FoundFolder, AStaleQuantizationNoteIsSaid) {
  for (const char* note :
       {R"({"quant_method": "bitsandbytes", "load_in_4bit": true})", R"({"quant_method": "fp8"})",
        R"({"quant_method": "gptq", "bits": 4})", R"({"load_in_8bit": true})"}) {
    write();
    set_config("/quantization_config", note);
    expect_one(warnings(), {"quantization_config", "every weight is plain"});
    EXPECT_FALSE(open().quantized());
  }
}

TEST_F(FoundFolder, WeightsThatAreQuantizedOtherwiseAreRefusedByName) {
  const std::vector<uint8_t> bytes(64 * 64);
  const auto with = [&](const std::string& name, StoredType type, const std::vector<int64_t>& shape) {
    write([&](auto& tensors) {
      std::erase_if(tensors, [&](const TensorToWrite& t) { return t.name == name; });
      tensors.push_back({name, type, shape, bytes.data()});
    });
    set_config("/quantization_config", R"({"quant_method": "bitsandbytes", "load_in_4bit": true})");
    expect_error(ErrorKind::unsupported, {"quantization_config", "bitsandbytes", name}, [&] { open(); });
  };
  with("model.language_model.layers.0.self_attn.q_proj.weight", StoredType::u8, {2048, 1});
  with("model.language_model.layers.0.self_attn.q_proj.weight.absmax", StoredType::f32, {64});
  with("model.language_model.layers.1.mlp.up_proj.SCB", StoredType::f32, {96});
}

// Settings of generate() in config.json count where no generation_config.json stands.
TEST_F(FoundFolder, GenerationMayBeStatedByTheModelsConfig) {
  write();
  set_config("/repetition_penalty", "1.25");
  EXPECT_EQ(open().generation().repetition_penalty, 1.25);
  write_bytes(folder_ / "generation_config.json", R"({"unknown_method": 2})");
  EXPECT_EQ(open().generation().repetition_penalty, 1.0);
  expect_one(warnings(), {"generation_config.json", "unknown_method (2)"});
}

}  // namespace
}  // namespace fovea
