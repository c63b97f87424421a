// Goal: an adapter's tensors find their places whatever the names' era, and what contradicts itself, the
// model or fovea is refused by name. Method: tests/lora/plain and its like, written anew with one thing
// changed each.
#include "checkpoint/lora_adapter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/temporary_folder_testing.h"
#include "checkpoint/lora_config.h"
#include "checkpoint/lora_names.h"
#include "checkpoint/safetensors_writer.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kTests = fs::path(FOVEA_SOURCE_DIR) / "tests";

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  return {std::istreambuf_iterator<char>(in), {}};
}

ModelConfig model() { return parse_config(text_of(kTests / "golden/one_image/config.json"), "config.json"); }

// An adapter that is read, changed and written again.
class Changed {
 public:
  explicit Changed(const std::string& name)
      : file_(SafetensorsFile::open(folder_of(name) / "adapter_model.safetensors")) {
    config = json::parse(text_of(folder_of(name) / "adapter_config.json"));
    for (const StoredTensor& tensor : file_.tensors())
      tensors.push_back({tensor.name, tensor.type, tensor.shape, tensor.data});
  }
  static fs::path folder_of(const std::string& name) { return kTests / "lora" / name; }

  void rename(const std::string& from, const std::string& to) {
    for (TensorToWrite& tensor : tensors) {
      if (const size_t at = tensor.name.find(from); at != std::string::npos)
        tensor.name.replace(at, from.size(), to);
    }
  }
  LoraAdapter open() const {
    folder.write("adapter_config.json", config.dump());
    write_safetensors(folder.path() / "adapter_model.safetensors", tensors, {{"format", "pt"}});
    return LoraAdapter::open(folder.path(), model());
  }

  json config;
  std::vector<TensorToWrite> tensors;
  TemporaryFolder folder;

 private:
  SafetensorsFile file_;
};

// The error's words, both sentences; empty when there was none.
std::string refusal(const std::function<void()>& action, ErrorKind kind) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "";
}

void expect_refused(const Changed& adapter, ErrorKind kind, const std::string& words) {
  const std::string text = refusal([&] { adapter.open(); }, kind);
  EXPECT_NE(text.find(words), std::string::npos) << "wanted: " << words << "\ngot: " << text;
}

TEST(LoraAdapter, ReadsEveryGolden) {
  const std::pair<const char*, std::pair<size_t, size_t>> kCounts[] = {
      {"plain", {33, 0}},  {"rslora", {6, 0}}, {"patterns", {9, 0}}, {"dora", {10, 0}},
      {"vision", {10, 0}}, {"saved", {3, 5}},  {"embedding", {4, 1}}};
  for (const auto& [name, counts] : kCounts) {
    const LoraAdapter adapter = LoraAdapter::open(Changed::folder_of(name), model());
    EXPECT_EQ(adapter.changes().size(), counts.first) << name;
    EXPECT_EQ(adapter.replacements().size(), counts.second) << name;
    EXPECT_TRUE(adapter.warnings().empty()) << name << ": " << adapter.warnings().front();
  }
}

TEST(LoraAdapter, TakesTheFourPrefixes) {
  for (const char* text : {"model.language_model.layers", "model.layers", "language_model.layers"}) {
    for (const char* base : {"base_model.model.", ""}) {
      Changed adapter("rslora");
      adapter.rename("base_model.model.model.language_model.layers", std::string(base) + text);
      EXPECT_EQ(adapter.open().changes().front().tensor,
                "model.language_model.layers.0.self_attn.q_proj.weight");
    }
  }
  Changed vision("vision");
  vision.rename("base_model.model.model.visual.", "base_model.model.visual.");
  EXPECT_EQ(vision.open().changes().front().tensor, "model.visual.blocks.0.attn.proj.weight");
  Changed named("rslora");
  named.rename("lora_A.weight", "lora_A.default.weight");
  EXPECT_EQ(named.open().changes().size(), 6u);
}

TEST(LoraAdapter, ScalesAsTheConfigSays) {
  EXPECT_EQ(LoraAdapter::open(Changed::folder_of("plain"), model()).changes().front().scale, 2);
  EXPECT_EQ(LoraAdapter::open(Changed::folder_of("rslora"), model()).changes().front().scale,
            4 / std::sqrt(4.0));
  const LoraAdapter patterns = LoraAdapter::open(Changed::folder_of("patterns"), model());
  std::map<std::string, std::pair<int64_t, double>> found;
  for (const LoraChange& change : patterns.changes()) found[change.tensor] = {change.rank(), change.scale};
  const auto of = [&](const char* module) {
    return found.at(std::string("model.language_model.layers.") + module + ".weight");
  };
  EXPECT_EQ(of("0.self_attn.q_proj"), std::make_pair(int64_t{2}, 5 / 2.0));
  EXPECT_EQ(of("1.self_attn.q_proj"), std::make_pair(int64_t{2}, 8 / 2.0));
  EXPECT_EQ(of("1.self_attn.v_proj"), std::make_pair(int64_t{3}, 8 / 3.0));
  EXPECT_EQ(of("2.self_attn.o_proj"), std::make_pair(int64_t{4}, 3 / 4.0));
}

TEST(LoraAdapter, ATensorWithoutPlaceAndAPlaceWithoutTensorAreErrors) {
  Changed other("rslora");
  other.rename("layers.2.self_attn.q_proj", "layers.3.self_attn.q_proj");
  expect_refused(other, ErrorKind::unsupported,
                 "layers.3.self_attn.q_proj.lora_A.weight, which has no place");
  Changed missing("rslora");
  missing.tensors.erase(missing.tensors.begin(), missing.tensors.begin() + 2);
  expect_refused(missing, ErrorKind::corrupt, "no tensors: model.language_model.layers.0.self_attn.q_proj");
  Changed alone("rslora");
  alone.tensors.erase(alone.tensors.begin());
  expect_refused(alone, ErrorKind::corrupt, "alone");
  Changed saved("saved");
  saved.tensors.erase(
      std::find_if(saved.tensors.begin(), saved.tensors.end(),
                   [](const TensorToWrite& tensor) { return tensor.name.ends_with("merger.mlp.0.bias"); }));
  expect_refused(saved, ErrorKind::corrupt, "has no tensor for model.visual.merger.mlp.0.bias");
  Changed regex("rslora");  // what PEFT matches by a regular expression is taken as the tensors say
  regex.config["target_modules"] = ".*(q|v)_proj";
  regex.tensors.resize(4);
  EXPECT_EQ(regex.open().changes().size(), 2u);
  Changed empty("rslora");
  empty.tensors.clear();
  expect_refused(empty, ErrorKind::corrupt, "is empty");
  Changed twice("rslora");
  twice.rename("base_model.model.model.language_model.layers.1", "base_model.model.model.layers.0");
  expect_refused(twice, ErrorKind::corrupt, "another tensor for the same place");
}

TEST(LoraAdapter, ShapesAndRanksAreThoseOfTheModelAndTheConfig) {
  Changed rank("rslora");
  rank.config["r"] = 5;
  expect_refused(rank, ErrorKind::corrupt, "has rank 4, adapter_config.json says 5");
  rank.config["r"] = 0;
  expect_refused(rank, ErrorKind::invalid_argument, "outside 1 to 16384");
  rank.config["r"] = int64_t{1} << 40;
  expect_refused(rank, ErrorKind::invalid_argument, "outside 1 to 16384");
  Changed shape("rslora");
  for (TensorToWrite& tensor : shape.tensors) {
    if (tensor.name.ends_with("lora_A.weight")) tensor.shape = {4, 64};
  }
  expect_refused(shape, ErrorKind::corrupt, "whose weight is [128, 128]");
  Changed type("rslora");
  type.tensors.front().type = StoredType::i32;
  expect_refused(type, ErrorKind::unsupported, "I32");
}

TEST(LoraAdapter, OtherKindsAreRefusedByName) {
  const std::tuple<const char*, json, const char*> kFields[] = {
      {"peft_type", "LOHA", "applies LORA alone"},
      {"init_lora_weights", "pissa", "a base that was changed"},
      {"lora_bias", true, "lora_bias"},
      {"layer_replication", json::array({json::array({0, 1})}), "layer_replication"},
      {"trainable_token_indices", json::array({1}), "trainable_token_indices"},
      {"target_parameters", json::array({"x"}), "target_parameters"},
      {"alpha_pattern", {{".*q_proj", 3}}, "regular expression"},
      {"use_dora", true, "has no lora_magnitude_vector, and use_dora is true"},
  };
  for (const auto& [field, value, words] : kFields) {
    Changed adapter("rslora");
    adapter.config[field] = value;
    const bool corrupt = std::string(field) == "use_dora";
    expect_refused(adapter, corrupt ? ErrorKind::corrupt : ErrorKind::unsupported, words);
  }
  Changed ambiguous("rslora");
  ambiguous.config["alpha_pattern"] = {{"q_proj", 3}, {"self_attn.q_proj", 4}};
  expect_refused(ambiguous, ErrorKind::invalid_argument, "both mean");
  Changed unknown("rslora");
  unknown.config["use_something_new"] = true;
  EXPECT_EQ(unknown.open().warnings().size(), 1u);
}

TEST(LoraAdapter, PickledFilesAreRefusedWithARemedy) {
  const TemporaryFolder folder;
  const auto open = [&] { LoraAdapter::open(folder.path(), model()); };
  EXPECT_NE(refusal(open, ErrorKind::not_found).find("adapter_config.json is missing"), std::string::npos);
  folder.write("adapter_config.json", text_of(Changed::folder_of("plain") / "adapter_config.json"));
  folder.write("adapter_model.bin", "x");
  EXPECT_NE(refusal(open, ErrorKind::unsupported).find("save_pretrained"), std::string::npos);
  fs::copy(Changed::folder_of("plain") / "adapter_model.safetensors", folder.path());
  EXPECT_EQ(LoraAdapter::open(folder.path(), model()).changes().size(), 33u);
  folder.write("non_lora_state_dict.bin", "x");
  EXPECT_NE(refusal(open, ErrorKind::unsupported).find("trained beside the adapter"), std::string::npos);
}

TEST(LoraNames, ModulesAreMeantByNameOrEnd) {
  EXPECT_TRUE(names_module("q_proj", "model.layers.0.self_attn.q_proj"));
  EXPECT_FALSE(names_module("proj", "model.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(names_module("^model\\.layers.0.self_attn.q_proj$", "model.layers.0.self_attn.q_proj"));
  EXPECT_FALSE(names_module("^layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj"));
  EXPECT_FALSE(names_module(".*", "model.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(names_module_of("visual.blocks.0.attn.qkv", "model.visual.blocks.0.attn.qkv.weight"));
  EXPECT_TRUE(
      names_module_of("^model.layers.0.mlp.up_proj", "model.language_model.layers.0.mlp.up_proj.weight"));
  EXPECT_FALSE(parse_lora_name("transformer.h.0.attn.lora_A.weight"));
  EXPECT_FALSE(parse_lora_name("base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias"));
}

}  // namespace
}  // namespace fovea
