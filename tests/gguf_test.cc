// Goal: a model in GGUF gives what its weights say: those of a folder with the same values, bit for bit,
// whether they are widened when loaded or computed from their blocks; and nothing is copied that the plan
// does not know. Method: tests/gguf (tools/make_gguf_goldens.py) beside folders that hold the widened values
// in f32, which the engine rounds once; a model of each type with random blocks.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/temporary_folder_testing.h"
#include "checkpoint/safetensors_writer.h"
#include "checkpoint/tensor_names.h"
#include "gguf_models_testing.h"
#include "model/weight_nodes.h"
#include "model/weight_store.h"
#include "plan/plan.h"
#include "quantize/quantize.h"
#include "runtime/engine.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using testing::OneType;

const fs::path kGguf = testing::gguf_goldens(),
               kGolden = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden" / "one_image";

// The same model as a folder, its weights in f32 without a rounding.
void write_widened(const Checkpoint& checkpoint, const TemporaryFolder& folder) {
  for (const auto& [name, text] : checkpoint.folder_texts()) folder.write(name, text);
  std::vector<Buffer<char>> values;
  std::vector<TensorToWrite> tensors;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    values.push_back(rounded_copy(process_context(), tensor, DType::f32));
    tensors.push_back({older_tensor_name(tensor.name), StoredType::f32, tensor.shape, values.back().data()});
  }
  write_safetensors(folder.path() / "model.safetensors", tensors, {{"format", "pt"}});
}

struct Result {
  std::vector<int32_t> ids;
  std::vector<float> values;  // embeddings of the picture, then logits of 12 tokens of an answer
  bool operator==(const Result&) const = default;
};

Result result_of(const ModelFiles& files, const EngineOptions& options = {}) {
  const Engine engine = Engine::open(files, options, {});
  const Prompt prompt =
      engine.prepare(messages_from_prompt("<image>What is in the picture?",
                                          {(kGolden / "inputs" / "image0.png").string()}, {}, {}),
                     {}, false);
  const Evaluation evaluation = engine.evaluate(prompt, 12, {});
  Result result{prompt.ids, {}};
  for (const auto& span : {evaluation.vision_embeddings.span(), evaluation.logits.span()})
    result.values.insert(result.values.end(), span.begin(), span.end());
  return result;
}

EngineOptions computing_in(DType type) {
  EngineOptions options;
  options.dtype = type;
  return options;
}

TEST(Gguf, InBf16ComputesWhatItsFolderComputes) {
  // The patch embedding alone is stored otherwise, in F16.
  const Checkpoint gguf = Checkpoint::open(kGguf / "bf16"), folder = Checkpoint::open(kGolden);
  const auto* a = static_cast<const uint16_t*>(gguf.tensor("model.visual.patch_embed.proj.weight").data);
  const TensorInfo& patches = folder.tensor("model.visual.patch_embed.proj.weight");
  const auto* b = static_cast<const uint16_t*>(patches.data);
  int64_t lost = 0;
  for (int64_t i = 0; i < patches.elements(); ++i) lost += bf16_from_f32(f32_from_f16(a[i])) != b[i];
  const Result ours = result_of(kGguf / "bf16"), theirs = result_of(kGolden);
  EXPECT_EQ(ours.ids, theirs.ids);
  EXPECT_GT(ours.values.size(), 1000u);
  if (lost == 0) {
    EXPECT_TRUE(ours == theirs);
  }
  const TemporaryFolder widened;
  write_widened(gguf, widened);
  EXPECT_TRUE(ours == result_of(widened.path()));
}

TEST(Gguf, AnswersAreThoseOfItsFolderTokenForToken) {
  std::vector<std::vector<int32_t>> answers;
  for (const ModelFiles& files : {ModelFiles(kGguf / "bf16"), ModelFiles(kGolden)}) {
    const Engine engine = Engine::open(files, {}, {});
    const Prompt prompt =
        engine.prepare(messages_from_prompt("<image>What is in the picture?",
                                            {(kGolden / "inputs" / "image0.png").string()}, {}, {}),
                       {}, false);
    GenerationOptions options = engine.default_generation();
    options.sampling = {};
    options.max_new_tokens = 64;
    options.ignore_eos = true;
    answers.push_back(engine.generate(prompt, options, {}).token_ids);
  }
  EXPECT_EQ(answers[0].size(), 64u);
  EXPECT_EQ(answers[0], answers[1]);
}

TEST(Gguf, BlocksComputeWhatTheirWidenedFolderComputes) {
  const TemporaryFolder widened;
  write_widened(Checkpoint::open(kGguf / "mixed"), widened);
  for (const DType type : {DType::bf16, DType::f16, DType::f32}) {
    EXPECT_TRUE(result_of(kGguf / "mixed", computing_in(type)) ==
                result_of(widened.path(), computing_in(type)))
        << name_of(type);
  }
  EXPECT_FALSE(result_of(kGguf / "mixed") == result_of(kGguf / "mixed", computing_in(DType::f32)));
  // A preset that asks for 8-bit activations quantizes what the blocks hold.
  EngineOptions quantized;
  quantized.policy = PrecisionPolicy::parse_text("text.quantization=w8a8,text.head=w8a8");
  EXPECT_TRUE(result_of(kGguf / "mixed", quantized) == result_of(widened.path(), quantized));
}

class OfOneType : public ::testing::TestWithParam<OneType> {};
INSTANTIATE_TEST_SUITE_P(
    Types, OfOneType,
    ::testing::Values(OneType{"F32", {}, 0}, OneType{"F16", {}, 1}, OneType{"BF16", {}, 30},
                      OneType{"Q4_0", BlockFormat::q4_0, 2}, OneType{"Q4_1", BlockFormat::q4_1, 3},
                      OneType{"Q5_0", BlockFormat::q5_0, 6}, OneType{"Q5_1", BlockFormat::q5_1, 7},
                      OneType{"Q8_0", BlockFormat::q8_0, 8}, OneType{"Q4_K", BlockFormat::q4_k, 12},
                      OneType{"Q5_K", BlockFormat::q5_k, 13}, OneType{"Q6_K", BlockFormat::q6_k, 14},
                      OneType{"IQ4_NL", BlockFormat::iq4_nl, 20}, OneType{"IQ4_XS", BlockFormat::iq4_xs, 23}),
    [](const auto& type) { return std::string(type.param.name); });

TEST_P(OfOneType, AWholeModelIsItsWidenedFolder) {
  const TemporaryFolder folder, widened;
  folder.write("model.gguf", testing::model_in(GetParam()));
  const ModelFiles files(folder.path() / "model.gguf", kGguf / "mixed" / "mmproj.gguf");
  const Checkpoint checkpoint = Checkpoint::open(files);
  const TensorInfo& matrix = checkpoint.tensor("model.language_model.layers.1.self_attn.k_proj.weight");
  EXPECT_EQ(matrix.format == WeightFormat::blocks, GetParam().blocks.has_value());
  write_widened(checkpoint, widened);
  const Result ours = result_of(files);
  EXPECT_TRUE(ours == result_of(widened.path(), computing_in(checkpoint.config().dtype)));
  for (const float value : ours.values) ASSERT_TRUE(std::isfinite(value));
}

TEST(Gguf, ThePlanKnowsWhatIsComputedFromBlocks) {
  const Checkpoint mixed = Checkpoint::open(kGguf / "mixed");
  const Engine engine = Engine::open(kGguf / "mixed", {}, {});
  PlanRequest request;
  request.text_tokens = 10;
  const Plan plan = make_plan(mixed, engine.precision(), request);
  int64_t stored = 0, widened = 0, from_blocks = 0;
  for (const TensorInfo& tensor : mixed.tensors()) {
    stored += tensor.bytes();
    if (tensor.shape.size() < 2) continue;
    if (computed_from_blocks(tensor)) {
      from_blocks += tensor.bytes();
    } else if (tensor.format == WeightFormat::blocks || tensor.dtype != DType::bf16) {
      widened += 2 * tensor.elements();
    }
  }
  EXPECT_EQ(plan.weights, stored);
  EXPECT_EQ(plan.converted_weights, widened);
  EXPECT_GT(from_blocks, stored / 3);
}

TEST(Gguf, QuantizesIntoAFolder) {
  const TemporaryFolder folder;
  const Checkpoint checkpoint = Checkpoint::open(kGguf / "mixed");
  EngineOptions options;
  options.policy = PrecisionPolicy::parse_text("text.quantization=w8a8");
  QuantizeOptions out;
  out.out = folder.path() / "out";
  const ResolvedPolicy resolved = options.policy->resolve(policy_target(options, checkpoint));
  out.dtype = resolved.dtype;
  ASSERT_TRUE(quantize_checkpoint(checkpoint, resolved.precision, out, {}).complete);
  EXPECT_TRUE(result_of(out.out, options) == result_of(kGguf / "mixed", options));
}

}  // namespace
}  // namespace fovea
