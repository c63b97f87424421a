#include "cli/engine_flags.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
#include "base/scratch_file.h"
#include "cli/byte_size.h"
#include "cli/help.h"
#include "cli/model_flag.h"
#include "cli/option_values.h"
#include "cli/prompt_arguments.h"
#include "cli/ranks.h"
#include "cli/text_file.h"
#include "cli/warnings.h"
#include "comm/world.h"
#include "runtime/pipeline.h"
#include "zero/zero_weights.h"

namespace fovea {

namespace {

// Errors name the file beside the message and the field.
std::vector<Message> messages_of(const std::string& text, const std::string& file) {
  try {
    return parse_messages(text);
  } catch (const Error& error) {
    const std::string name = file == "-" ? "standard input" : file;
    throw Error(error.kind(), name + ": " + error.message(), error.remedy());
  }
}

MediaOptions::Resize parse_resize(const std::string& name) {
  if (name == "pil_12") return MediaOptions::Resize::pil_12;
  return name == "torchvision" ? MediaOptions::Resize::torchvision : MediaOptions::Resize::pil;
}

// A picture too many may have been meant as the prompt.
[[noreturn]] void refuse_no_prompt(const PromptArguments& given) {
  const auto& last = given.images.empty() ? given.videos : given.images;
  throw Error(ErrorKind::invalid_argument,
              last.size() < 2
                  ? "there is no prompt"
                  : fmt::format("there is no prompt: {} is taken as a further {}", in_quotes(last.back()),
                                given.images.empty() ? "video" : "picture"),
              "give a question in quotes, or behind -p, or on standard input, or --messages FILE.json");
}

}  // namespace

void add_threads(CLI::App& command, int& threads) {
  command.add_option("-t,--threads", threads, "worker threads (default: one per core)")
      ->type_name("N")
      ->group(kCommonOptions);
}

void EngineFlags::add_to(CLI::App& command) {
  command_line = &command;
  add_engine_to(command);
  add_prompt_options(command);
  command.add_option("--fps", fps, "frames sampled per second of video (default: 2)")
      ->type_name("F")
      ->group("Pictures and videos");
  const auto grouped = [](CLI::Option* option) { return option->group("Conversation"); };
  grouped(
      command.add_option("--system,--system-prompt", system, "system prompt (default: the template's own)"))
      ->type_name("TEXT");
  grouped(command.add_option("--messages", messages,
                             "conversation as an OpenAI / Qwen message list, - for standard input"))
      ->type_name("FILE.json");
  grouped(
      command.add_flag("--add-vision-id", add_vision_id, "number the images in the prompt: \"Picture 1: \""));
}

void EngineFlags::add_engine_to(CLI::App& command) {
  add_model_to(command, model)->required();
  add_threads(command, threads);
  add_precision_to(command);
  add_pictures_to(command);
  command.add_option("--prefill-chunk", prefill_chunk, "prompt tokens per step, 0 for all at once")
      ->type_name("N")
      ->capture_default_str()
      ->group("Memory");
  command
      .add_option("--vision-budget", vision_budget,
                  "memory in which the vision tower takes several groups of video frames at once (default "
                  "256Mi); it changes no result")
      ->type_name("SIZE")
      ->group("Memory");
}

void EngineFlags::add_precision_to(CLI::App& command) {
  const std::vector<std::string> attentions = {"eager", "sdpa", "flash_attention_2"};
  const OtherNames others = {{"flash-attention-2", "flash_attention_2"},
                             {"flash_attention", "flash_attention_2"},
                             {"flash", "flash_attention_2"}};
  const auto grouped = [](CLI::Option* option) { return option->group("Precision"); };
  grouped(command.add_option(
              "--preset", preset,
              "compute what others compute, by name (fovea presets lists them); takes the place of --attn "
              "and --vision-attn, and of --dtype where the preset has one"))
      ->type_name("NAME");
  choose(grouped(command.add_option("--dtype,--torch-dtype", dtype,
                                    "compute type (default: the checkpoint's); bfloat16, float16, half and "
                                    "float32 are understood")),
         {"fp32", "bf16", "fp16"}, other_dtype_names());
  choose(grouped(command.add_option("--attn,--attn-implementation", attention,
                                    "attention of the text decoder, and of the vision tower unless given "
                                    "(default: flash_attention_2)")),
         attentions, others);
  choose(grouped(command.add_option("--vision-attn", vision_attention, "attention of the vision tower")),
         attentions, others);
  grouped(command.add_option(
              "--precision", precision,
              "nodes that differ: \"text.scores=fp32,text.layers.0.k=fp32\", or a .json file (fovea presets "
              "--help lists the nodes); refines --preset or --attn and --dtype"))
      ->type_name("TEXT|FILE.json");
  choose(grouped(command.add_option(
             "--kv-cache-dtype", kv_cache_dtype,
             "storage of keys and values between tokens: fp32, bf16 or fp16, in every layer that "
             "--precision does not name; int8: in all but the first and the last layer, with keys "
             "kept without their bias; auto: as k and v are computed")),
         {"auto", "fp32", "bf16", "fp16", "int8"}, other_dtype_names())
      ->capture_default_str();
  choose(grouped(command.add_option(
             "--guard", guard,
             "watch for attention scores that their dtype cannot resolve: warn says where, escalate "
             "also recomputes those rows with fp32 scores")),
         {"off", "warn", "escalate"})
      ->capture_default_str();
}

void EngineFlags::add_pictures_to(CLI::App& command) {
  const auto add = [&](const char* name, std::optional<int64_t>& value, const char* words) {
    command.add_option(name, value, words)->type_name("N")->group("Pictures and videos");
  };
  add("--min-pixels", min_pixels, "enlarge smaller images and video frames (one token is 28 x 28 pixels)");
  add("--max-pixels", max_pixels,
      "shrink larger images and video frames (default for frames: 128 to 768 tokens each)");
  add("--max-image-tokens,--image-max-tokens", max_image_tokens,
      "shrink larger images, and groups of two video frames, to this many tokens each");
  add("--max-total-image-tokens", max_total_image_tokens,
      "tokens of all images and video frames of a request together: the largest shrink to one common size, "
      "smaller ones stay as they are");
  choose(command.add_option("--resize", resize,
                            "bicubic of Pillow 13, of Pillow up to 12, or of torchvision (antialias)"),
         {"pil", "pil_12", "torchvision"})
      ->capture_default_str()
      ->group("Pictures and videos");
  choose(command.add_option(
             "--video-positions", video_positions,
             "where text goes on after a video: at its largest position + 1 (qwen: as the model was "
             "released), or at its start + the longer side of a frame (transformers-5)"),
         {"qwen", "transformers-5"})
      ->capture_default_str()
      ->group("Pictures and videos");
  command
      .add_option("--chat-template", chat_template,
                  "in place of the folder's chat template: qwen2.5-vl, or a file that holds a known one")
      ->type_name("FILE|qwen2.5-vl")
      ->group("Pictures and videos");
}

void EngineFlags::add_ram_to(CLI::App& command, std::optional<std::string>& ram) {
  command
      .add_option(
          "--ram", ram,
          "resident memory of the whole process, as 2G: weights that do not fit stay on disk and are "
          "streamed, layer by layer; no result changes (default: weights are mapped, and what needs more "
          "than is available apart from them is refused)")
      ->type_name("SIZE")
      ->group(kCommonOptions);
}

void EngineFlags::add_kv_offload_to(CLI::App& command) {
  CLI::Option* offload = command.add_flag(
      "--kv-offload", kv_offload,
      "keys and values that --ram has no room for lie on disk, layer by layer, read ahead while another "
      "layer computes; without --ram all of them; no result changes (docs/guide/memory.md)");
  offload->group("Memory");
  command
      .add_option("--kv-offload-dir", kv_offload_dir,
                  "where, in a file without a name that is gone when the program ends (default: TMPDIR or "
                  "/tmp)")
      ->type_name("DIR")
      ->group("Memory")
      ->needs(offload);
}

void EngineFlags::add_zero_to(CLI::App& command) {
  command
      .add_option("--zero-stage", zero_stage,
                  "3: the processes that mpirun started store the weights together, 1/R each, and gather a "
                  "layer just "
                  "before it is used; no result changes (docs/guide/ranks.md)")
      ->type_name("0|3")
      ->check(CLI::IsMember({0, 3}))
      ->group("Several processes");
}

void EngineFlags::add_tensor_parallel_to(CLI::App& command) {
  CLI::Option* option =
      command
          .add_option(
              "--tensor-parallel,--tensor-parallel-size", tensor_parallel,
              "the R processes that mpirun started each compute 1/R of the heads and of the MLP of every "
              "decoder layer; sums over ranks are made in a fixed order (docs/guide/ranks.md)")
          ->type_name("R")
          ->group("Several processes");
  if (CLI::Option* zero = command.get_option_no_throw("--zero-stage")) option->excludes(zero);
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
          "(docs/guide/ranks.md; not with --zero-stage 3, --ram, --kv-offload, --guard)")
      ->type_name("MAP|FILE|auto")
      ->group("Several processes");
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
              fmt::format("leave one of them out; docs/guide/ranks.md says what {}",
                          zero_stage == 3 ? "each is for" : "ranks can share"));
}

Engine EngineFlags::open(const Observer& observer, const std::optional<WeightLimit>& limit,
                         bool share_on_disk) const {
  start_threads(threads);
  EngineOptions options = engine_options();
  options.weight_limit = limit;
  if (tensor_parallel > 1) {
    options.tensor_parallel = tensor_shard();
    options.ranks = &world();
  }
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
  Engine engine = Engine::open(model_files(model), options, observer);
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
  options.chat_template = chat_template;
  options.guard.mode = parse_guard(guard);
  if (kv_offload) {
    options.kv_offload =
        KvOffload{kv_offload_dir ? std::filesystem::path(*kv_offload_dir) : temporary_folder(), 0};
  }
  if (vision_budget) {
    options.vision_budget_bytes = std::max<int64_t>(parse_bytes(*vision_budget, "--vision-budget"), 1);
  }
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
  const VideoPositions rule =
      video_positions == "qwen" ? VideoPositions::qwen : VideoPositions::transformers_5;
  return {min_pixels, max_pixels, max_image_tokens, max_total_image_tokens, fps, parse_resize(resize), rule};
}

std::vector<Message> EngineFlags::given_messages() const {
  const auto& order = command_line->parse_order();
  const bool both = system || std::any_of(order.begin(), order.end(), is_prompt_option);
  if (both) {
    throw Error(ErrorKind::invalid_argument, "--messages already holds the whole conversation",
                "put prompt, system text, images and videos into the message list, or leave --messages out");
  }
  return messages_of(messages == "-" ? input([] { return read_text_file("-"); }) : read_text_file(messages),
                     messages);
}

// Ranks that compute together all ask the question.
std::string EngineFlags::input(const std::function<std::string()>& read) const {
  return tensor_parallel > 1 ? from_first_rank(read) : read();
}

std::vector<Message> EngineFlags::conversation() const {
  if (!messages.empty()) return given_messages();
  const PromptArguments given = prompt_arguments(
      *command_line, [&](bool asked) { return input([asked] { return prompt_of_input(asked); }); });
  print_warnings(given.notes);
  if (given.prompt.empty()) refuse_no_prompt(given);
  return messages_from_prompt(given.prompt, given.images, given.videos, system);
}

Prompt EngineFlags::prepare(const Engine& engine, const std::vector<Message>& conversation,
                            const PromptCheck& check) const {
  return engine.prepare(conversation, media_limits(), add_vision_id, check);
}

}  // namespace fovea
