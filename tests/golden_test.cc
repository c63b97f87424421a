// Goal: the engine computes what transformers computes, from the files of a checkpoint to its 64th token.
// Method: tests/golden and tests/golden5 hold tiny random checkpoints, conversations and the results of
// transformers 4.57 and 5 (tools/make_goldens.py, make_goldens_5.py); every folder there is a case, and once
// more as "_as_5" where it holds what transformers 5 computes with positions of its own after videos. Ids and
// positions must be equal, numbers within the bounds derived below.
//
// The fp32 bound. To first order the error of an output is sum_n J_n d_n: d_n is the relative rounding error
// made at node n, J_n the sensitivity of the output to it. The committed bf16 run of transformers (sdpa:
// scores kept in fp32) measures that sensitivity for each case: it rounds every node once at unit roundoff
// 2^-9 and ends at a relative distance D from fp32. In fp32 the same nodes round at 2^-24, and a dot product
// of length k, summed in any order, additionally gathers up to about sqrt(k) such errors (Higham and Mary
// 2019, with the partial sums of random signs no larger than the result's scale sqrt(k)); k is at most 1176
// (patch embedding), hence a factor of 35. Two implementations are compared, so the errors of both count:
//     |ours - theirs| <= 2 * 35 * 2^-15 * D * |theirs|      (Euclidean norms; 3e-5 to 1e-4 in these cases)
// and, errors being spread over N elements like noise, no element is off by more than 8 times the mean (eight
// standard deviations).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>

#include "checkpoint/safetensors.h"
#include "runtime/engine.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

const fs::path kTests = fs::path(FOVEA_SOURCE_DIR) / "tests";
constexpr const char* kOwnPositions = "_as_5";
constexpr double kSummation = 35;
constexpr double kWorstToMean = 8;
constexpr int64_t kChunks[] = {1, 7, 64, 0};  // 0: the whole prompt at once

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const char* root : {"golden", "golden5"}) {
    for (const auto& entry : fs::directory_iterator(kTests / root)) {
      if (!entry.is_directory()) continue;
      names.push_back(entry.path().filename().string());
      if (fs::exists(entry.path() / "expected_5")) names.push_back(names.back() + kOwnPositions);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  return {std::istreambuf_iterator<char>(in), {}};
}

// A golden tensor as doubles.
std::vector<double> values_of(const StoredTensor& tensor) {
  const auto count = static_cast<size_t>(element_count(tensor.shape, tensor.name));
  std::vector<double> values(count);
  for (size_t i = 0; i < count; ++i) {
    switch (tensor.type) {
      case StoredType::f32:
        values[i] = static_cast<double>(tensor.as<float>()[i]);
        break;
      case StoredType::bf16:
        values[i] = static_cast<double>(f32_from_bf16(tensor.as<uint16_t>()[i]));
        break;
      case StoredType::i32:
        values[i] = static_cast<double>(tensor.as<int32_t>()[i]);
        break;
      default:
        ADD_FAILURE() << tensor.name << " has an unexpected type";
    }
  }
  return values;
}

struct Golden {
  explicit Golden(std::string name) {
    if (const size_t end = name.rfind(kOwnPositions); end != std::string::npos) {
      name.resize(end);
      video_positions = VideoPositions::transformers_5;
    }
    folder = kTests / (fs::exists(kTests / "golden" / name) ? "golden" : "golden5") / name;
    const fs::path expected = folder / (video_positions == VideoPositions::qwen ? "expected" : "expected_5");
    outputs.emplace(SafetensorsFile::open(expected / "outputs.safetensors"));
    text = nlohmann::json::parse(text_of(expected / "text.json"));
  }

  std::vector<double> values(const std::string& name) const { return values_of(outputs->tensor(name)); }
  bool has(const std::string& name) const { return outputs->find(name) != nullptr; }

  // The conversation with its pictures found in the case's folder.
  std::vector<Message> messages(const fs::path& pictures) const {
    std::vector<Message> list = parse_messages(text_of(folder / "inputs" / "messages.json"));
    for (Message& message : list) {
      for (ContentPart& part : message.content) {
        if (part.type == ContentPart::Type::text) continue;
        if (!part.source.empty()) part.source = located(pictures, part.source);
        for (std::string& frame : part.frames) frame = located(pictures, frame);
      }
    }
    return list;
  }

  fs::path folder;
  VideoPositions video_positions = VideoPositions::qwen;
  std::optional<SafetensorsFile> outputs;
  nlohmann::json text;

 private:
  // The file in `pictures` if it is there (as PNG), else among the inputs.
  std::string located(const fs::path& pictures, const std::string& name) const {
    const fs::path there = (pictures / name).replace_extension(".png");
    return (fs::exists(there) ? there : folder / "inputs" / name).string();
  }
};

Engine open_engine(const Golden& golden, AttentionKind attention, DType dtype) {
  return Engine::open(golden.folder, {.attention = attention, .vision_attention = attention, .dtype = dtype},
                      {});
}

Prompt prepare(const Engine& engine, const Golden& golden) {
  MediaLimits limits;
  limits.video_positions = golden.video_positions;
  return engine.prepare(golden.messages(golden.folder / "inputs"), limits, false);
}

struct Distance {
  double relative = 0;       // of the Euclidean norms
  double worst_to_mean = 0;  // the largest difference in units of `unit` * the reference's root mean square
  size_t worst_index = 0;
};

// How far `found` is from `reference`; `unit` only scales worst_to_mean. A reference that is constant proves
// nothing.
Distance distance(const std::vector<double>& found, const std::vector<double>& reference, double unit = 1) {
  EXPECT_EQ(found.size(), reference.size());
  double difference = 0, norm = 0, sum = 0, worst = 0;
  Distance result;
  for (size_t i = 0; i < std::min(found.size(), reference.size()); ++i) {
    const double d = std::abs(found[i] - reference[i]);
    if (!(d <= worst)) {
      worst = d;
      result.worst_index = i;
    }
    difference += d * d;
    norm += reference[i] * reference[i];
    sum += reference[i];
  }
  const auto count = static_cast<double>(reference.size());
  EXPECT_GT(norm - sum * sum / count, 0.01 * norm) << "mistrusted: the reference is nearly constant";
  result.relative = std::sqrt(difference / norm);
  result.worst_to_mean = worst / (unit * std::sqrt(norm / count));
  return result;
}

// Our results in the order of the golden tensors.
struct Results {
  std::vector<double> image_embeds, video_embeds, logits;
};

Results evaluate(const Engine& engine, const Golden& golden, const Prompt& prompt, int64_t chunk) {
  const Evaluation evaluation = engine.evaluate(prompt, chunk, {});
  const ModelConfig& config = engine.checkpoint().config();
  Results results;
  const float* row = evaluation.vision_embeddings.data();
  for (const Picture& picture : prompt.pictures) {  // transformers keeps images and videos apart
    const int64_t count = picture.tokens(config.vision.spatial_merge_size) * config.vision.out_hidden_size;
    auto& to = picture.is_video ? results.video_embeds : results.image_embeds;
    to.insert(to.end(), row, row + count);
    row += count;
  }
  EXPECT_EQ(row - evaluation.vision_embeddings.data(), evaluation.vision_embeddings.size());
  const int64_t vocab = config.text.vocab_size;
  for (const double position : golden.values("logit_positions")) {
    const float* from = evaluation.logits.data() + static_cast<int64_t>(position) * vocab;
    results.logits.insert(results.logits.end(), from, from + vocab);
  }
  return results;
}

// Calls body(name, ours) for every kind of result the case has.
template <typename Body>
void for_results(const Golden& golden, const Results& results, Body body) {
  if (golden.has("image_embeds_fp32")) body("image_embeds", results.image_embeds);
  if (golden.has("video_embeds_fp32")) body("video_embeds", results.video_embeds);
  body("logits", results.logits);
}

void expect_within_bound(const Golden& golden, const Results& results) {
  for_results(golden, results, [&](const std::string& name, const std::vector<double>& ours) {
    const std::vector<double> exact = golden.values(name + "_fp32");
    const double sensitivity = distance(golden.values(name + "_bf16_sdpa"), exact).relative;
    const double bound = 2 * kSummation * 0x1p-15 * sensitivity;
    ASSERT_LT(bound, 3e-4) << name << ": the case is too sensitive to prove anything";
    const Distance found = distance(ours, exact, bound);
    EXPECT_LE(found.relative, bound) << name;
    EXPECT_LE(found.worst_to_mean, kWorstToMean) << name << " at element " << found.worst_index;
    testing::Test::RecordProperty(name, fmt::format("{:.1e} of {:.1e}", found.relative, bound));
  });
}

GenerationOptions greedy_options(const Golden& golden, int64_t chunk) {
  GenerationOptions options;
  options.max_new_tokens = static_cast<int64_t>(golden.values("greedy_tokens").size());
  options.ignore_eos = true;
  options.prefill_chunk = chunk;
  return options;
}

std::vector<int32_t> expected_tokens(const Golden& golden) {
  const std::vector<double> values = golden.values("greedy_tokens");
  return {values.begin(), values.end()};
}

class GoldenPrompt : public testing::TestWithParam<std::string> {};

TEST_P(GoldenPrompt, TextIdsAndPositionsEqualTheReference) {
  const Golden golden(GetParam());
  const Engine engine = open_engine(golden, AttentionKind::flash_attention_2, DType::f32);
  const Prompt prompt = prepare(engine, golden);
  EXPECT_EQ(prompt.text, golden.text["prompt"].get<std::string>());
  EXPECT_EQ(std::vector<double>(prompt.ids.begin(), prompt.ids.end()), golden.values("input_ids"));
  std::vector<double> positions;
  for (const auto& axis : prompt.positions.axis) positions.insert(positions.end(), axis.begin(), axis.end());
  EXPECT_EQ(positions, golden.values("position_ids"));
  EXPECT_EQ(static_cast<double>(prompt.positions.next),
            *std::max_element(positions.begin(), positions.end()) + 1);
}

TEST_P(GoldenPrompt, GridsEqualTheReference) {
  const Golden golden(GetParam());
  const Engine engine = open_engine(golden, AttentionKind::flash_attention_2, DType::f32);
  const Prompt prompt = prepare(engine, golden);
  std::vector<double> images, videos;
  for (const Picture& picture : prompt.pictures) {
    auto& to = picture.is_video ? videos : images;
    for (const int64_t side : {picture.grid.t, picture.grid.h, picture.grid.w})
      to.push_back(static_cast<double>(side));
  }
  EXPECT_EQ(images, golden.has("image_grid_thw") ? golden.values("image_grid_thw") : std::vector<double>());
  EXPECT_EQ(videos, golden.has("video_grid_thw") ? golden.values("video_grid_thw") : std::vector<double>());
}

// expected/ holds, under the same names, what Pillow made of the pictures that had to be resized.
TEST_P(GoldenPrompt, ResizedPicturesEqualTheReference) {
  const Golden golden(GetParam());
  const Engine engine = open_engine(golden, AttentionKind::flash_attention_2, DType::f32);
  const Prompt ours = prepare(engine, golden);
  const Prompt theirs = engine.prepare(golden.messages(golden.folder / "expected"), {}, false);
  ASSERT_EQ(ours.pictures.size(), theirs.pictures.size());
  for (size_t i = 0; i < ours.pictures.size(); ++i) {
    const auto a = ours.pictures[i].patches.span(), b = theirs.pictures[i].patches.span();
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << ours.pictures[i].source;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenPrompt, testing::ValuesIn(case_names()),
                         [](const auto& golden_case) { return golden_case.param; });

using CaseAndAttention = std::tuple<std::string, AttentionKind>;

std::string name_of_case(const testing::TestParamInfo<CaseAndAttention>& info) {
  return std::get<0>(info.param) + "_" + name_of(std::get<1>(info.param));
}

class GoldenFp32 : public testing::TestWithParam<CaseAndAttention> {};

TEST_P(GoldenFp32, EmbeddingsAndLogitsAreWithinTheBoundForEveryChunk) {
  const Golden golden(std::get<0>(GetParam()));
  const Engine engine = open_engine(golden, std::get<1>(GetParam()), DType::f32);
  const Prompt prompt = prepare(engine, golden);
  for (const int64_t chunk : kChunks) {
    SCOPED_TRACE(fmt::format("chunk {}", chunk));
    expect_within_bound(golden, evaluate(engine, golden, prompt, chunk));
  }
}

TEST_P(GoldenFp32, GreedyTokensAreIdenticalForEveryChunk) {
  const Golden golden(std::get<0>(GetParam()));
  const Engine engine = open_engine(golden, std::get<1>(GetParam()), DType::f32);
  const Prompt prompt = prepare(engine, golden);
  for (const int64_t chunk : kChunks) {
    SCOPED_TRACE(fmt::format("chunk {}", chunk));
    const Answer answer = engine.generate(prompt, greedy_options(golden, chunk), {});
    EXPECT_EQ(answer.token_ids, expected_tokens(golden));
    EXPECT_EQ(answer.text, golden.text["answer"].get<std::string>());
    EXPECT_EQ(answer.finish_reason, "length");
  }
}

TEST_P(GoldenFp32, GreedyTokensAreIdenticalWithoutCache) {
  const Golden golden(std::get<0>(GetParam()));
  const Engine engine = open_engine(golden, std::get<1>(GetParam()), DType::f32);
  GenerationOptions options = greedy_options(golden, 0);
  options.use_kv_cache = false;
  options.max_new_tokens = 16;
  std::vector<int32_t> expected = expected_tokens(golden);
  expected.resize(16);
  EXPECT_EQ(engine.generate(prepare(engine, golden), options, {}).token_ids, expected);
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenFp32,
                         testing::Combine(testing::ValuesIn(case_names()),
                                          testing::Values(AttentionKind::eager, AttentionKind::sdpa,
                                                          AttentionKind::flash_attention_2)),
                         name_of_case);

// transformers' own CPU runs exist for eager and sdpa.
class GoldenBf16 : public testing::TestWithParam<CaseAndAttention> {};

TEST_P(GoldenBf16, IsNoFurtherFromTheReferenceThanEitherIsFromFp32) {
  const Golden golden(std::get<0>(GetParam()));
  const AttentionKind attention = std::get<1>(GetParam());
  const Engine engine = open_engine(golden, attention, DType::bf16);
  const Prompt prompt = prepare(engine, golden);
  for_results(golden, evaluate(engine, golden, prompt, 0),
              [&](const std::string& name, const std::vector<double>& ours) {
                const std::vector<double> exact = golden.values(name + "_fp32");
                const std::vector<double> theirs = golden.values(name + "_bf16_" + name_of(attention));
                const double apart = distance(ours, theirs).relative;
                const double ours_off = distance(ours, exact).relative,
                             theirs_off = distance(theirs, exact).relative;
                EXPECT_LE(apart, 1.5 * std::min(ours_off, theirs_off)) << name;
                RecordProperty(name, fmt::format("apart {:.5f}, ours from fp32 {:.5f}, theirs {:.5f}", apart,
                                                 ours_off, theirs_off));
              });
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenBf16,
                         testing::Combine(testing::ValuesIn(case_names()),
                                          testing::Values(AttentionKind::eager, AttentionKind::sdpa)),
                         name_of_case);

}  // namespace
}  // namespace fovea
