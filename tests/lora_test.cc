// Goal: fovea merge writes the model that PEFT computes with. Method: tests/lora (tools/make_lora_goldens.py)
// on the golden checkpoint one_image in f32; every changed weight and the logits beside PEFT's.
//
// A merged weight is a sum of 1 + rank products that PEFT makes in f32 and fovea in f64, so they differ by at
// most (rank + 3) * 2^-24 of the sum of magnitudes (Higham, Accuracy and Stability, 3.1), and with DoRA by
// the length of a row of n elements more: n * 2^-24. The logits' bound is that of golden_test.cc, with the
// sensitivity that the golden states.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/temporary_folder_testing.h"
#include "checkpoint/lora_adapter.h"
#include "checkpoint/safetensors_writer.h"
#include "model/quantized_matrix.h"
#include "model/weight_store.h"
#include "quantize/merge.h"
#include "runtime/engine.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

const fs::path kTests = fs::path(FOVEA_SOURCE_DIR) / "tests", kGolden = kTests / "golden" / "one_image";

// The base with its weights in f32.
struct Base {
  Base() {
    for (const auto& entry : fs::directory_iterator(kGolden)) {
      if (entry.path().extension() == ".json") fs::copy(entry.path(), folder.path());
    }
    const Checkpoint checkpoint = Checkpoint::open(kGolden);
    std::vector<Buffer<char>> values;
    std::vector<TensorToWrite> tensors;
    for (const TensorInfo& tensor : checkpoint.tensors()) {
      values.push_back(rounded_copy(process_context(), tensor, DType::f32));
      tensors.push_back({tensor.file_name, StoredType::f32, tensor.shape, values.back().data()});
    }
    write_safetensors(folder.path() / "model.safetensors", tensors, {{"format", "pt"}});
  }
  TemporaryFolder folder;
};

class LoraGolden : public ::testing::TestWithParam<const char*> {
 protected:
  LoraGolden()
      : expected(SafetensorsFile::open(dir() / "expected.safetensors")),
        checkpoint(Checkpoint::open(base.folder.path())),
        adapter(LoraAdapter::open(dir(), checkpoint.config())) {}
  static fs::path dir() { return kTests / "lora" / GetParam(); }
  MergeSummary merge() {
    MergeOptions options;
    options.out = out();
    return merge_adapter(checkpoint, adapter, options, {});
  }
  fs::path out() const { return folder.path() / "merged"; }

  Base base;
  TemporaryFolder folder;
  SafetensorsFile expected;
  Checkpoint checkpoint;
  LoraAdapter adapter;
};
INSTANTIATE_TEST_SUITE_P(Cases, LoraGolden,
                         ::testing::Values("plain", "rslora", "patterns", "dora", "vision", "saved",
                                           "embedding"),
                         [](const auto& name) { return std::string(name.param); });

// The sum of magnitudes behind each element of row r of a merged weight, times what DoRA stretches it by.
std::vector<double> magnitudes(const LoraChange& change, const MatrixView& weight, int64_t r,
                               double stretch) {
  std::vector<float> row(static_cast<size_t>(weight.cols)), a(static_cast<size_t>(change.down.cols)),
      b(static_cast<size_t>(change.up.cols));
  widen_row(*process_context().kernels, weight, r, row.data());
  std::vector<double> sums(row.size());
  for (size_t c = 0; c < row.size(); ++c) sums[c] = std::abs(static_cast<double>(row[c]));
  for (int64_t k = 0; k < change.rank(); ++k) {
    widen_row(*process_context().kernels, change.down, k, a.data());
    for (size_t c = 0; c < row.size(); ++c) {
      widen_row(*process_context().kernels, change.up, change.embedding ? static_cast<int64_t>(c) : r,
                b.data());
      const float left = change.embedding ? a[static_cast<size_t>(r)] : a[c];
      sums[c] +=
          std::abs(change.scale * static_cast<double>(left) * static_cast<double>(b[static_cast<size_t>(k)]));
    }
  }
  for (double& sum : sums) sum *= stretch;
  return sums;
}

TEST_P(LoraGolden, EveryChangedWeightIsThatOfPeft) {
  const MergeSummary summary = merge();
  ASSERT_TRUE(summary.complete);
  const Checkpoint merged = Checkpoint::open(out());
  size_t rows_seen = 0;
  for (const StoredTensor& golden : expected.tensors()) {
    if (!golden.name.starts_with("rows.")) continue;
    ++rows_seen;
    const TensorInfo& tensor = merged.tensor(golden.name.substr(5));
    const int64_t rows = golden.shape[0], cols = element_count(golden.shape, golden.name) / rows;
    const auto* ours = static_cast<const float*>(tensor.data);
    const auto change = std::find_if(adapter.changes().begin(), adapter.changes().end(),
                                     [&](const LoraChange& one) { return one.tensor == tensor.name; });
    if (change == adapter.changes().end()) {  // trained as a whole
      for (int64_t i = 0; i < rows * cols; ++i) ASSERT_EQ(ours[i], golden.as<float>()[i]) << golden.name;
      continue;
    }
    const MatrixView before = checkpoint.matrix(tensor.name);
    for (int64_t r = 0; r < rows; ++r) {
      double unit = static_cast<double>(change->rank() + 3) * 0x1p-24, stretch = 1;
      if (change->magnitude.data != nullptr) {
        unit += static_cast<double>(cols) * 0x1p-24;
        stretch = 2;  // rows were stretched by less
      }
      const std::vector<double> sums = magnitudes(*change, before, r, stretch);
      for (int64_t c = 0; c < cols; ++c) {
        const double apart = std::abs(static_cast<double>(ours[r * cols + c]) -
                                      static_cast<double>(golden.as<float>()[r * cols + c]));
        ASSERT_LE(apart, unit * sums[static_cast<size_t>(c)])
            << golden.name << " row " << r << " column " << c;
      }
    }
  }
  EXPECT_EQ(rows_seen, adapter.changes().size() + static_cast<size_t>(summary.replaced));
  EXPECT_EQ(summary.changed, std::ssize(adapter.changes()));
  // What the adapter does not name is as it was.
  for (const TensorInfo& tensor : merged.tensors()) {
    if (expected.find("rows." + tensor.name) != nullptr) continue;
    const TensorInfo& source = checkpoint.tensor(
        checkpoint.has(tensor.name) ? tensor.name : "model.language_model.embed_tokens.weight");
    ASSERT_EQ(tensor.bytes(), source.bytes());
    EXPECT_EQ(std::memcmp(tensor.data, source.data, static_cast<size_t>(tensor.bytes())), 0) << tensor.name;
  }
}

TEST_P(LoraGolden, TheMergedModelComputesWhatPeftComputes) {
  ASSERT_TRUE(merge().complete);
  const Engine engine = Engine::open(out(), {.dtype = DType::f32}, {});
  std::ifstream in(kGolden / "inputs" / "messages.json", std::ios::binary);
  std::vector<Message> messages = parse_messages(std::string(std::istreambuf_iterator<char>(in), {}));
  for (Message& message : messages) {
    for (ContentPart& part : message.content) {
      if (!part.source.empty()) part.source = (kGolden / "inputs" / part.source).string();
    }
  }
  const Evaluation evaluation = engine.evaluate(engine.prepare(messages, {}, false), 0, {});
  const StoredTensor& golden = expected.tensor("logits");
  const int64_t vocabulary = golden.shape[1];
  double apart = 0, norm = 0;
  for (int64_t i = 0; i < golden.shape[0]; ++i) {
    const int64_t position = expected.tensor("logit_positions").as<int32_t>()[i];
    for (int64_t v = 0; v < vocabulary; ++v) {
      const double theirs = golden.as<float>()[i * vocabulary + v];
      const double d = static_cast<double>(evaluation.logits[position * vocabulary + v]) - theirs;
      apart += d * d;
      norm += theirs * theirs;
    }
  }
  const double sensitivity = std::stod(expected.metadata().at("sensitivity"));
  EXPECT_LE(std::sqrt(apart / norm), 2 * 35 * 0x1p-15 * sensitivity);
  EXPECT_LT(sensitivity, 0.1);
}

TEST(Merge, RoundsOnceToTheStoredType) {
  const TemporaryFolder folder;
  const Base base;
  const fs::path adapter = kTests / "lora" / "plain";
  const Checkpoint stored = Checkpoint::open(kGolden), wide = Checkpoint::open(base.folder.path());
  for (const Checkpoint* checkpoint : {&stored, &wide}) {
    MergeOptions options;
    options.out = folder.path() / (checkpoint == &stored ? "bf16" : "f32");
    ASSERT_TRUE(
        merge_adapter(*checkpoint, LoraAdapter::open(adapter, checkpoint->config()), options, {}).complete);
  }
  const Checkpoint narrow = Checkpoint::open(folder.path() / "bf16"),
                   exact = Checkpoint::open(folder.path() / "f32");
  const std::string name = "model.language_model.layers.1.mlp.up_proj.weight";
  const auto* a = static_cast<const uint16_t*>(narrow.tensor(name).data);
  const auto* b = static_cast<const float*>(exact.tensor(name).data);
  for (int64_t i = 0; i < narrow.tensor(name).elements(); ++i) ASSERT_EQ(a[i], bf16_from_f32(b[i])) << i;
}

TEST(Merge, AScaleIsPartOfTheWayAndNoneForWholeTensors) {
  const TemporaryFolder folder;
  const Base base;
  const Checkpoint checkpoint = Checkpoint::open(base.folder.path());
  MergeOptions options;
  options.out = folder.path() / "none";
  options.scale = 0;
  const LoraAdapter adapter = LoraAdapter::open(kTests / "lora" / "plain", checkpoint.config());
  ASSERT_TRUE(merge_adapter(checkpoint, adapter, options, {}).complete);
  const Checkpoint merged = Checkpoint::open(options.out);
  for (const TensorInfo& tensor : merged.tensors())
    EXPECT_EQ(
        std::memcmp(tensor.data, checkpoint.tensor(tensor.name).data, static_cast<size_t>(tensor.bytes())),
        0);
  for (const char* other : {"saved", "dora"}) {
    options.out = folder.path() / other;
    const LoraAdapter whole = LoraAdapter::open(kTests / "lora" / other, checkpoint.config());
    EXPECT_THROW(merge_adapter(checkpoint, whole, options, {}), Error);
    EXPECT_FALSE(fs::exists(options.out));
  }
}

}  // namespace
}  // namespace fovea
