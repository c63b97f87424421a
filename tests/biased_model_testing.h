// The golden checkpoint of one image with biases planted in q and k, as Qwen2.5 has them, under many
// policies.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "checkpoint/safetensors.h"
#include "runtime/engine.h"

namespace fovea::testing {

namespace fs = std::filesystem;

inline const fs::path kModel = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden" / "one_image";
constexpr int64_t kHeads = 2, kHeadDim = 64, kPairs = 32;

// A copy of the checkpoint with planted biases; gone with the object.
class BiasedModel {
 public:
  // `first_pair`: of the four rotary pairs that carry the bias; 28 are the slowest.
  BiasedModel(double bias, double query_offset, int64_t first_pair = 28) {
    std::string pattern = (fs::temp_directory_path() / "fovea-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) std::abort();
    folder_ = pattern;
    for (const auto& entry : fs::directory_iterator(kModel)) {
      if (entry.is_regular_file()) fs::copy_file(entry.path(), folder_ / entry.path().filename());
    }
    for (const char* layer : {"layers.0.", "layers.2."}) {
      plant(layer + std::string("self_attn.k_proj.bias"), bias, first_pair, false);
      plant(layer + std::string("self_attn.q_proj.bias"), query_offset, first_pair, true);
    }
  }
  BiasedModel(const BiasedModel&) = delete;
  ~BiasedModel() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  const fs::path& folder() const { return folder_; }

 private:
  // +-value in the columns of the pairs; in q every other head looks away from the bias.
  void plant(const std::string& end_of_name, double value, int64_t first_pair, bool alternate) const {
    int64_t offset = 0;
    {
      const SafetensorsFile stored = SafetensorsFile::open(folder_ / "model.safetensors");
      const StoredTensor& last = stored.tensors().back();
      for (const StoredTensor& tensor : stored.tensors()) {
        if (!tensor.name.ends_with(end_of_name)) continue;
        offset = stored.bytes() - (last.offset + last.bytes) + tensor.offset;
        EXPECT_EQ(tensor.bytes, kHeads * kHeadDim * 2);
      }
    }
    ASSERT_GT(offset, 0) << end_of_name;
    std::vector<uint16_t> values(kHeads * kHeadDim, 0);
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t i = 0; i < 8; ++i) {
        const int64_t column = first_pair + i % 4 + i / 4 * kPairs;
        const double sign = (i % 3 == 0 ? -1 : 1) * (alternate && h % 2 == 1 ? -1 : 1);
        values[static_cast<size_t>(h * kHeadDim + column)] = bf16_from_f32(static_cast<float>(sign * value));
      }
    }
    std::fstream file(folder_ / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(offset);
    file.write(reinterpret_cast<const char*>(values.data()), kHeads * kHeadDim * 2);
  }

  fs::path folder_;
};

// One checkpoint under many policies.
class Model {
 public:
  Model(double bias, double query_offset, int64_t first_pair = 28)
      : files_(bias, query_offset, first_pair), engine_(Engine::open(files_.folder(), {}, {})) {
    const std::string image = (kModel / "inputs" / "image0.png").string();
    std::string text = "What is <image>?";
    for (int i = 0; i < 40; ++i)
      text += " The " + std::to_string(i * 37 % 101) + " things it shows are many.";
    prompt_ = engine_.prepare(messages_from_prompt(text, {image}, {}, std::nullopt), {}, false);
    exact_ = logits("preset=fp32");
  }

  Engine with(const std::string& policy, GuardMode guard = GuardMode::off) const {
    EngineOptions o;
    o.policy = PrecisionPolicy::parse_text(policy);
    o.guard.mode = guard;
    return engine_.with(o);
  }
  Evaluation evaluate(const Engine& engine, int64_t chunk = 512) const {
    return engine.evaluate(prompt_, chunk, {});
  }
  std::vector<float> logits(const std::string& policy, GuardMode guard = GuardMode::off) const {
    const Evaluation evaluation = evaluate(with(policy, guard));
    return {evaluation.logits.span().begin(), evaluation.logits.span().end()};
  }
  // Relative distance of all logits from fp32's.
  double distance(const std::string& policy) const { return distance(logits(policy)); }
  double distance(const std::vector<float>& mine) const {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < mine.size(); ++i) {
      difference += (double{mine[i]} - double{exact_[i]}) * (double{mine[i]} - double{exact_[i]});
      norm += double{exact_[i]} * double{exact_[i]};
    }
    return std::sqrt(difference / norm);
  }
  const Prompt& prompt() const { return prompt_; }

 private:
  BiasedModel files_;
  Engine engine_;
  Prompt prompt_;
  std::vector<float> exact_;
};

}  // namespace fovea::testing
