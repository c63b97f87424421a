// Flags shared by the commands that load a model and take a conversation.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/model_flag.h"
#include "runtime/engine.h"

namespace fovea {

// -t, --threads of any command.
void add_threads(CLI::App& command, int& threads);

struct EngineFlags {
  ModelFlag model;
  std::string attention, vision_attention, dtype, preset, precision,
      resize = "pil", messages, guard = "off", kv_cache_dtype = "auto", device_map, chat_template,
      video_positions = "qwen";
  std::optional<std::string> system, vision_budget, kv_offload_dir;
  std::optional<int64_t> min_pixels, max_pixels, max_image_tokens, max_total_image_tokens;
  std::optional<double> fps;
  int64_t prefill_chunk = 512, zero_stage = 0, tensor_parallel = 1;
  int threads = 0;
  bool add_vision_id = false, kv_offload = false;
  const CLI::App* command_line = nullptr;  // the command that was given prompt and pictures

  void add_to(CLI::App& command);
  // For commands that run a model: --zero-stage.
  void add_zero_to(CLI::App& command);
  // Likewise: --tensor-parallel, behind add_zero_to.
  void add_tensor_parallel_to(CLI::App& command);
  // For commands whose work ranks can share by layers: --device-map.
  void add_device_map_to(CLI::App& command);
  // --device-map for so many ranks.
  DeviceMap device_map_for(const Checkpoint& checkpoint, int ranks) const;
  // Throws Error(unsupported) for what the ranks of a device map do not share. `other`: a flag of the command
  // that is not among these, if it was given.
  void refuse_beside_device_map(const std::optional<std::string>& ram, const char* other = nullptr) const;
  // For commands that take one; what `ram` is for stands in docs/guide/memory.md.
  static void add_ram_to(CLI::App& command, std::optional<std::string>& ram);
  // For commands that run or plan a request: --kv-offload.
  void add_kv_offload_to(CLI::App& command);
  // Only model, precision, pictures' sizes and threads: for commands that take their questions elsewhere.
  void add_engine_to(CLI::App& command);
  MediaLimits media_limits() const;
  // What --preset, --precision and --kv-cache-dtype say; throws Error(invalid_argument) where they contradict
  // other flags.
  std::optional<PrecisionPolicy> policy() const;
  EngineOptions engine_options() const;
  TensorShard tensor_shard() const;
  // Applies --threads and opens the engine, with streamed weights if they are limited. With --zero-stage 3,
  // which wants a limit, all ranks do so together, and each keeps its share of the weights in memory or not.
  // With --device-map all ranks do so, too; each loads its parts only.
  Engine open(const Observer& observer, const std::optional<WeightLimit>& limit, bool share_on_disk) const;
  // What --messages, or the prompt with its pictures, says; reads standard input where --messages is "-".
  std::vector<Message> conversation() const;
  Prompt prepare(const Engine& engine, const std::vector<Message>& conversation,
                 const PromptCheck& check = {}) const;
  Prompt prepare(const Engine& engine, const PromptCheck& check = {}) const {
    return prepare(engine, conversation(), check);
  }

 private:
  std::vector<Message> given_messages() const;
  // What `read` finds in standard input.
  std::string input(const std::function<std::string()>& read) const;
  void add_precision_to(CLI::App& command);
  void add_pictures_to(CLI::App& command);
};

}  // namespace fovea
