#include "cli/engine_flags.h"

#include "base/error.h"
#include "base/parallel.h"
#include "cli/byte_size.h"
#include "cli/model_flag.h"
#include "cli/text_file.h"
#include "cli/warnings.h"
#include "comm/world.h"
#include "runtime/pipeline.h"
#include "zero/zero_weights.h"

namespace fovea {

namespace {

MediaOptions::Resize parse_resize(const std::string& name) {
  if (name == "pil_12") return MediaOptions::Resize::pil_12;
  return name == "torchvision" ? MediaOptions::Resize::torchvision : MediaOptions::Resize::pil;
}

}  // namespace

void EngineFlags::add_to(CLI::App& command) {
  add_engine_to(command);
  command.add_option("--image", images, "image file, file:// or data: URL; repeat for several, in order")
      ->type_name("FILE")
      ->allow_extra_args(false);
  command.add_option("--video", videos, "video file; repeat for several, in order")
      ->type_name("FILE")
      ->allow_extra_args(false);
  command.add_option("--system", system, "system prompt (default: the template's own)")->type_name("TEXT");
  command
      .add_option("--messages", messages,
                  "conversation as an OpenAI / Qwen message list, - for standard input")
      ->type_name("FILE.json");
  command.add_option("--fps", fps, "frames sampled per second of video (default 2)")->type_name("F");
  command.add_flag("--add-vision-id", add_vision_id, "number the images in the prompt: \"Picture 1: \"");
  command.add_option("prompt", prompt, "the question; <image> and <video> place the items given by flags");
}

void EngineFlags::add_engine_to(CLI::App& command) {
  const auto attentions = CLI::IsMember({"eager", "sdpa", "flash_attention_2"});
  add_model_to(command, model)->required();
  command
      .add_option("--attn", attention,
                  "attention of the text decoder (and of the vision tower, unless given); default "
                  "flash_attention_2")
      ->check(attentions);
  command.add_option("--vision-attn", vision_attention, "attention of the vision tower")->check(attentions);
  command.add_option("--dtype", dtype, "compute type: fp32, bf16 or fp16 (default: the checkpoint's)")
      ->check(CLI::IsMember({"fp32", "bf16", "fp16"}));
  command
      .add_option(
          "--preset", preset,
          "compute what others compute, by name (fovea presets lists them); takes the place of --attn "
          "and --vision-attn, and of --dtype where the preset has one")
      ->type_name("NAME");
  command
      .add_option(
          "--precision", precision,
          "nodes that differ: \"text.scores=fp32,text.layers.0.k=fp32\", or a .json file (fovea presets "
          "--help lists the nodes); refines --preset or --attn and --dtype")
      ->type_name("TEXT|FILE.json");
  command
      .add_option("--kv-cache-dtype", kv_cache_dtype,
                  "storage of keys and values between tokens: fp32, bf16 or fp16, in every layer that "
                  "--precision does not name; int8: in all but the first and the last layer, with keys "
                  "kept without their bias; auto: as k and v are computed")
      ->check(CLI::IsMember({"auto", "fp32", "bf16", "fp16", "int8"}))
      ->capture_default_str();
  command
      .add_option(
          "--guard", guard,
          "watch for attention scores that their dtype cannot resolve: warn says where, escalate also "
          "recomputes those rows with fp32 scores")
      ->check(CLI::IsMember({"off", "warn", "escalate"}))
      ->capture_default_str();
  command
      .add_option("--min-pixels", min_pixels,
                  "enlarge smaller images and video frames (one token is 28 x 28 pixels)")
      ->type_name("N");
  command
      .add_option("--max-pixels", max_pixels,
                  "shrink larger images and video frames (default for frames: 128 to 768 tokens each)")
      ->type_name("N");
  command
      .add_option("--max-image-tokens", max_image_tokens,
                  "shrink larger images, and groups of two video frames, to this many tokens each")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--max-total-image-tokens", max_total_image_tokens,
                  "tokens of all images and video frames of a request together: the largest shrink to one "
                  "common size, smaller ones stay as they are")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--resize", resize,
                  "bicubic of Pillow 13, of Pillow up to 12, or of torchvision (antialias)")
      ->check(CLI::IsMember({"pil", "pil_12", "torchvision"}))
      ->capture_default_str();
  command
      .add_option("--vision-budget", vision_budget,
                  "memory in which the vision tower takes several groups of video frames at once (default "
                  "256Mi); it changes no result")
      ->type_name("SIZE");
  command.add_option("--prefill-chunk", prefill_chunk, "prompt tokens per step, 0 for all at once")
      ->type_name("N")
      ->capture_default_str();
  command.add_option("--threads", threads, "worker threads (default: one per core)")->type_name("N");
}

void EngineFlags::add_ram_to(CLI::App& command, std::optional<std::string>& ram) {
  command
      .add_option(
          "--ram", ram,
          "resident memory of the whole process, as 2G: weights that do not fit stay on disk and are "
          "streamed, layer by layer; no result changes (default: weights are mapped, and what needs more "
          "than is available apart from them is refused)")
      ->type_name("SIZE");
}

void EngineFlags::add_kv_offload_to(CLI::App& command) {
  CLI::Option* offload = command.add_flag(
      "--kv-offload", kv_offload,
      "keys and values that --ram has no room for lie on disk, layer by layer, read ahead while another "
      "layer computes; without --ram all of them; no result changes (docs/memory.md)");
  command
      .add_option("--kv-offload-dir", kv_offload_dir,
                  "where, in a file without a name that is gone when the program ends (default: TMPDIR or "
                  "/tmp)")
      ->type_name("DIR")
      ->needs(offload);
}

void EngineFlags::add_zero_to(CLI::App& command) {
  command
      .add_option("--zero-stage", zero_stage,
                  "3: the processes that mpirun started store the weights together, 1/R each, and gather a "
                  "layer just "
                  "before it is used; no result changes (docs/memory.md)")
      ->type_name("N")
      ->check(CLI::IsMember({0, 3}));
}

void EngineFlags::add_tensor_parallel_to(CLI::App& command) {
  command
      .add_option("--tensor-parallel,--tensor-parallel-size", tensor_parallel,
                  "the R processes that mpirun started each compute 1/R of the heads and of the MLP of every "
                  "decoder layer; sums over ranks are made in a fixed order (docs/memory.md)")
      ->type_name("R")
      ->check(CLI::PositiveNumber)
      ->excludes("--zero-stage");
}

// Ranks must be as many as were asked for: a part without its rank would be missing in every sum.
TensorShard EngineFlags::tensor_shard() const {
  const Launch start = launch();
  if (tensor_parallel != start.size) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("--tensor-parallel {} with {} process{}", tensor_parallel, start.size,
                            start.size == 1 ? "" : "es"),
                fmt::format("start it as: mpirun -n {} fovea ...", tensor_parallel));
  }
  return {start.rank, start.size, [](std::span<float> values) { world().sum_in_rank_order(values); }};
}

void EngineFlags::add_device_map_to(CLI::App& command) {
  command
      .add_option(
          "--device-map", device_map,
          "which of the processes that mpirun started holds and computes what: "
          "\"vision=0,text.0-17=0,text.18-35=1,head=1\", a file of such entries (one a line, or a JSON "
          "object), or auto (bytes of weights as even as they can be); no result changes "
          "(docs/memory.md; not with --zero-stage 3, --ram, --kv-offload, --guard)")
      ->type_name("MAP|FILE|auto");
}

// A text with '=' holds entries, anything else but auto is a file.
DeviceMap EngineFlags::device_map_for(const Checkpoint& checkpoint, int ranks) const {
  const int64_t layers = checkpoint.config().text.num_hidden_layers;
  if (device_map == "auto") return DeviceMap::balanced(WeightGroups(checkpoint), layers, ranks);
  const bool is_file = device_map.find('=') == std::string::npos;
  return DeviceMap::parse(is_file ? read_text_file(device_map) : device_map, layers);
}

void EngineFlags::refuse_beside_device_map(const std::optional<std::string>& ram, const char* other) const {
  if (device_map.empty()) return;
  if (guard != "off") other = "--guard";
  if (kv_offload) other = "--kv-offload";
  if (ram) other = "--ram";
  if (tensor_parallel > 1) other = "--tensor-parallel";
  if (zero_stage == 3) other = "--zero-stage 3";
  if (other == nullptr) return;
  throw Error(ErrorKind::unsupported, fmt::format("--device-map and {} exclude each other", other),
              fmt::format("leave one of them out; docs/memory.md says what {}",
                          zero_stage == 3 ? "each is for" : "ranks can share"));
}

Engine EngineFlags::open(const Observer& observer, const std::optional<WeightLimit>& limit,
                         bool share_on_disk) const {
  start_threads(threads);
  EngineOptions options = engine_options();
  options.weight_limit = limit;
  if (tensor_parallel > 1) options.tensor_parallel = tensor_shard();
  if (zero_stage == 3) {
    FOVEA_CHECK(limit);
    options.weight_source = [&](const Checkpoint& checkpoint) {
      return zero_weights(checkpoint, world(), {!share_on_disk, observer.progress});
    };
  }
  if (!device_map.empty()) {
    options.split = [&](const Checkpoint& checkpoint) {
      return SplitModel{device_map_for(checkpoint, world().size()), &world()};
    };
  }
  Engine engine = Engine::open(model_folder(model), options, observer);
  // Ranks that differ would sample different tokens and wait for each other; a device map looks for itself.
  if (tensor_parallel > 1) require_same(world(), engine.identity());
  print_warnings(engine.warnings());
  return engine;
}

EngineOptions EngineFlags::engine_options() const {
  EngineOptions options;
  if (!attention.empty()) options.attention = parse_attention(attention);
  options.vision_attention = vision_attention.empty() ? options.attention : parse_attention(vision_attention);
  if (!dtype.empty()) options.dtype = parse_dtype(dtype);
  options.policy = policy();
  options.guard.mode = parse_guard(guard);
  if (kv_offload) {
    options.kv_offload = KvOffload{
        kv_offload_dir ? std::filesystem::path(*kv_offload_dir) : std::filesystem::temp_directory_path(), 0};
  }
  if (vision_budget) options.vision_budget_bytes = parse_bytes(*vision_budget, "--vision-budget");
  return options;
}

std::optional<PrecisionPolicy> EngineFlags::policy() const {
  const bool stored_otherwise = kv_cache_dtype != "auto";
  if (preset.empty() && precision.empty() && !stored_otherwise) return std::nullopt;
  PrecisionPolicy policy;
  if (precision.ends_with(".json")) {
    policy = PrecisionPolicy::parse_json(read_text_file(precision));
  } else if (!precision.empty()) {
    policy = PrecisionPolicy::parse_text(precision);
  }
  if (!preset.empty()) policy.set_preset(preset);
  if (stored_otherwise) set_kv_cache(policy, kv_cache_dtype);
  const std::string flag = !attention.empty() ? "--attn " + attention : "--vision-attn " + vision_attention;
  if (policy.preset() && (!attention.empty() || !vision_attention.empty())) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} contradicts preset {}, which fixes both attentions", flag, *policy.preset()),
                "leave it out, or change the preset by --precision \"text.attention=...\"");
  }
  return policy;
}

MediaLimits EngineFlags::media_limits() const {
  return {min_pixels, max_pixels, max_image_tokens, max_total_image_tokens, fps, parse_resize(resize)};
}

std::vector<Message> EngineFlags::conversation() const {
  if (!messages.empty() && (!prompt.empty() || !images.empty() || !videos.empty() || system)) {
    throw Error(ErrorKind::invalid_argument, "--messages already holds the whole conversation",
                "put prompt, system text, images and videos into the message list, or leave --messages out");
  }
  if (messages.empty() && prompt.empty()) {
    throw Error(ErrorKind::invalid_argument, "there is no prompt",
                "give a question in quotes, or --messages FILE.json");
  }
  return messages.empty() ? messages_from_prompt(prompt, images, videos, system)
                          : parse_messages(read_text_file(messages));
}

Prompt EngineFlags::prepare(const Engine& engine, const std::vector<Message>& conversation,
                            const PromptCheck& check) const {
  return engine.prepare(conversation, media_limits(), add_vision_id, check);
}

}  // namespace fovea
