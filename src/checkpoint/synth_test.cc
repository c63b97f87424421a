// Goal: synthetic checkpoints are complete, the same everywhere, and never half-written. Method: tiny shapes
// with the real vocabulary, written twice with different thread counts; pinned values; refused requests.
#include "checkpoint/synth.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/parallel.h"
#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/embedded_files.h"
#include "checkpoint/random_weights.h"
#include "checkpoint/strict_json.h"

namespace fovea {
namespace {

using testing::expect_error;
using testing::read_bytes;
using testing::TemporaryFolder;
using testing::with_field;
using testing::write_bytes;

// The tiny nested model with Qwen's vocabulary, which the tokenizer written needs.
std::string shape_file() {
  std::string json = with_field(testing::tiny_nested_config(), "/text_config/vocab_size", "151936");
  for (const char* field :
       {"/image_token_id", "/video_token_id", "/vision_start_token_id", "/vision_end_token_id"}) {
    json = with_field(json, field, "");
  }
  return with_field(with_field(json, "/text_config/tie_word_embeddings", "true"), "/dtype", "");
}

TEST(Synth, WritesACompleteCheckpoint) {
  const TemporaryFolder folder;
  write_bytes(folder / "shape.json", shape_file());
  int64_t last = 0, total = 0;
  write_synthetic_checkpoint((folder / "shape.json").string(), folder / "out", 5, false,
                             [&](auto stage, int64_t done, int64_t all) {
                               EXPECT_EQ(stage, "write");
                               EXPECT_GT(done, last);
                               last = done;
                               total = all;
                             });
  EXPECT_EQ(last, total);
  const Checkpoint checkpoint = Checkpoint::open(folder / "out");
  EXPECT_EQ(checkpoint.config().dtype, DType::bf16);
  EXPECT_EQ(checkpoint.config().text.vocab_size, 151936);
  EXPECT_EQ(checkpoint.generation().eos_token_ids.size(), 2u);
  EXPECT_EQ(checkpoint.preprocessor().max_pixels, 12845056);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.json"}) {
    EXPECT_NO_THROW(parse_json_object(read_json_text(folder / "out" / name), name));
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder / "out")) {
    EXPECT_NE(entry.path().extension(), ".partial");
  }
}

TEST(Synth, TheSameSeedGivesTheSameBytesOnAnyNumberOfThreads) {
  const TemporaryFolder folder;
  write_bytes(folder / "shape.json", shape_file());
  const int before = threads();
  const auto weights = [&](const char* name, uint64_t seed, int count) {
    set_threads(count);
    write_synthetic_checkpoint((folder / "shape.json").string(), folder / name, seed, false, {});
    return read_bytes(folder / name / "model.safetensors");
  };
  const std::string one = weights("one", 9, 1), three = weights("three", 9, 3),
                    other = weights("other", 10, 1);
  set_threads(before);
  EXPECT_TRUE(one == three);
  EXPECT_FALSE(one == other);
}

// Values computed by hand from the definition (Python integers): they must never change on any machine.
TEST(Synth, ValuesArePinned) {
  const RandomTensor tensor{0x0123456789abcdefu, 0, 1, DType::f32};
  std::vector<float> values(4);
  fill_random(tensor, 0, 4, values.data());
  EXPECT_EQ(values, (std::vector<float>{-25425, 11588, 19691, -36805}));
}

TEST(Synth, DeviatesHaveTheStatedMomentsAndPiecesAgree) {
  const ModelConfig config;
  const RandomTensor tensor =
      random_tensor({"model.language_model.layers.0.mlp.up_proj.weight", {512, 1024}}, config, 1);
  RandomTensor wide = tensor;
  wide.dtype = DType::f32;
  const int64_t count = 512 * 1024;
  std::vector<float> values(static_cast<size_t>(count)), piece(1000);
  fill_random(wide, 0, count, values.data());
  double sum = 0, squares = 0;
  for (const float value : values) {
    sum += value;
    squares += double{value} * value;
  }
  const double deviation = 1 / std::sqrt(1024.0);  // one over the root of the fan-in
  // Standard errors of mean and variance over n draws; five of them fail once in a million seeds.
  EXPECT_LT(std::abs(sum / static_cast<double>(count)),
            5 * deviation / std::sqrt(static_cast<double>(count)));
  EXPECT_NEAR(squares / static_cast<double>(count) / (deviation * deviation), 1,
              5 * std::sqrt(2.0 / static_cast<double>(count)));
  fill_random(wide, 777, 1000, piece.data());
  EXPECT_TRUE(std::equal(piece.begin(), piece.end(), values.begin() + 777));
}

TEST(Synth, RefusesShapesTheTokenizerDoesNotFit) {
  const TemporaryFolder folder;
  const auto synth = [&](const std::string& json) {
    write_bytes(folder / "shape.json", json);
    write_synthetic_checkpoint((folder / "shape.json").string(), folder / "out", 0, false, {});
  };
  expect_error(ErrorKind::invalid_argument, {"vocab_size", "1000"},
               [&] { synth(with_field(shape_file(), "/text_config/vocab_size", "1000")); });
  expect_error(ErrorKind::invalid_argument, {"token ids"},
               [&] { synth(with_field(shape_file(), "/image_token_id", "7")); });
  expect_error(ErrorKind::unsupported, {"hidden_act"},
               [&] { synth(with_field(shape_file(), "/text_config/hidden_act", "\"relu\"")); });
  expect_error(ErrorKind::invalid_argument, {"'4b'"},
               [&] { write_synthetic_checkpoint("4b", folder / "out", 0, false, {}); });
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
}

TEST(Synth, NamesTheBytesADiskLacks) {
  const TemporaryFolder folder;
  std::string json = with_field(shape_file(), "/text_config/vocab_size", "16777216");
  json = with_field(json, "/text_config/intermediate_size", "16777216");
  json = with_field(json, "/text_config/num_hidden_layers", "4096");
  write_bytes(folder / "shape.json", with_field(json, "/text_config/layer_types", ""));
  // 4096 layers x 3 x 64 x 2^24 x 2 bytes and some: 26 TB.
  expect_error(ErrorKind::exhausted, {"needs 26", "bytes"}, [&] {
    write_synthetic_checkpoint((folder / "shape.json").string(), folder / "out", 0, false, {});
  });
  EXPECT_EQ(folder.names(), std::vector<std::string>{"shape.json"});
}

TEST(Synth, DoesNotTouchAnExistingCheckpoint) {
  const TemporaryFolder folder;
  write_bytes(folder / "config.json", "{}");
  expect_error(ErrorKind::invalid_argument, {"already exists"},
               [&] { write_synthetic_checkpoint("3b", folder.path(), 0, false, {}); });
  EXPECT_EQ(folder.names(), std::vector<std::string>{"config.json"});
}

TEST(Synth, DoesNotReplaceTheFolderThatHoldsItsShape) {
  const TemporaryFolder folder;
  write_bytes(folder / "config.json", shape_file());
  expect_error(ErrorKind::invalid_argument, {"--out", "is read"}, [&] {
    write_synthetic_checkpoint((folder / "config.json").string(), folder.path(), 0, true, {});
  });
  EXPECT_EQ(folder.names(), std::vector<std::string>{"config.json"});
}

TEST(Synth, TakesItsFilesBackWhenStopped) {
  const TemporaryFolder folder;
  write_bytes(folder / "shape.json", shape_file());
  EXPECT_THROW(write_synthetic_checkpoint((folder / "shape.json").string(), folder / "out", 0, false,
                                          [](auto, int64_t, int64_t) { throw std::runtime_error("stop"); }),
               std::runtime_error);
  EXPECT_EQ(folder.names(), std::vector<std::string>{"shape.json"});
}

TEST(EmbeddedFiles, AreTheTokenizerAndTheTemplate) {
  EXPECT_EQ(embedded_chat_template(),
            read_bytes(FOVEA_SOURCE_DIR "/models/qwen-tokenizer/chat_template.jinja"));
  std::string tokenizer;
  decompress_tokenizer([&](std::string_view piece) { tokenizer += piece; });
  EXPECT_NE(tokenizer.find("\"<|image_pad|>\""), std::string::npos);
  EXPECT_EQ(tokenizer.find_last_of('}') + 2 >= tokenizer.size(), true);
}

}  // namespace
}  // namespace fovea
