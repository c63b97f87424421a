// Goal: GGUF files are the checkpoint that they were made from: config, texts and tensors; and what no
// converter writes is refused by name. Method: tests/gguf/bf16 beside the folder it came from, value for
// value; the keys of tests/gguf/mixed with one wrong at a time.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/gguf_testing.h"
#include "checkpoint/gguf_texts.h"
#include "checkpoint/safetensors.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::GgufBuilder;
using testing::TemporaryFolder;
using testing::write_bytes;

const fs::path kGguf = fs::path(FOVEA_SOURCE_DIR) / "tests" / "gguf",
               kGolden = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden" / "one_image";
const fs::path kMmproj = kGguf / "mixed" / "mmproj.gguf", kMixed = kGguf / "mixed" / "model.gguf";

std::vector<float> values_of(const TensorInfo& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  if (tensor.format == WeightFormat::blocks) {
    dequantize(tensor, 0, tensor.shape[0], values.data());
    return values;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const auto* narrow = static_cast<const uint16_t*>(tensor.data);
    values[i] = tensor.dtype == DType::f32    ? static_cast<const float*>(tensor.data)[i]
                : tensor.dtype == DType::bf16 ? f32_from_bf16(narrow[i])
                                              : f32_from_f16(narrow[i]);
  }
  return values;
}

TEST(GgufModel, IsTheFolderThatItCameFrom) {
  const Checkpoint folder = Checkpoint::open(kGolden);
  for (const ModelFiles& files :
       {ModelFiles(kGguf / "bf16"),
        ModelFiles(kGguf / "bf16" / "model-00001-of-00002.gguf", kGguf / "bf16" / "mmproj.gguf")}) {
    const Checkpoint gguf = Checkpoint::open(files);
    EXPECT_TRUE(gguf.is_gguf());
    EXPECT_FALSE(gguf.quantized());
    ASSERT_EQ(gguf.tensors().size(), folder.tensors().size());
    for (const TensorInfo& tensor : folder.tensors()) {
      const TensorInfo& ours = gguf.tensor(tensor.name);
      EXPECT_EQ(ours.shape, tensor.shape) << tensor.name;
      std::vector<float> theirs = values_of(tensor);
      // The converter keeps the patch embedding in F16.
      if (tensor.shape.size() == 5) {
        for (float& value : theirs) value = rounded(value, DType::f16);
      }
      EXPECT_EQ(values_of(ours), theirs) << tensor.name;
    }
  }
}

TEST(GgufModel, SaysWhatTheConfigsOfTheFolderSay) {
  const Checkpoint folder = Checkpoint::open(kGolden), gguf = Checkpoint::open(kGguf / "bf16");
  const ModelConfig &a = gguf.config(), &b = folder.config();
  EXPECT_EQ(a.dtype, b.dtype);
  EXPECT_EQ(a.image_token_id, b.image_token_id);
  EXPECT_EQ(a.video_token_id, b.video_token_id);
  EXPECT_EQ(a.vision_start_token_id, b.vision_start_token_id);
  EXPECT_EQ(a.vision_end_token_id, b.vision_end_token_id);
  EXPECT_EQ(a.text.rms_norm_eps, b.text.rms_norm_eps);
  EXPECT_EQ(a.text.rope_theta, b.text.rope_theta);
  EXPECT_EQ(a.text.mrope_section, b.text.mrope_section);
  EXPECT_EQ(a.text.num_key_value_heads, b.text.num_key_value_heads);
  EXPECT_EQ(a.text.vocab_size, b.text.vocab_size);
  EXPECT_EQ(a.text.max_position_embeddings, b.text.max_position_embeddings);
  EXPECT_EQ(a.text.tie_word_embeddings, b.text.tie_word_embeddings);
  EXPECT_EQ(a.vision.fullatt_block_indexes, b.vision.fullatt_block_indexes);
  EXPECT_EQ(a.vision.window_size, b.vision.window_size);
  EXPECT_EQ(a.vision.num_heads, b.vision.num_heads);
  EXPECT_EQ(gguf.preprocessor().image_mean.size(), 3u);
  EXPECT_EQ(gguf.preprocessor().max_pixels, 12845056);
  EXPECT_EQ(gguf.preprocessor().merge_size, folder.preprocessor().merge_size);
  ASSERT_FALSE(gguf.generation().eos_token_ids.empty());
  EXPECT_EQ(gguf.generation().eos_token_ids.front(), b.eos_token_ids.front());
  ASSERT_FALSE(gguf.warnings().empty());
  EXPECT_NE(gguf.warnings().back().find("12845056"), std::string::npos);
  const auto texts = gguf.folder_texts();
  for (const char* name : {"config.json", "preprocessor_config.json", "generation_config.json", "vocab.json",
                           "merges.txt", "tokenizer_config.json"}) {
    EXPECT_EQ(texts.count(name), 1u) << name;
  }
  EXPECT_TRUE(folder.folder_texts().empty());
}

TEST(GgufModel, EveryTypeIsReadUnderItsName) {
  const Checkpoint mixed = Checkpoint::open(kGguf / "mixed");
  const SafetensorsFile expected = SafetensorsFile::open(kGguf / "mixed" / "first_rows.safetensors");
  EXPECT_TRUE(mixed.quantized());
  std::set<std::string> types;
  for (const TensorInfo& tensor : mixed.tensors()) {
    if (tensor.format == WeightFormat::blocks) types.insert(name_of(tensor.blocks));
    const StoredTensor* rows = expected.find(tensor.file_name);
    if (rows == nullptr) continue;
    std::vector<float> ours = values_of(tensor);
    const std::vector<float> theirs(rows->as<float>(), rows->as<float>() + 2 * tensor.shape[1]);
    ours.resize(theirs.size());
    EXPECT_EQ(ours, theirs) << tensor.name;
  }
  EXPECT_EQ(types.size(), 10u);
}

// The rows of q, k and v lie in one piece in the files above; here they do not, and v has another type.
TEST(GgufModel, QueriesKeysAndValuesAreJoinedWhereverTheyLie) {
  const GgufFile source = GgufFile::open(kMmproj);
  const Checkpoint together = Checkpoint::open({kMixed, kMmproj});
  for (const bool other_type : {false, true}) {
    GgufBuilder builder;
    for (const std::string& key : source.keys()) {
      if (const auto list = key.find("image_") != std::string::npos && key != "clip.vision.image_size";
          list) {
        builder.f32s(key, source.numbers(key));
      } else if (key.find("_encoder") != std::string::npos || key.find("use_") != std::string::npos) {
        builder.boolean(key, *source.boolean(key));
      } else if (key.find("epsilon") != std::string::npos) {
        builder.f32(key, 1e-6f);
      } else if (key.find("type") != std::string::npos || key.find("architecture") != std::string::npos) {
        builder.text(key, *source.string(key));
      } else {
        builder.u32(key, static_cast<uint32_t>(*source.integer(key)));
      }
    }
    // The last tensor first.
    for (size_t i = source.tensors().size(); i-- > 0;) {
      const GgufTensor& tensor = source.tensors()[i];
      const std::string_view bytes(static_cast<const char*>(tensor.data), static_cast<size_t>(tensor.bytes));
      if (other_type && tensor.name == "v.blk.1.attn_v.weight") {
        std::vector<float> wide(static_cast<size_t>(tensor.shape[0] * tensor.shape[1]));
        widen_blocks(*tensor.blocks, tensor.data, std::ssize(wide), wide.data());
        builder.tensor(tensor.name, testing::kGgmlF32, tensor.shape,
                       {reinterpret_cast<const char*>(wide.data()), wide.size() * sizeof(float)});
      } else {
        builder.tensor(tensor.name,
                       tensor.blocks ? testing::ggml_number(*tensor.blocks)
                                     : (tensor.dtype == DType::f32 ? testing::kGgmlF32 : testing::kGgmlF16),
                       tensor.shape, bytes);
      }
    }
    const TemporaryFolder folder;
    write_bytes(folder / "mmproj.gguf", builder.bytes());
    const Checkpoint apart = Checkpoint::open({kMixed, folder / "mmproj.gguf"});
    for (const TensorInfo& tensor : together.tensors()) {
      EXPECT_EQ(values_of(apart.tensor(tensor.name)), values_of(tensor)) << tensor.name;
      EXPECT_EQ(apart.tensor(tensor.name).shape, tensor.shape) << tensor.name;
    }
  }
}

TEST(GgufModel, NamesAreThoseOfTheConverter) {
  EXPECT_EQ(canonical_text_name("blk.35.attn_q.bias"),
            "model.language_model.layers.35.self_attn.q_proj.bias");
  EXPECT_EQ(canonical_text_name("output.weight"), "lm_head.weight");
  EXPECT_EQ(canonical_vision_name("v.blk.0.ffn_up.weight"), "model.visual.blocks.0.mlp.up_proj.weight");
  EXPECT_EQ(canonical_vision_name("mm.2.bias"), "model.visual.merger.mlp.2.bias");
  for (const char* name : {"blk.00.attn_q.weight", "blk..attn_q.weight", "blk.1.attn_q", "blk.1.attn_q.scale",
                           "blk.999999.attn_q.weight", "blk.-1.attn_q.weight", "rope_freqs.weight", ""}) {
    EXPECT_EQ(canonical_text_name(name), std::nullopt) << name;
  }
}

class Choosing : public ::testing::Test {
 protected:
  void copy(const fs::path& from, const std::string& name) { fs::copy_file(from, folder_ / name); }
  void expect(ErrorKind kind, const std::vector<std::string>& words, const ModelFiles& files) {
    expect_error(kind, words, [&] { Checkpoint::open(files); });
  }
  TemporaryFolder folder_;
};

TEST_F(Choosing, OneModelAndOneMmprojAreWanted) {
  copy(kMixed, "a.gguf");
  expect(ErrorKind::not_found, {"no mmproj", "a.gguf"}, folder_.path());
  copy(kMmproj, "mmproj-a.gguf");
  EXPECT_TRUE(Checkpoint::open(folder_.path()).is_gguf());
  copy(kMixed, "b.gguf");
  expect(ErrorKind::invalid_argument, {"2 language models", "a.gguf, b.gguf"}, folder_.path());
  expect(ErrorKind::invalid_argument, {"a.gguf", "no vision tower"}, folder_ / "a.gguf");
  expect(ErrorKind::invalid_argument, {"mmproj-a.gguf", "is an mmproj"}, folder_ / "mmproj-a.gguf");
  expect(ErrorKind::invalid_argument, {"b.gguf", "no mmproj"}, {folder_ / "a.gguf", folder_ / "b.gguf"});
  expect(ErrorKind::invalid_argument, {"--mmproj", "folder"}, {kGolden, folder_ / "mmproj-a.gguf"});
  expect(ErrorKind::not_found, {"nowhere.gguf"}, folder_ / "nowhere.gguf");
  write_bytes(folder_ / "text.gguf", "version https://git-lfs.github.com/spec/v1");
  expect(ErrorKind::corrupt, {"text.gguf", "no GGUF file"}, folder_ / "text.gguf");
}

TEST_F(Choosing, PartsOfASplitFileBelongTogether) {
  const fs::path parts = kGguf / "bf16";
  copy(parts / "mmproj.gguf", "mmproj.gguf");
  copy(parts / "model-00002-of-00002.gguf", "model-00002-of-00002.gguf");
  expect(ErrorKind::invalid_argument, {"model-00002-of-00002.gguf", "part 2 of 2"},
         {folder_ / "model-00002-of-00002.gguf", folder_ / "mmproj.gguf"});
  copy(parts / "model-00001-of-00002.gguf", "model-00001-of-00002.gguf");
  EXPECT_EQ(Checkpoint::open(folder_.path()).tensors().size(), Checkpoint::open(kGolden).tensors().size());
  fs::rename(folder_ / "model-00002-of-00002.gguf", folder_ / "away.bin");
  expect(ErrorKind::not_found, {"model-00002-of-00002.gguf", "missing"}, folder_.path());
  copy(parts / "model-00001-of-00002.gguf", "model-00002-of-00002.gguf");
  expect(ErrorKind::corrupt, {"says that it is part 1"}, folder_.path());
  copy(parts / "model-00001-of-00002.gguf", "single.gguf");
  expect(ErrorKind::corrupt, {"single.gguf", "part 1 of 2"},
         {folder_ / "single.gguf", folder_ / "mmproj.gguf"});
}

// The keys of a language model and of a vision tower, each of which a test may leave out or write otherwise.
struct Keys {
  std::string without = {};
  std::function<void(GgufBuilder&)> instead = {};

  bool wants(std::string_view key) const { return key != without; }
  void add(GgufBuilder& b) const {
    const auto u32 = [&](const char* key, uint32_t value) {
      if (wants(key)) b.u32(key, value);
    };
    const auto f32 = [&](const char* key, float value) {
      if (wants(key)) b.f32(key, value);
    };
    const auto text = [&](const char* key, const char* value) {
      if (wants(key)) b.text(key, value);
    };
    text("general.architecture", "qwen2vl");
    u32("qwen2vl.block_count", 2);
    u32("qwen2vl.context_length", 4096);
    u32("qwen2vl.embedding_length", 256);
    u32("qwen2vl.feed_forward_length", 288);
    u32("qwen2vl.attention.head_count", 4);
    u32("qwen2vl.attention.head_count_kv", 2);
    f32("qwen2vl.rope.freq_base", 1e6f);
    f32("qwen2vl.attention.layer_norm_rms_epsilon", 1e-6f);
    if (wants("qwen2vl.rope.dimension_sections")) b.i32s("qwen2vl.rope.dimension_sections", {8, 12, 12, 0});
    text("tokenizer.ggml.model", "gpt2");
    text("tokenizer.ggml.pre", "qwen2");
    u32("tokenizer.ggml.eos_token_id", 1);
    if (wants("tokenizer.ggml.tokens"))
      b.texts("tokenizer.ggml.tokens", {"a", "<|im_end|>", "<|image_pad|>", "<|video_pad|>",
                                        "<|vision_start|>", "<|vision_end|>", "<|endoftext|>"});
    if (wants("tokenizer.ggml.token_type")) b.i32s("tokenizer.ggml.token_type", {1, 3, 3, 3, 3, 3, 3});
    b.texts("tokenizer.ggml.merges", {});
    if (instead) instead(b);
  }
};
struct VisionKeys {
  std::string without = {};
  std::function<void(GgufBuilder&)> instead = {};

  void add(GgufBuilder& b) const {
    const auto u32 = [&](const char* key, uint32_t value) {
      if (key != without) b.u32(key, value);
    };
    b.text("general.architecture", "clip");
    if (without != "clip.projector_type") b.text("clip.projector_type", "qwen2.5vl_merger");
    u32("clip.vision.block_count", 8);
    u32("clip.vision.embedding_length", 64);
    u32("clip.vision.feed_forward_length", 84);
    u32("clip.vision.projection_dim", 256);
    u32("clip.vision.patch_size", 14);
    u32("clip.vision.attention.head_count", 2);
    u32("clip.vision.n_wa_pattern", 4);
    if (without != "clip.vision.image_mean") b.f32s("clip.vision.image_mean", {0.5, 0.5, 0.5});
    b.f32s("clip.vision.image_std", {0.5, 0.5, 0.5});
    if (instead) instead(b);
  }
};

GgufTexts texts_with(const Keys& text, const VisionKeys& vision,
                     std::map<std::string, std::string>* others = nullptr) {
  GgufBuilder a, b;
  text.add(a);
  vision.add(b);
  const TemporaryFolder folder;
  write_bytes(folder / "model.gguf", a.bytes());
  write_bytes(folder / "mmproj.gguf", b.bytes());
  const GgufFile model = GgufFile::open(folder / "model.gguf"),
                 mmproj = GgufFile::open(folder / "mmproj.gguf");
  const GgufTexts texts = gguf_texts(model, mmproj, false, 384, DType::bf16);
  const auto tokenizer = gguf_tokenizer_texts(model);
  if (others != nullptr) *others = tokenizer;
  parse_config(texts.config, "config.json");
  parse_generation_config(texts.generation, "generation_config.json");
  parse_preprocessor_config(texts.preprocessor, "preprocessor_config.json");
  return texts;
}

TEST(GgufTexts, StateWhatTheKeysState) {
  std::map<std::string, std::string> tokenizer;
  const GgufTexts texts = texts_with({}, {}, &tokenizer);
  const ModelConfig config = parse_config(texts.config, "config.json");
  EXPECT_EQ(config.text.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.text.head_dim, 64);
  EXPECT_EQ(config.vision.fullatt_block_indexes, (std::vector<int64_t>{3, 7}));
  EXPECT_EQ(config.vision.tokens_per_second, 2);
  EXPECT_EQ(config.bos_token_id, 6);
  const GenerationConfig generation = parse_generation_config(texts.generation, "generation_config.json");
  EXPECT_EQ(generation.eos_token_ids, (std::vector<int64_t>{1, 6}));
  EXPECT_FALSE(generation.do_sample);
  EXPECT_EQ(tokenizer.at("vocab.json"), R"({"a":0})");
  EXPECT_TRUE(texts.notes.front().find("greedy") != std::string::npos);
}

TEST(GgufTexts, OptionalKeysAreTaken) {
  const Keys yarn{{}, [](GgufBuilder& b) {
                    b.text("qwen2vl.rope.scaling.type", "yarn")
                        .f32("qwen2vl.rope.scaling.factor", 4)
                        .u32("qwen2vl.rope.scaling.original_context_length", 2048)
                        .f32("general.sampling.temp", 0.7f)
                        .u32("general.sampling.top_k", 20)
                        .f32("general.sampling.penalty_repeat", 1.05f)
                        .text("qwen2vl.something_new", "x");
                  }};
  const VisionKeys limits{
      {}, [](GgufBuilder& b) {
        b.u32("clip.vision.image_min_pixels", 3136).u32("clip.vision.image_max_pixels", 1003520);
      }};
  const GgufTexts texts = texts_with(yarn, limits);
  const ModelConfig config = parse_config(texts.config, "config.json");
  ASSERT_TRUE(config.text.yarn.has_value());
  EXPECT_EQ(config.text.yarn->factor, 4);
  EXPECT_EQ(config.text.yarn->original_max_position_embeddings, 2048);
  const GenerationConfig generation = parse_generation_config(texts.generation, "generation_config.json");
  EXPECT_TRUE(generation.do_sample);
  EXPECT_EQ(generation.temperature, 0.7);
  EXPECT_EQ(generation.top_k, 20);
  EXPECT_EQ(generation.repetition_penalty, 1.05);
  EXPECT_EQ(parse_preprocessor_config(texts.preprocessor, "p.json").max_pixels, 1003520);
  EXPECT_NE(texts.notes.front().find("qwen2vl.something_new"), std::string::npos);
}

TEST(GgufTexts, OtherModelsAreRefusedByName) {
  const auto refused = [](ErrorKind kind, const std::vector<std::string>& words, const Keys& text,
                          const VisionKeys& vision = {}) {
    expect_error(kind, words, [&] { texts_with(text, vision); });
  };
  const auto with = [](const std::string& without, std::function<void(GgufBuilder&)> instead) {
    return Keys{without, std::move(instead)};
  };
  const auto vision = [](const std::string& without, std::function<void(GgufBuilder&)> instead) {
    return VisionKeys{without, std::move(instead)};
  };
  using B = GgufBuilder;
  const auto name = [](const char* key, const char* value) { return [=](B& b) { b.text(key, value); }; };
  refused(ErrorKind::unsupported, {"general.architecture", "llama"},
          with("general.architecture", name("general.architecture", "llama")));
  refused(ErrorKind::unsupported, {"projector_type", "qwen2vl_merger"}, {},
          vision("clip.projector_type", name("clip.projector_type", "qwen2vl_merger")));
  refused(ErrorKind::unsupported, {"projector_type", "gemma3"}, {},
          vision("clip.projector_type", name("clip.vision.projector_type", "gemma3")));
  refused(ErrorKind::unsupported, {"use_gelu"}, {},
          vision("", [](B& b) { b.boolean("clip.use_gelu", true); }));
  refused(ErrorKind::unsupported, {"wa_layer_indexes"}, {},
          vision("", [](B& b) { b.i32s("clip.vision.wa_layer_indexes", {0, 5}); }));
  refused(ErrorKind::invalid_argument, {"n_wa_pattern", "0"}, {},
          vision("clip.vision.n_wa_pattern", [](B& b) { b.u32("clip.vision.n_wa_pattern", 0); }));
  refused(ErrorKind::corrupt, {"n_wa_pattern", "missing"}, {}, vision("clip.vision.n_wa_pattern", {}));
  refused(ErrorKind::corrupt, {"image_mean", "missing"}, {}, vision("clip.vision.image_mean", {}));
  refused(ErrorKind::unsupported, {"layer_norm_epsilon"}, {},
          vision("", [](B& b) { b.f32("clip.vision.attention.layer_norm_epsilon", 1e-5f); }));
  refused(ErrorKind::corrupt, {"qwen2vl.block_count", "missing"}, with("qwen2vl.block_count", {}));
  refused(ErrorKind::corrupt, {"dimension_sections"}, with("qwen2vl.rope.dimension_sections", {}));
  refused(ErrorKind::unsupported, {"dimension_sections"}, with("qwen2vl.rope.dimension_sections", [](B& b) {
            b.i32s("qwen2vl.rope.dimension_sections", {8, 8, 8, 8});
          }));
  refused(ErrorKind::unsupported, {"scaling.type", "linear"},
          with("", name("qwen2vl.rope.scaling.type", "linear")));
  refused(ErrorKind::unsupported, {"expert_count", "8"},
          with("", [](B& b) { b.u32("qwen2vl.expert_count", 8); }));
  refused(ErrorKind::unsupported, {"tokenizer.ggml.model", "llama"},
          with("tokenizer.ggml.model", name("tokenizer.ggml.model", "llama")));
  refused(ErrorKind::unsupported, {"tokenizer.ggml.pre", "missing"}, with("tokenizer.ggml.pre", {}));
  refused(ErrorKind::unsupported, {"add_bos_token"},
          with("", [](B& b) { b.boolean("tokenizer.ggml.add_bos_token", true); }));
  refused(ErrorKind::unsupported, {"<|image_pad|>"},
          with("tokenizer.ggml.tokens", [](B& b) { b.texts("tokenizer.ggml.tokens", {"a"}); }));
  refused(ErrorKind::corrupt, {"token_type", "shorter"}, with("tokenizer.ggml.token_type", {}));
  refused(ErrorKind::unsupported, {"token_type", "6"}, with("tokenizer.ggml.token_type", [](B& b) {
            b.i32s("tokenizer.ggml.token_type", {6, 3, 3, 3, 3, 3, 3});
          }));
  refused(ErrorKind::corrupt, {"UTF-8"}, with("tokenizer.ggml.tokens", [](B& b) {
            b.texts("tokenizer.ggml.tokens", {"\xff", "<|im_end|>", "<|image_pad|>", "<|video_pad|>",
                                              "<|vision_start|>", "<|vision_end|>", "<|endoftext|>"});
          }));
  refused(ErrorKind::invalid_argument, {"hidden_size"},
          with("qwen2vl.embedding_length", [](B& b) { b.u32("qwen2vl.embedding_length", 0xffffffff); }));
}

}  // namespace
}  // namespace fovea
