#include <map>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/help.h"
#include "cli/model_flag.h"
#include "cli/model_or_config.h"
#include "cli/output.h"
#include "cli/stored_weights.h"
#include "cli/warnings.h"
#include "runtime/engine.h"

namespace fovea {

namespace {

using nlohmann::ordered_json;

struct Part {
  int64_t tensors = 0, parameters = 0, bytes = 0;
};

std::string part_of(const std::string& name) {
  if (name.starts_with("model.visual.merger.")) return "vision merger";
  if (name.starts_with("model.visual.")) return "vision tower";
  if (name.starts_with("lm_head.")) return "output head";
  if (name.find("embed_tokens") != std::string::npos) return "embedding";
  return "text decoder";
}

ordered_json yarn_json(const TextConfig& text) {
  if (!text.yarn) return nullptr;
  return {{"factor", text.yarn->factor},
          {"original_max_position_embeddings", text.yarn->original_max_position_embeddings},
          {"beta_fast", text.yarn->beta_fast},
          {"beta_slow", text.yarn->beta_slow},
          {"attention_factor", text.yarn->attention_factor},
          {"truncate", text.yarn->truncate}};
}

ordered_json config_json(const ModelConfig& c) {
  const VisionConfig& v = c.vision;
  const TextConfig& t = c.text;
  return {{"dtype", name_of(c.dtype)},
          {"text",
           {{"hidden_size", t.hidden_size},
            {"intermediate_size", t.intermediate_size},
            {"num_hidden_layers", t.num_hidden_layers},
            {"num_attention_heads", t.num_attention_heads},
            {"num_key_value_heads", t.num_key_value_heads},
            {"head_dim", t.head_dim},
            {"vocab_size", t.vocab_size},
            {"max_position_embeddings", t.max_position_embeddings},
            {"rms_norm_eps", t.rms_norm_eps},
            {"rope_theta", t.rope_theta},
            {"mrope_section", t.mrope_section},
            {"yarn", yarn_json(t)},
            {"tie_word_embeddings", t.tie_word_embeddings}}},
          {"vision",
           {{"depth", v.depth},
            {"hidden_size", v.hidden_size},
            {"intermediate_size", v.intermediate_size},
            {"num_heads", v.num_heads},
            {"patch_size", v.patch_size},
            {"spatial_merge_size", v.spatial_merge_size},
            {"temporal_patch_size", v.temporal_patch_size},
            {"window_size", v.window_size},
            {"fullatt_block_indexes", v.fullatt_block_indexes},
            {"out_hidden_size", v.out_hidden_size},
            {"tokens_per_second", v.tokens_per_second}}}};
}

ordered_json inspect_json(const Checkpoint& checkpoint, const std::string& model, bool with_tensors) {
  std::map<std::string, Part> parts;
  std::map<std::string, int64_t> dtypes;
  Part total;
  ordered_json tensors = ordered_json::array();
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    for (Part* part : {&parts[part_of(tensor.name)], &total}) {
      ++part->tensors;
      part->parameters += tensor.elements();
      part->bytes += tensor.bytes();
    }
    dtypes[stored_as(tensor)] += tensor.elements();
    if (with_tensors) {
      tensors.push_back({{"name", tensor.name},
                         {"dtype", stored_as(tensor)},
                         {"shape", tensor.shape},
                         {"bytes", tensor.bytes()},
                         {"file", tensor.file},
                         {"file_name", tensor.file_name}});
    }
  }
  ordered_json memory;
  for (const auto& [name, part] : parts) {
    memory[name] = {{"tensors", part.tensors}, {"parameters", part.parameters}, {"bytes", part.bytes}};
  }
  const TextConfig& text = checkpoint.config().text;
  const int64_t kv_values = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim;
  ordered_json result = {{"model", model},
                         {"config", config_json(checkpoint.config())},
                         {"parameters", total.parameters},
                         {"bytes", total.bytes},
                         {"dtypes", dtypes},
                         {"memory", memory},
                         {"kv_cache_bytes_per_token", {{"bf16", 2 * kv_values}, {"fp32", 4 * kv_values}}},
                         {"warnings", checkpoint.warnings()}};
  if (with_tensors) result["tensors"] = tensors;
  return result;
}

void print_text(const ordered_json& info) {
  print_output("{}\n", info["model"].get<std::string>());
  for (const char* section : {"text", "vision"}) {
    print_output("\n{}\n", section);
    for (const auto& [key, value] : info["config"][section].items())
      print_output("  {:<26} {}\n", key, value.dump());
  }
  print_output("\n{:<16} {:>8} {:>12} {:>12}\n", "part", "tensors", "parameters", "memory");
  for (const auto& [name, part] : info["memory"].items()) {
    print_output("{:<16} {:>8} {:>10.1f} M {:>9.1f} MB\n", name, part["tensors"].get<int64_t>(),
                 part["parameters"].get<double>() / 1e6, part["bytes"].get<double>() / 1e6);
  }
  print_output("{:<16} {:>8} {:>10.1f} M {:>9.1f} MB\n", "total", "", info["parameters"].get<double>() / 1e6,
               info["bytes"].get<double>() / 1e6);
  for (const auto& [name, count] : info["dtypes"].items()) {
    print_output("stored as {}: {:.1f} M parameters\n", name, count.get<double>() / 1e6);
  }
  print_output("KV cache: {} bytes per token in bf16\n",
               info["kv_cache_bytes_per_token"]["bf16"].get<int64_t>());
}

}  // namespace

void add_inspect_command(CLI::App& app) {
  struct Flags {
    ModelFlag model;
    std::string config;
    bool json = false;
  };
  const auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("inspect", "show config, parameters, dtypes and memory of a checkpoint");
  add_model_to(*command, flags->model);
  add_config_to(*command, flags->config);
  command->add_flag("--json", flags->json, "one JSON object, with every tensor")->group(kCommonOptions);
  command->callback([flags] {
    const ModelOrConfig model(flags->model, flags->config);
    const Checkpoint checkpoint = Checkpoint::open(model.files());
    print_warnings(checkpoint.warnings());
    const ordered_json info = inspect_json(checkpoint, model.name(), flags->json);
    flags->json ? print_json(info) : print_text(info);
  });
}

}  // namespace fovea
