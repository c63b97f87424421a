// Whole models in GGUF made for tests: the keys of tests/gguf/mixed, and random weights of one type.
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_testing.h"
#include "checkpoint/safetensors.h"
#include "kernels/random_testing.h"

namespace fovea::testing {

inline std::filesystem::path gguf_goldens() {
  return std::filesystem::path(FOVEA_SOURCE_DIR) / "tests" / "gguf";
}

// What matrices are stored in: blocks, or a plain type by ggml's number. Those whose rows the blocks do not
// divide are in F16.
struct OneType {
  const char* name;
  std::optional<BlockFormat> blocks;
  uint32_t number;
};

// Blocks whose weights are of the size that weights have.
inline std::string random_blocks(BlockFormat format, int64_t count, Random& random) {
  std::string bytes(static_cast<size_t>(count / elements_of(format) * bytes_of(format)), '\0');
  for (size_t at = 0; at < bytes.size(); at += 8) {
    const uint64_t bits = random.bits();
    std::memcpy(bytes.data() + at, &bits, std::min<size_t>(8, bytes.size() - at));
  }
  const bool pairs = format == BlockFormat::q4_1 || format == BlockFormat::q5_1,
             six_bits = format == BlockFormat::q4_k || format == BlockFormat::q5_k,
             large = elements_of(format) == 256;
  const float size = large ? 2e-5f : format == BlockFormat::q8_0 ? 1e-3f : 1e-2f;
  for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(bytes_of(format))) {
    const uint16_t scale = f16_from_f32(size * (1.5f + random.value())),
                   second = f16_from_f32(pairs ? -0.1f : 2e-4f);
    std::memcpy(bytes.data() + at + (format == BlockFormat::q6_k ? 208 : 0), &scale, sizeof scale);
    if (pairs || six_bits) std::memcpy(bytes.data() + at + 2, &second, sizeof second);
  }
  return bytes;
}

inline std::string random_plain(uint32_t number, int64_t count, Random& random) {
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) {
    const float value = 0.1f * random.value();
    const uint16_t half = number == kGgmlF16 ? f16_from_f32(value) : bf16_from_f32(value);
    if (number == kGgmlF32) bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    if (number != kGgmlF32) bytes.append(reinterpret_cast<const char*>(&half), sizeof half);
  }
  return bytes;
}

// Every key of a file, whole numbers in `instead` replaced.
inline void copy_keys(const GgufFile& source, const std::map<std::string, uint32_t>& instead,
                      GgufBuilder& builder) {
  const auto holds = [](const std::string& key, std::initializer_list<const char*> words) {
    return std::any_of(words.begin(), words.end(),
                       [&](const char* word) { return key.find(word) != std::string::npos; });
  };
  for (const std::string& key : source.keys()) {
    std::vector<std::string> texts;
    if (const auto number = instead.find(key); number != instead.end()) {
      builder.u32(key, number->second);
    } else if (key.ends_with("tokens") || key.ends_with("merges")) {
      source.each_string(key, [&](std::string_view text) { texts.emplace_back(text); });
      builder.texts(key, texts);
    } else if (holds(key, {"token_type", "sections"})) {
      builder.i32s(key, source.integers(key));
    } else if (holds(key, {"image_mean", "image_std"})) {
      builder.f32s(key, source.numbers(key));
    } else if (holds(key, {"epsilon", "freq_base"})) {
      builder.f32(key, static_cast<float>(*source.number(key)));
    } else if (holds(key, {"add_bos_token", "_encoder", "use_silu"})) {
      builder.boolean(key, *source.boolean(key));
    } else if (holds(key, {"tokenizer.ggml.model", "tokenizer.ggml.pre", "chat_template", "architecture",
                           "name", "projector_type", "general.type"})) {
      builder.text(key, *source.string(key));
    } else {
      builder.u32(key, static_cast<uint32_t>(*source.integer(key)));
    }
  }
}

inline std::string_view bytes_of_tensor(const GgufTensor& tensor) {
  return {static_cast<const char*>(tensor.data), static_cast<size_t>(tensor.bytes)};
}

inline void add_matrix(const std::string& name, const std::vector<int64_t>& shape, const OneType& type,
                       Random& random, GgufBuilder& builder) {
  const int64_t count = element_count(shape, name);
  if (type.blocks && shape.back() % elements_of(*type.blocks) == 0) {
    builder.tensor(name, ggml_number(*type.blocks), shape, random_blocks(*type.blocks, count, random));
    return;
  }
  const uint32_t number = type.blocks ? kGgmlF16 : type.number;
  builder.tensor(name, number, shape, random_plain(number, count, random));
}

// The language model of tests/gguf/mixed with every matrix in one type.
inline std::string model_in(const OneType& type) {
  const GgufFile source = GgufFile::open(gguf_goldens() / "mixed" / "model.gguf");
  GgufBuilder builder;
  copy_keys(source, {}, builder);
  Random random(type.name);
  for (const GgufTensor& tensor : source.tensors()) {
    if (tensor.shape.size() < 2) {
      builder.tensor(tensor.name, kGgmlF32, tensor.shape, bytes_of_tensor(tensor));
    } else {
      add_matrix(tensor.name, tensor.shape, type, random, builder);
    }
  }
  return builder.bytes();
}

// A wider and deeper one, in whose memory the weights count: 40 million of them, and the vision tower for it.
struct MiddleModel {
  std::string model, mmproj;
};
inline MiddleModel middle_model(const OneType& type) {
  constexpr int64_t kHidden = 1024, kInner = 2816, kHeads = 16, kKv = 2, kHead = 64, kVocabulary = 384;
  const GgufFile text = GgufFile::open(gguf_goldens() / "mixed" / "model.gguf"),
                 vision = GgufFile::open(gguf_goldens() / "mixed" / "mmproj.gguf");
  GgufBuilder model, mmproj;
  copy_keys(text,
            {{"qwen2vl.embedding_length", 1024},
             {"qwen2vl.feed_forward_length", 2816},
             {"qwen2vl.attention.head_count", 16},
             {"qwen2vl.block_count", 4}},
            model);
  Random random("middle");
  const auto vector = [&](GgufBuilder& to, const std::string& name, int64_t size) {
    to.tensor(name, kGgmlF32, {size}, random_plain(kGgmlF32, size, random));
  };
  add_matrix("token_embd.weight", {kVocabulary, kHidden}, type, random, model);
  vector(model, "output_norm.weight", kHidden);
  for (int layer = 0; layer < 4; ++layer) {
    const std::string block = "blk." + std::to_string(layer) + ".";
    for (const char* norm : {"attn_norm.weight", "ffn_norm.weight"}) vector(model, block + norm, kHidden);
    const std::pair<const char*, int64_t> inputs[] = {
        {"attn_q", kHeads * kHead}, {"attn_k", kKv * kHead}, {"attn_v", kKv * kHead}};
    for (const auto& [name, out] : inputs) {
      add_matrix(block + name + ".weight", {out, kHidden}, type, random, model);
      vector(model, block + name + ".bias", out);
    }
    add_matrix(block + "attn_output.weight", {kHidden, kHeads * kHead}, type, random, model);
    add_matrix(block + "ffn_gate.weight", {kInner, kHidden}, type, random, model);
    add_matrix(block + "ffn_up.weight", {kInner, kHidden}, type, random, model);
    add_matrix(block + "ffn_down.weight", {kHidden, kInner}, type, random, model);
  }
  copy_keys(vision, {{"clip.vision.projection_dim", 1024}}, mmproj);
  for (const GgufTensor& tensor : vision.tensors()) {
    if (tensor.name == "mm.2.weight") {
      add_matrix(tensor.name, {kHidden, tensor.shape[1]}, type, random, mmproj);
    } else if (tensor.name == "mm.2.bias") {
      vector(mmproj, tensor.name, kHidden);
    } else {
      const uint32_t number = tensor.blocks                ? ggml_number(*tensor.blocks)
                              : tensor.dtype == DType::f32 ? kGgmlF32
                                                           : kGgmlF16;
      mmproj.tensor(tensor.name, number, tensor.shape, bytes_of_tensor(tensor));
    }
  }
  return {model.bytes(), mmproj.bytes()};
}

}  // namespace fovea::testing
