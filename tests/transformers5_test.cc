// Goal: what transformers 5 decides beside a forward pass is decided alike. Method: goldens of
// tools/make_goldens_5.py, make_processor_goldens.py and make_yarn_goldens.py, which name its version.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/temporary_folder_testing.h"
#include "checkpoint/config.h"
#include "checkpoint/preprocessor_config.h"
#include "model/text_frequencies.h"
#include "runtime/engine.h"

namespace fovea {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

const fs::path kTests = fs::path(FOVEA_SOURCE_DIR) / "tests";

json read(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  return json::parse(in);
}

// --- generation ----------------------------------------------------------------------------------------

class Generations : public testing::TestWithParam<bool> {};

TEST_P(Generations, BansAndStopStringsGiveTheTokensOfTransformers) {
  const fs::path folder = kTests / "golden5" / "saved_by_5";
  const Engine engine = Engine::open(folder, {.dtype = DType::f32}, {});
  std::vector<Message> messages = parse_messages(read(folder / "inputs" / "messages.json").dump());
  for (Message& message : messages) {
    for (ContentPart& part : message.content) {
      if (part.type == ContentPart::Type::image) part.source = (folder / "inputs" / part.source).string();
    }
  }
  const Prompt prompt = engine.prepare(messages, {}, false);
  const json asked = read(folder / "expected" / "generations.json");
  ASSERT_GE(asked.size(), 5u);
  for (const json& one : asked) {
    SCOPED_TRACE(one["options"].dump());
    GenerationOptions options;
    options.max_new_tokens = 32;
    options.ignore_eos = true;
    if (!GetParam()) options.prompt_lookup_num_tokens = 0;
    options.sampling.no_repeat_ngram_size = one["options"].value("no_repeat_ngram_size", int64_t{0});
    options.sampling.repetition_penalty = one["options"].value("repetition_penalty", 1.0);
    options.stop = one["options"].value("stop_strings", std::vector<std::string>());
    const Answer answer = engine.generate(prompt, options, {});
    EXPECT_EQ(answer.token_ids, one["tokens"].get<std::vector<int32_t>>());
    EXPECT_EQ(answer.finish_reason, options.stop.empty() ? "length" : "stop");
  }
}

INSTANTIATE_TEST_SUITE_P(Speculating, Generations, testing::Bool());

// --- processor files -----------------------------------------------------------------------------------

TEST(ProcessorFiles, TheLimitsThatCountAreThoseOfTransformers) {
  const json goldens = read(kTests / "data" / "processors" / "goldens.json")["folders"];
  ASSERT_GE(goldens.size(), 60u);
  for (const json& golden : goldens) {
    SCOPED_TRACE(golden.dump());
    TemporaryFolder folder;
    for (const auto& [name, text] : golden["files"].items()) folder.write(name, text.dump());
    const PreprocessorConfig config = read_preprocessor(folder.path(), {});
    if (golden["image"].is_null()) {  // transformers stops, fovea says what it takes instead
      EXPECT_FALSE(config.warnings.empty());
    } else {
      EXPECT_EQ(golden["image"], json({config.min_pixels, config.max_pixels}));
    }
    if (golden["video"].is_null()) continue;
    constexpr int64_t kFrameMin = 128 * 28 * 28, kFrameMax = 768 * 28 * 28;
    EXPECT_EQ(golden["video"], json({config.video_min_pixels.value_or(kFrameMin),
                                     config.video_max_pixels.value_or(kFrameMax)}));
  }
}

// --- rotary frequencies --------------------------------------------------------------------------------

TEST(Yarn, FrequenciesFromAConfigAreThoseOfTransformers) {
  const json config = read(kTests / "golden5" / "yarn" / "config.json");
  const json goldens = read(kTests / "data" / "yarn" / "goldens.json")["scalings"];
  ASSERT_GE(goldens.size(), 40u);
  for (const json& golden : goldens) {
    json stated = config;
    for (const char* field : {"hidden_size", "max_position_embeddings", "rope_theta", "rope_scaling"})
      stated[field] = golden[field];
    stated["num_attention_heads"] = stated["num_key_value_heads"] = golden["heads"];
    stated["vision_config"]["out_hidden_size"] = golden["hidden_size"];
    SCOPED_TRACE(golden["rope_scaling"].dump());
    const TextConfig text = parse_config(stated.dump(), "config.json").text;
    const std::vector<double> found = text_frequencies(text, DType::f32);
    const auto expected = golden["inv_freq"].get<std::vector<double>>();
    ASSERT_EQ(found.size(), expected.size());
    // torch's power of floats is off by at most one unit in the last place, its reciprocal, weights, products
    // and sum by half a unit each: four units bound them.
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 0x1p-21 * expected[i]) << i;
    EXPECT_EQ(text_rotary_scale(text), static_cast<float>(golden["attention_factor"].get<double>()));
  }
}

}  // namespace
}  // namespace fovea
