// Goal: checkpoints in the layouts of AutoAWQ and GPTQ are read as they are, and absurd ones are refused by
// name. Method: tests/quantized (tools/make_quantized_goldens.py) holds tiny ones with the matrices that the
// published formulas give in torch, compared bit for bit, and transformers' logits from these matrices,
// compared within the bound that tests/golden_test.cc derives.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/safetensors_writer.h"
#include "model/weight_store.h"
#include "plan/plan.h"
#include "runtime/engine.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = fs::path(FOVEA_SOURCE_DIR) / "tests" / "quantized";
const std::string kLayer = "model.layers.1.";

std::vector<double> widened(const StoredTensor& tensor) {
  std::vector<double> values;
  for (int64_t i = 0; i < element_count(tensor.shape, tensor.name); ++i) {
    values.push_back(tensor.type == StoredType::f32 ? double{tensor.as<float>()[i]}
                                                    : double{f32_from_bf16(tensor.as<uint16_t>()[i])});
  }
  return values;
}

double distance(std::span<const double> a, std::span<const double> b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

class Published : public testing::TestWithParam<const char*> {
 protected:
  fs::path model() const { return kFolder / GetParam(); }
  SafetensorsFile expected() const {
    return SafetensorsFile::open(model() / "expected" / "outputs.safetensors");
  }
};

INSTANTIATE_TEST_SUITE_P(Layouts, Published, testing::Values("awq", "gptq_act_order", "gptq_8bit"),
                         [](const auto& layout) { return std::string(layout.param); });

TEST_P(Published, MatricesAreThoseOfThePublishedFormula) {
  const Checkpoint checkpoint = Checkpoint::open(model());
  const WeightStore store(checkpoint);
  const SafetensorsFile reference = expected();
  int matrices = 0;
  for (const StoredTensor& tensor : reference.tensors()) {
    if (!tensor.name.starts_with(kLayer)) continue;
    ++matrices;
    const HeldMatrix held =
        store.matrix("model.language_model." + tensor.name.substr(std::string("model.").size()), DType::f16);
    const MatrixView& view = *held.view;
    ASSERT_EQ(view.dtype, DType::f16);
    ASSERT_EQ((std::vector<int64_t>{view.rows, view.cols}), tensor.shape);
    const auto* ours = static_cast<const uint16_t*>(view.data);
    // Values, not bits: torch's zero may be negative.
    for (int64_t i = 0; i < view.rows * view.cols; ++i) {
      ASSERT_EQ(f32_from_f16(ours[i]), f32_from_f16(tensor.as<uint16_t>()[i])) << tensor.name << " " << i;
    }
  }
  EXPECT_EQ(matrices, 2);
}

TEST_P(Published, LogitsAreThoseOfTheWidenedModel) {
  EngineOptions options;
  options.policy = PrecisionPolicy::parse_text("dtype=fp32,text.weights=fp16");
  const Engine engine = Engine::open(model(), options, {});
  const Prompt prompt =
      engine.prepare(messages_from_prompt("<image>What is in the picture?",
                                          {(model() / "inputs" / "image0.png").string()}, {}, {}),
                     {}, false);
  const SafetensorsFile reference = expected();
  const auto* ids = reference.tensor("input_ids").as<int32_t>();
  ASSERT_EQ(prompt.ids, std::vector<int32_t>(ids, ids + reference.tensor("input_ids").shape[0]));
  const std::vector<double> exact = widened(reference.tensor("logits_fp32")),
                            rounded = widened(reference.tensor("logits_bf16_sdpa"));
  const Evaluation evaluation = engine.evaluate(prompt, 0, {});
  const auto all = evaluation.logits.span();
  const std::vector<double> ours(all.end() - static_cast<int64_t>(exact.size()), all.end());
  const double bound = 2 * 35 * 0x1p-15 * distance(rounded, exact);
  ASSERT_LT(bound, 3e-4);
  EXPECT_LE(distance(ours, exact), bound);
}

TEST_P(Published, ThePlanCountsTheWidenedWeights) {
  const Engine engine = Engine::open(model(), {}, {});
  EXPECT_EQ(engine.dtype(), DType::f16);
  PlanRequest request;
  request.text_tokens = request.answer_tokens = 16;
  int64_t quantized = 0, stored = 0;
  for (const TensorInfo& tensor : engine.checkpoint().tensors()) {
    stored += tensor.bytes();
    if (tensor.format != WeightFormat::plain) quantized += tensor.elements();
  }
  EXPECT_GT(quantized, 0);
  const Plan plan = make_plan(engine.checkpoint(), engine.precision(), request);
  EXPECT_EQ(plan.weights, stored);
  EXPECT_EQ(plan.converted_weights, 2 * quantized);
  EngineOptions again;
  // Quantized anew, from widened weights of which none stays.
  again.policy = PrecisionPolicy::of_preset("balanced");
  const int64_t anew =
      make_plan(engine.checkpoint(), engine.with(again).precision(), request).converted_weights;
  EXPECT_GT(anew, quantized);
  EXPECT_LT(anew, 2 * quantized);
}

using Change = std::function<void(std::vector<TensorToWrite>&)>;

// Opens a copy of the layout with changed tensors or config and expects a refusal.
void expect_refusal(const std::string& layout, const Change& change,
                    const std::function<void(nlohmann::json&)>& configure, ErrorKind kind,
                    const std::vector<std::string>& words) {
  std::string name = (fs::temp_directory_path() / "fovea-published-XXXXXX").string();
  ASSERT_NE(mkdtemp(name.data()), nullptr);
  const fs::path folder = fs::path(name) / "model";
  fs::copy(kFolder / layout, folder, fs::copy_options::recursive);
  const SafetensorsFile file = SafetensorsFile::open(kFolder / layout / "model.safetensors");
  std::vector<TensorToWrite> tensors;
  for (const StoredTensor& tensor : file.tensors()) {
    tensors.push_back({tensor.name, tensor.type, tensor.shape, tensor.data});
  }
  if (change) change(tensors);
  write_safetensors(folder / "model.safetensors", tensors, {});
  std::ifstream in(folder / "config.json");
  nlohmann::json config = nlohmann::json::parse(in);
  if (configure) configure(config);
  std::ofstream(folder / "config.json") << config;
  try {
    Checkpoint::open(folder);
    ADD_FAILURE() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    for (const std::string& word : words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  }
  fs::remove_all(name);
}

TensorToWrite& named(std::vector<TensorToWrite>& tensors, const std::string& ending) {
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const TensorToWrite& tensor) {
    return tensor.name == kLayer + ending;
  });
  FOVEA_CHECK(found != tensors.end());
  return *found;
}
Change without(const std::string& ending) {
  return [=](auto& tensors) {
    const std::string name = named(tensors, ending).name;
    std::erase_if(tensors, [&](const TensorToWrite& tensor) { return tensor.name == name; });
  };
}
Change halved(const std::string& ending) {
  return [=](auto& tensors) { named(tensors, ending).shape[0] /= 2; };
}

TEST(PublishedHostile, PartsThatAreMissingOrOfAnotherShape) {
  for (const std::string part : {"qweight", "qzeros", "scales"}) {
    const std::string name = "mlp.down_proj." + part;
    expect_refusal("awq", without(name), {}, ErrorKind::not_found, {name, "missing"});
    expect_refusal("gptq_act_order", without(name), {}, ErrorKind::not_found, {name, "missing"});
    expect_refusal("awq", halved(name), {}, ErrorKind::corrupt, {name, "implies"});
    expect_refusal("gptq_act_order", halved(name), {}, ErrorKind::corrupt, {name, "implies"});
  }
  expect_refusal("gptq_act_order", halved("mlp.down_proj.g_idx"), {}, ErrorKind::corrupt, {"g_idx"});
  expect_refusal(
      "awq", [](auto& tensors) { named(tensors, "mlp.up_proj.scales").type = StoredType::bf16; },
      [](auto& config) { config["quantization_config"]["group_size"] = 64; }, ErrorKind::corrupt, {"qzeros"});
}

TEST(PublishedHostile, GroupsThatDoNotExist) {
  for (const int32_t group : {-1, 4, 1 << 30}) {
    std::vector<int32_t> groups(256, 0);
    groups[200] = group;
    expect_refusal("gptq_act_order",
                   [&](auto& tensors) { named(tensors, "mlp.down_proj.g_idx").data = groups.data(); }, {},
                   ErrorKind::corrupt, {"g_idx", "column 200", "of 4"});
  }
}

TEST(PublishedHostile, ConfigsThatBelongToOthers) {
  const auto set = [](const char* field, const nlohmann::json& value) {
    return [=](nlohmann::json& config) { config["quantization_config"][field] = value; };
  };
  expect_refusal("awq", {}, [](auto& config) { config.erase("quantization_config"); }, ErrorKind::unsupported,
                 {"quantization_config"});
  expect_refusal("awq", {}, set("quant_method", "bitsandbytes"), ErrorKind::unsupported, {"bitsandbytes"});
  expect_refusal("awq", {}, set("quant_method", "gptq"), ErrorKind::corrupt, {"qweight"});
  expect_refusal("gptq_8bit", {}, set("bits", 4), ErrorKind::corrupt, {"qweight"});
  expect_refusal("awq", {}, set("group_size", 48), ErrorKind::corrupt, {"group_size 48"});
  expect_refusal("awq",
                 [](auto& tensors) {
                   for (TensorToWrite& tensor : tensors) {
                     if (tensor.name == "model.embed_tokens.weight")
                       tensor.name = "model.embed_tokens.qweight";
                   }
                 },
                 {}, ErrorKind::unsupported, {"embed_tokens", "no projection"});
}

}  // namespace
}  // namespace fovea
