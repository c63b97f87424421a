// Goal: what fovea quantize writes is computed with as it is stored, bit for bit what the same policy makes
// of the original; the plan knows that nothing is converted; nothing half is left behind and nothing is
// overwritten unasked. Method: golden checkpoints (tied and untied, sizes that fill no block), uniform and
// mixed policies; equality, and a control that differs.
#include "quantize/quantize.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/safetensors_writer.h"
#include "plan/plan.h"
#include "runtime/engine.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

const fs::path kGoldens = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden";

EngineOptions with_policy(const std::string& text) {
  EngineOptions options;
  options.policy = PrecisionPolicy::parse_text(text);
  return options;
}

class Quantize : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "fovea-quantize-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    out_ = folder_ / "out";
  }
  void TearDown() override { fs::remove_all(folder_); }

  QuantizeSummary quantize(const std::string& model, const std::string& policy,
                           const QuantizeOptions& more = {}, const ProgressFn& progress = {}) const {
    const Checkpoint checkpoint = Checkpoint::open(kGoldens / model);
    const EngineOptions engine = with_policy(policy);
    const ResolvedPolicy resolved = engine.policy->resolve(policy_target(engine, checkpoint));
    QuantizeOptions options = more;
    if (options.out.empty()) options.out = out_;
    options.dtype = resolved.dtype;
    options.policy = policy;
    return quantize_checkpoint(checkpoint, resolved.precision, options, progress);
  }

  std::vector<std::string> names() const {
    std::vector<std::string> list;
    for (const auto& entry : fs::directory_iterator(folder_))
      list.push_back(entry.path().filename().string());
    return list;
  }

  fs::path folder_, out_;
};

std::vector<float> results(const Engine& engine, const std::string& model) {
  std::vector<std::string> images;
  if (model != "text_only") images.push_back((kGoldens / model / "inputs" / "image0.png").string());
  const std::string question = images.empty() ? "What is it?" : "What is <image>?";
  const Prompt prompt = engine.prepare(messages_from_prompt(question, images, {}, {}), {}, false);
  const Evaluation evaluation = engine.evaluate(prompt, 16, {});
  std::vector<float> all(evaluation.vision_embeddings.span().begin(),
                         evaluation.vision_embeddings.span().end());
  all.insert(all.end(), evaluation.logits.span().begin(), evaluation.logits.span().end());
  return all;
}

void expect_error(ErrorKind kind, const std::vector<std::string>& words,
                  const std::function<void()>& action) {
  try {
    action();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    for (const std::string& word : words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  }
}

TEST_F(Quantize, StoredIsComputedAsTheSamePolicyComputesTheOriginal) {
  const std::string mixed =
      "text.quantization=w8a8,text.mlp_quantization=int4,text.head=int4,vision.mlp_quantization=w8a8,"
      "vision.layers.0.quantization=int4,text.layers.0.quantization=none";
  for (const std::string model : {"two_images", "three_images", "conversation", "text_only"}) {
    const std::vector<float> plain = results(Engine::open(kGoldens / model, {}, {}), model);
    for (const std::string& policy :
         {std::string("preset=balanced"), std::string("preset=fast"), mixed, "dtype=fp16," + mixed,
          std::string("dtype=fp32,text.quantization=int4")}) {
      QuantizeOptions options;
      options.replace = true;
      ASSERT_TRUE(quantize(model, policy, options).complete);
      const Engine expected = Engine::open(kGoldens / model, with_policy(policy), {});
      const std::vector<float> wanted = results(expected, model);
      const Engine stored = Engine::open(out_, {}, {});
      const Precision &found = stored.precision(), &asked = expected.precision();
      EXPECT_TRUE(found.text.layers == asked.text.layers && found.vision.layers == asked.vision.layers &&
                  found.text.tower.head == asked.text.tower.head && found.logits == asked.logits)
          << model << " " << policy;
      EXPECT_EQ(results(stored, model), wanted) << model << " " << policy;
      EXPECT_EQ(results(stored.with(with_policy(policy)), model), wanted) << model << " " << policy;
      EXPECT_NE(wanted, plain) << "the policy changes nothing";
    }
  }
}

TEST_F(Quantize, APolicyWithoutQuantizationWidensWhatIsStored) {
  quantize("one_image", "preset=fast");
  const Engine engine = Engine::open(out_, {}, {});
  EXPECT_EQ(engine.precision().text.layers[0].quantization, Quantization::int4);
  const Engine widened = engine.with(with_policy("preset=fp32"));
  EXPECT_EQ(widened.precision().text.layers[0].quantization, Quantization::none);
  const Engine original = Engine::open(kGoldens / "one_image", with_policy("preset=fp32"), {});
  EXPECT_NE(results(widened, "one_image"), results(original, "one_image"));
  // The same weights, multiplied by inputs in 8 bits and in fp32.
  const std::vector<float> a = results(widened, "one_image"), b = results(engine, "one_image");
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - double{b[i]}) * (double{a[i]} - double{b[i]});
    norm += double{a[i]} * double{a[i]};
  }
  EXPECT_LT(std::sqrt(difference / norm), 0.1);
}

// In 8 bits it could not be compared with the embedding any more.
TEST_F(Quantize, AHeadThatWasOnlyCalledTiedIsCalledWhatItIs) {
  const fs::path source = folder_ / "source";
  fs::copy(kGoldens / "one_image", source, fs::copy_options::recursive);
  const SafetensorsFile file = SafetensorsFile::open(kGoldens / "one_image" / "model.safetensors");
  std::vector<TensorToWrite> tensors;
  std::vector<uint16_t> head;
  for (const StoredTensor& tensor : file.tensors()) {
    tensors.push_back({tensor.name, tensor.type, tensor.shape, tensor.data});
    if (tensor.name.find("embed_tokens") == std::string::npos) continue;
    ASSERT_EQ(tensor.type, StoredType::bf16);
    const auto* values = tensor.as<uint16_t>();
    head.assign(std::make_reverse_iterator(values + tensor.bytes / 2), std::make_reverse_iterator(values));
    tensors.push_back({"lm_head.weight", tensor.type, tensor.shape, head.data()});
  }
  fs::remove(source / "model.safetensors");
  write_safetensors(source / "model.safetensors", tensors, {{"format", "pt"}});
  quantize(source.string(), "preset=fast");
  const Checkpoint written = Checkpoint::open(out_);
  EXPECT_FALSE(written.config().text.tie_word_embeddings);
  EXPECT_TRUE(written.tensor("lm_head.weight").format != WeightFormat::plain);
  EXPECT_TRUE(written.warnings().empty());
}

TEST_F(Quantize, AnotherQuantizationThanTheStoredOneIsRefused) {
  quantize("one_image", "preset=balanced");
  expect_error(ErrorKind::invalid_argument, {"w8a8", "int4", "layers.0"},
               [&] { Engine::open(out_, with_policy("preset=fast"), {}); });
  expect_error(ErrorKind::unsupported, {"quantized"}, [&] {
    const Checkpoint checkpoint = Checkpoint::open(out_);
    quantize_checkpoint(checkpoint, Engine::open(out_, {}, {}).precision(), {.out = folder_ / "again"}, {});
  });
  expect_error(ErrorKind::unsupported, {"quantized", "stream"},
               [&] { Engine::open(out_, {.weight_limit = WeightLimit{1 << 30, 1 << 30}}, {}); });
}

TEST_F(Quantize, ThePlanCountsNoConversion) {
  for (const std::string model : {"two_images", "three_images"}) {
    QuantizeOptions options;
    options.replace = true;
    const QuantizeSummary summary = quantize(model, "preset=fast", options);
    const Engine engine = Engine::open(out_, {}, {});
    PlanRequest request;
    request.text_tokens = request.answer_tokens = 16;
    const Plan stored = make_plan(engine.checkpoint(), engine.precision(), request);
    EXPECT_EQ(stored.converted_weights, 0);
    EXPECT_EQ(stored.weights, summary.bytes);
    const Plan widened =
        make_plan(engine.checkpoint(), engine.with(with_policy("preset=exact")).precision(), request);
    int64_t quantized = 0;  // in bf16; the extra head of a tied model is then not used
    for (const TensorInfo& tensor : engine.checkpoint().tensors()) {
      const bool extra = tensor.name == "lm_head.weight" && model == "three_images";
      if (tensor.format != WeightFormat::plain && !extra) quantized += 2 * tensor.elements();
    }
    EXPECT_EQ(widened.converted_weights, quantized);
    EXPECT_EQ(widened.weights, summary.bytes);
  }
}

TEST_F(Quantize, TheFolderDescribesItself) {
  const QuantizeSummary summary = quantize("two_images", "text.quantization=w8a8,text.mlp_quantization=int4");
  std::ifstream in(out_ / "config.json");
  const nlohmann::json config = nlohmann::json::parse(in)["quantization_config"];
  EXPECT_EQ(config["quant_method"], "fovea");
  EXPECT_EQ(config["modules"]["int4"].size(), 3u);
  EXPECT_EQ(config["modules"]["w8a8"].size(), 4u);
  EXPECT_EQ(summary.forms.at("int4").tensors, 3);
  for (const char* name : {"QUANTIZATION.md", "tokenizer.json", "tokenizer_config.json",
                           "preprocessor_config.json", "generation_config.json", "model.safetensors"}) {
    EXPECT_TRUE(fs::exists(out_ / name)) << name;
  }
  EXPECT_EQ(names(), std::vector<std::string>{"out"});
}

TEST_F(Quantize, NothingIsOverwrittenUnasked) {
  quantize("one_image", "preset=balanced");
  expect_error(ErrorKind::invalid_argument, {"already exists", "--force"},
               [&] { quantize("one_image", "preset=fast"); });
  EXPECT_EQ(Engine::open(out_, {}, {}).precision().text.layers[0].quantization, Quantization::w8a8);
  QuantizeOptions options;
  options.replace = true;
  quantize("one_image", "preset=fast", options);
  EXPECT_EQ(Engine::open(out_, {}, {}).precision().text.layers[0].quantization, Quantization::int4);
  EXPECT_EQ(names(), std::vector<std::string>{"out"});
  options.out = folder_;  // holds a folder, but no checkpoint
  expect_error(ErrorKind::invalid_argument, {"no config.json"},
               [&] { quantize("one_image", "preset=fast", options); });
  options.out = kGoldens / "one_image";
  expect_error(ErrorKind::invalid_argument, {"is read"},
               [&] { quantize("one_image", "preset=fast", options); });
}

TEST_F(Quantize, AnInterruptOrAFailureLeavesNothing) {
  std::atomic<bool> cancel{true};
  QuantizeOptions options;
  options.cancel = &cancel;
  EXPECT_FALSE(quantize("one_image", "preset=fast", options).complete);
  EXPECT_EQ(names(), std::vector<std::string>());
  int calls = 0;
  EXPECT_THROW(quantize("one_image", "preset=fast", {},
                        [&](std::string_view, int64_t, int64_t) {
                          if (++calls == 20) throw std::runtime_error("the disk is gone");
                        }),
               std::runtime_error);
  EXPECT_EQ(calls, 20);
  EXPECT_EQ(names(), std::vector<std::string>());
  // What is not ours is not touched.
  fs::create_directory(folder_ / "other.partial");
  std::ofstream(folder_ / "other.partial" / "mine") << "whole";
  options.cancel = nullptr;
  options.out = folder_ / "other";
  expect_error(ErrorKind::invalid_argument, {"other.partial"},
               [&] { quantize("one_image", "preset=fast", options); });
}

TEST_F(Quantize, PartsOfAnotherShapeAreRefused) {
  quantize("one_image", "text.quantization=int4");
  const std::string name = "model.layers.0.self_attn.q_proj.weight";
  for (const std::string ending : {"_packed", "_scale"}) {
    const fs::path bad = folder_ / ("bad" + ending);
    fs::copy(out_, bad);
    const SafetensorsFile file = SafetensorsFile::open(out_ / "model.safetensors");
    std::vector<TensorToWrite> tensors;
    for (const StoredTensor& tensor : file.tensors()) {
      tensors.push_back({tensor.name, tensor.type, tensor.shape, tensor.data});
      if (tensor.name == name + ending) tensors.back().shape.back() /= 2;
    }
    write_safetensors(bad / "model.safetensors", tensors, {});
    expect_error(ErrorKind::corrupt, {"q_proj.weight" + ending}, [&] { Checkpoint::open(bad); });
  }
}

}  // namespace
}  // namespace fovea
