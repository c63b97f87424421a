// Goal: no bytes make the reader crash, hang or grow; the only way out is Error. Method: thousands of seeded
// mutations of a valid file and of valid configs (run under the sanitizers in CI), each opened as a user
// would.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <random>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/safetensors_header.h"
#include "checkpoint/safetensors_writer.h"

namespace fovea {
namespace {

using testing::TemporaryFolder;
using testing::write_bytes;

using Random = std::mt19937_64;

size_t below(Random& random, size_t bound) { return static_cast<size_t>(random() % bound); }

// One to four edits: a flipped bit, an overwritten byte, a piece removed, repeated or moved, a digit changed.
std::string mutated(std::string bytes, Random& random) {
  for (size_t edits = 1 + below(random, 4); edits > 0 && !bytes.empty(); --edits) {
    const size_t at = below(random, bytes.size());
    const size_t length = std::min(bytes.size() - at, 1 + below(random, 16));
    switch (below(random, 7)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(random, 8)));
        break;
      case 1:
        bytes[at] = static_cast<char>(random());
        break;
      case 2:
        bytes.erase(at, length);
        break;
      case 3:
        bytes.insert(at, std::string(bytes, at, length));
        break;
      case 4:
        bytes.resize(at);
        break;
      case 5:
        bytes[at] = "0123456789[]{}\",:-.e\xff"[below(random, 22)];
        break;
      case 6:
        bytes.insert(at, "99999999999");
        break;
    }
  }
  return bytes;
}

// How many of the mutants were refused. A mutant may stay valid (an edit of the data); then it must be
// readable.
template <typename Open>
int refused(const std::string& valid, uint64_t seed, int count, Open open) {
  Random random(seed);
  int errors = 0;
  for (int i = 0; i < count; ++i) {
    const std::string mutant = mutated(valid, random);
    try {
      open(mutant);
    } catch (const Error& error) {
      EXPECT_FALSE(error.message().empty());
      ++errors;
    } catch (const std::exception& other) {
      ADD_FAILURE() << "seed " << seed << " mutant " << i << " escaped as: " << other.what();
    }
  }
  return errors;
}

std::string small_safetensors(const TemporaryFolder& folder) {
  const std::array<float, 12> values{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  write_safetensors(folder / "valid",
                    {{"model.norm.weight", StoredType::f32, {12}, values.data()},
                     {"ids", StoredType::i64, {2, 3}, values.data()},
                     {"halves", StoredType::bf16, {3, 2, 2}, values.data()},
                     {"bytes", StoredType::u8, {5}, values.data()}},
                    {{"format", "pt"}});
  return testing::read_bytes(folder / "valid");
}

TEST(HostileFiles, MutatedSafetensorsOnlyThrowErrors) {
  const TemporaryFolder folder;
  const std::string valid = small_safetensors(folder);
  unsigned sum = 0;
  const int errors = refused(valid, 1, 500, [&](const std::string& mutant) {
    write_bytes(folder / "mutant", mutant);
    const SafetensorsFile file = SafetensorsFile::open(folder / "mutant");
    for (const StoredTensor& tensor : file.tensors()) {  // every byte a tensor claims is there
      const auto* bytes = static_cast<const unsigned char*>(tensor.data);
      for (int64_t i = 0; i < tensor.bytes; ++i) sum += bytes[i];
    }
  });
  EXPECT_GT(errors, 300) << sum;
}

// Without the disk, so many more.
TEST(HostileFiles, MutatedHeadersOnlyThrowErrors) {
  const TemporaryFolder folder;
  const std::string valid = small_safetensors(folder);
  const size_t data = 12 * 4 + 6 * 8 + 12 * 2 + 5;
  const std::string header = valid.substr(8, valid.size() - 8 - data);
  EXPECT_EQ(parse_safetensors_header(header, data, "valid").tensors.size(), 4u);
  const int errors = refused(header, 6, 30000, [&](const std::string& mutant) {
    int64_t end = 0;
    for (const StoredTensor& tensor : parse_safetensors_header(mutant, data, "mutant").tensors) {
      EXPECT_EQ(tensor.offset, end);
      end += tensor.bytes;
    }
    EXPECT_EQ(end, int64_t{data});
  });
  EXPECT_GT(errors, 20000);
}

// With every field that yarn has.
std::string yarn_config() {
  return testing::with_field(
      testing::tiny_flat_config(), "/rope_scaling",
      R"({"type": "yarn", "mrope_section": [2, 3, 3], "factor": 4.0, "original_max_position_embeddings": 256,
          "beta_fast": 32, "beta_slow": 1, "attention_factor": 1.1, "mscale": 1, "mscale_all_dim": 0.5,
          "truncate": true})");
}

// Values no field expects, in place of each value of the config in turn.
TEST(HostileFiles, ReplacedConfigValuesOnlyThrowErrors) {
  const std::array<const char*, 17> values{"null",
                                           "-1",
                                           "0",
                                           "1",
                                           "3",
                                           "1048576",
                                           "9223372036854775807",
                                           "18446744073709551615",
                                           "-1e308",
                                           "1e308",
                                           "0.5",
                                           "3.0",
                                           "1e-300",
                                           "\"x\"",
                                           "[]",
                                           "{}",
                                           "[1, 2, 3]"};
  for (const std::string& valid :
       {testing::tiny_flat_config(), testing::tiny_nested_config(), yarn_config()}) {
    const nlohmann::json flat = nlohmann::json::parse(valid).flatten();
    for (const auto& item : flat.items()) {
      for (const char* value : values) {
        const std::string json = testing::with_field(valid, item.key(), value);
        try {
          const ModelConfig config = parse_config(json, "config.json");
          if (config.text.num_hidden_layers > 64 || config.vision.depth > 64) continue;
          for (const ExpectedTensor& tensor : expected_tensors(config))
            element_count(tensor.shape, tensor.name);
        } catch (const Error& error) {
          EXPECT_NE(error.message().find("config.json"), std::string::npos) << item.key() << " = " << value;
        }
      }
    }
  }
}

TEST(HostileFiles, MutatedConfigsOnlyThrowErrors) {
  for (const std::string& valid : {testing::tiny_flat_config(), testing::tiny_nested_config(),
                                   testing::tiny_newest_config(), yarn_config()}) {
    EXPECT_GT(refused(valid, 2, 2000, [](const std::string& mutant) { parse_config(mutant, "config.json"); }),
              1000);
  }
}

TEST(HostileFiles, MutatedSmallConfigsOnlyThrowErrors) {
  const std::string generation =
      R"({"do_sample": true, "eos_token_id": [151645, 151643], "temperature": 0.7,
          "no_repeat_ngram_size": 3, "stop_strings": ["a", "b"]})";
  const std::string preprocessor =
      R"({"min_pixels": 3136, "size": {"longest_edge": 99999}, "image_std": [1, 1, 1]})";
  EXPECT_GT(refused(generation, 3, 2000, [](const std::string& m) { parse_generation_config(m, "g.json"); }),
            1000);
  EXPECT_GT(
      refused(preprocessor, 4, 2000, [](const std::string& m) { parse_preprocessor_config(m, "p.json"); }),
      1000);
}

TEST(HostileFiles, MutatedIndexesOnlyThrowErrors) {
  const TemporaryFolder folder;
  const ModelConfig config = parse_config(testing::tiny_flat_config(), "config.json");
  write_bytes(folder / "config.json", testing::tiny_flat_config());
  testing::write_tiny_weights(folder / "a.safetensors", config, testing::Era::older, DType::bf16);
  const std::string valid = R"({"metadata": {}, "weight_map": {"model.norm.weight": "a.safetensors"}})";
  write_bytes(folder / "model.safetensors.index.json", valid);
  EXPECT_NO_THROW(Checkpoint::open(folder.path()));
  EXPECT_GT(refused(valid, 5, 500,
                    [&](const std::string& mutant) {
                      write_bytes(folder / "model.safetensors.index.json", mutant);
                      Checkpoint::open(folder.path());
                    }),
            250);
}

}  // namespace
}  // namespace fovea
