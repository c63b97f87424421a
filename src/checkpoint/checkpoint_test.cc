// Goal: a folder opens exactly when its weights are those the config implies, in every layout Hugging Face
// ships. Method: tiny checkpoints written here, whole and sharded, in both name eras, then with one defect
// each.
#include "checkpoint/checkpoint.h"

#include <gtest/gtest.h>

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

constexpr const char* kShard1 = "model-00001-of-00002.safetensors";
constexpr const char* kShard2 = "model-00002-of-00002.safetensors";

bool in_first_shard(const std::string& name) { return name.find("model.visual.") == 0; }

class CheckpointFolder : public ::testing::Test {
 protected:
  void write(const std::string& config, Era era, DType dtype = DType::bf16) {
    write_bytes(folder_ / "config.json", config);
    config_ = parse_config(config, "config.json");
    write_tiny_weights(folder_ / "model.safetensors", config_, era, dtype);
  }

  void write_shards(const std::string& config) {
    write_bytes(folder_ / "config.json", config);
    config_ = parse_config(config, "config.json");
    write_tiny_weights(folder_ / kShard1, config_, Era::older, DType::bf16, in_first_shard);
    write_tiny_weights(folder_ / kShard2, config_, Era::older, DType::bf16,
                       [](const std::string& name) { return !in_first_shard(name); });
    write_index(kShard2);
  }
  void write_index(const std::string& second) {
    std::string map;
    for (const auto* shard : {kShard1, kShard2}) {
      const SafetensorsFile file = SafetensorsFile::open(folder_ / shard);
      for (const StoredTensor& tensor : file.tensors()) {
        map += fmt::format("{}\"{}\": \"{}\"", map.empty() ? "" : ", ", tensor.name,
                           shard == kShard2 ? second : shard);
      }
    }
    write_bytes(folder_ / "model.safetensors.index.json",
                "{\"metadata\": {}, \"weight_map\": {" + map + "}}");
  }

  void expect_refused(ErrorKind kind, const std::vector<std::string>& words) {
    expect_error(kind, words, [&] { Checkpoint::open(folder_.path()); });
  }

  TemporaryFolder folder_;
  ModelConfig config_;
};

TEST_F(CheckpointFolder, BothErasOfNamesGiveTheSameTensors) {
  for (const Era era : {Era::older, Era::newer}) {
    write(tiny_flat_config(), era);
    const Checkpoint checkpoint = Checkpoint::open(folder_.path());
    EXPECT_EQ(checkpoint.tensors().size(), expected_tensors(config_).size());
    const TensorInfo& query = checkpoint.tensor("model.language_model.layers.1.self_attn.q_proj.weight");
    EXPECT_EQ(query.file_name, era == Era::older ? "model.layers.1.self_attn.q_proj.weight" : query.name);
    EXPECT_EQ(query.shape, (std::vector<int64_t>{64, 64}));
    EXPECT_TRUE(checkpoint.has("model.visual.blocks.1.attn.qkv.bias"));
    EXPECT_FALSE(checkpoint.has("lm_head.weight"));
  }
}

TEST_F(CheckpointFolder, MatricesFoldTrailingAxesAndVectorsConvert) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    write(tiny_flat_config(), Era::older, dtype);
    const Checkpoint checkpoint = Checkpoint::open(folder_.path());
    const MatrixView patches = checkpoint.matrix("model.visual.patch_embed.proj.weight");
    EXPECT_EQ(patches.rows, 32);
    EXPECT_EQ(patches.cols, 1176);
    EXPECT_EQ(patches.stride, 1176);
    EXPECT_EQ(patches.dtype, dtype);
    const std::vector<float> norm = checkpoint.vector("model.language_model.norm.weight");
    ASSERT_EQ(norm.size(), 64u);
    EXPECT_EQ(norm[8], 1);
    expect_error(ErrorKind::not_found, {"lm_head.weight"}, [&] { checkpoint.matrix("lm_head.weight"); });
  }
}

TEST_F(CheckpointFolder, DtypesMayDifferBetweenTensors) {
  write_shards(tiny_flat_config());
  write_tiny_weights(folder_ / kShard1, config_, Era::newer, DType::f32, in_first_shard);
  write_index(kShard2);
  const Checkpoint checkpoint = Checkpoint::open(folder_.path());
  EXPECT_EQ(checkpoint.tensor("model.visual.merger.ln_q.weight").dtype, DType::f32);
  EXPECT_EQ(checkpoint.tensor("model.language_model.norm.weight").dtype, DType::bf16);
}

TEST_F(CheckpointFolder, AnUnstatedDtypeIsTheEmbeddings) {
  write(with_field(tiny_nested_config(), "/dtype", ""), Era::older, DType::f16);
  EXPECT_EQ(Checkpoint::open(folder_.path()).config().dtype, DType::f16);
}

TEST_F(CheckpointFolder, AnUntiedHeadIsRequiredAndATiedOneIgnored) {
  write(tiny_nested_config(), Era::older);
  EXPECT_TRUE(Checkpoint::open(folder_.path()).has("lm_head.weight"));
  write_bytes(folder_ / "config.json",
              with_field(tiny_nested_config(), "/text_config/tie_word_embeddings", "true"));
  EXPECT_FALSE(Checkpoint::open(folder_.path()).has("lm_head.weight"));
  write(tiny_flat_config(), Era::older);
  write_bytes(folder_ / "config.json", with_field(tiny_flat_config(), "/tie_word_embeddings", "false"));
  expect_refused(ErrorKind::not_found, {"lm_head.weight", "[128, 64]"});
}

TEST_F(CheckpointFolder, ReadsShardsAndReportsEveryByte) {
  write_shards(tiny_flat_config());
  const Checkpoint checkpoint = Checkpoint::open(folder_.path());
  EXPECT_EQ(checkpoint.tensor("model.visual.merger.ln_q.weight").file, kShard1);
  EXPECT_EQ(checkpoint.tensor("model.language_model.norm.weight").file, kShard2);
  int64_t before = 0, last_total = 0;
  checkpoint.read_ahead([&](std::string_view stage, int64_t done, int64_t total) {
    EXPECT_EQ(stage, "load");
    EXPECT_GT(done, before);
    before = done;
    last_total = total;
  });
  EXPECT_EQ(before, last_total);
  EXPECT_GT(before, 0);
  checkpoint.read_ahead({});
}

TEST_F(CheckpointFolder, NamesAMissingShard) {
  write_shards(tiny_flat_config());
  std::filesystem::remove(folder_ / kShard2);
  expect_refused(ErrorKind::not_found, {kShard2, "missing"});
}

TEST_F(CheckpointFolder, RefusesAnIndexThatLeavesTheFolder) {
  write_shards(tiny_flat_config());
  for (const char* outside :
       {"../x.safetensors", "/etc/hostname", "sub/x.safetensors", "..", ".", "", "x\\u0000y"}) {
    write_index(outside);
    SCOPED_TRACE(outside);
    expect_refused(ErrorKind::corrupt, {"outside its folder"});
  }
}

TEST_F(CheckpointFolder, RefusesAnIndexThatDisagreesWithItsShards) {
  write_shards(tiny_flat_config());
  write_index(kShard1);
  expect_refused(ErrorKind::corrupt, {kShard1, "does not"});
  for (const char* text :
       {"{}", R"({"weight_map": 3})", R"({"weight_map": {}})", R"({"weight_map": {"a": 1}})", "[]"}) {
    write_bytes(folder_ / "model.safetensors.index.json", text);
    expect_refused(ErrorKind::corrupt, {"index.json"});
  }
}

TEST_F(CheckpointFolder, RefusesATensorThatOccursTwice) {
  write_shards(tiny_flat_config());
  write_tiny_weights(folder_ / kShard1, config_, Era::older, DType::bf16, [](const std::string& name) {
    return in_first_shard(name) || name == "model.language_model.norm.weight";
  });
  expect_refused(ErrorKind::corrupt, {"twice", "model.language_model.norm.weight"});
}

TEST_F(CheckpointFolder, NamesAMissingTensorAndAWrongShape) {
  write_bytes(folder_ / "config.json", tiny_flat_config());
  const ModelConfig config = parse_config(tiny_flat_config(), "config.json");
  write_tiny_weights(folder_ / "model.safetensors", config, Era::older, DType::bf16,
                     [](const std::string& name) { return name != "model.visual.merger.mlp.2.bias"; });
  expect_refused(ErrorKind::not_found, {"model.visual.merger.mlp.2.bias", "[64]"});
  write_tiny_weights(folder_ / "model.safetensors", config, Era::older, DType::bf16);
  write_bytes(folder_ / "config.json", with_field(tiny_flat_config(), "/intermediate_size", "80"));
  expect_refused(ErrorKind::corrupt, {"mlp.gate_proj.weight", "[96, 64]", "[80, 64]"});
}

TEST_F(CheckpointFolder, RefusesForeignTensorsAndIgnoresRotaryBuffers) {
  const float zero = 0;
  for (const char* name :
       {"model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.9.input_layernorm.weight",
        "visual.blocks.0.attn.qkv.lora_A.weight", "score.weight"}) {
    write_shards(tiny_flat_config());
    const SafetensorsFile shard = SafetensorsFile::open(folder_ / kShard1);
    std::vector<TensorToWrite> tensors{{name, StoredType::f32, {1}, &zero}};
    for (const StoredTensor& tensor : shard.tensors()) {
      tensors.push_back({tensor.name, tensor.type, tensor.shape, tensor.data});
    }
    write_safetensors(folder_ / kShard1, tensors, {});
    if (std::string(name).find("inv_freq") != std::string::npos) {
      EXPECT_NO_THROW(Checkpoint::open(folder_.path()));
    } else {
      expect_refused(ErrorKind::unsupported, {name});
    }
  }
}

TEST_F(CheckpointFolder, RefusesQuantisedWeights) {
  write_shards(tiny_flat_config());
  const std::vector<uint8_t> bytes(64);
  std::vector<TensorToWrite> tensors{{"model.norm.weight", StoredType::u8, {64}, bytes.data()}};
  write_safetensors(folder_ / "model.safetensors", tensors, {});
  expect_refused(ErrorKind::unsupported, {"model.norm.weight", "U8"});
}

TEST_F(CheckpointFolder, TakesGenerationAndPreprocessingFromTheirFiles) {
  write(tiny_flat_config(), Era::older);
  EXPECT_EQ(Checkpoint::open(folder_.path()).generation().eos_token_ids, std::vector<int64_t>{105});
  EXPECT_EQ(Checkpoint::open(folder_.path()).preprocessor().max_pixels, 28 * 28 * 1280);
  write_bytes(folder_ / "generation_config.json", R"({"eos_token_id": [7, 8], "do_sample": true})");
  write_bytes(folder_ / "processor_config.json", R"({"image_processor": {"max_pixels": 50176}})");
  EXPECT_EQ(Checkpoint::open(folder_.path()).generation().eos_token_ids, (std::vector<int64_t>{7, 8}));
  EXPECT_EQ(Checkpoint::open(folder_.path()).preprocessor().max_pixels, 50176);
  write_bytes(folder_ / "preprocessor_config.json", R"({"patch_size": 16})");
  expect_refused(ErrorKind::invalid_argument, {"preprocessor_config.json", "patch_size", "16"});
}

TEST_F(CheckpointFolder, SaysWhatAnEmptyFolderLacks) {
  expect_error(ErrorKind::not_found, {"nowhere"}, [&] { Checkpoint::open(folder_ / "nowhere"); });
  expect_refused(ErrorKind::not_found, {"config.json"});
  write_bytes(folder_ / "config.json", tiny_flat_config());
  expect_refused(ErrorKind::not_found, {"model.safetensors", "index.json"});
}

}  // namespace
}  // namespace fovea
