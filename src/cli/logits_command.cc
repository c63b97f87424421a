#include "base/error.h"
#include "checkpoint/safetensors_writer.h"
#include "cli/answer_json.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/files_read.h"
#include "cli/guard_text.h"
#include "cli/help.h"
#include "cli/memory_check.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "cli/ranks.h"

namespace fovea {

namespace {

struct LogitsFlags {
  EngineFlags engine;
  std::string out;
  std::optional<std::string> ram;
};

void refuse_inputs_as_output(const LogitsFlags& flags, const std::vector<Message>& conversation) {
  InputFiles inputs;
  add_files_of(flags.engine, inputs);
  add_files_of(conversation, inputs);
  inputs.refuse_as_output(flags.out, "--out");
}

// Everything a parity check needs, in the reference's names and shapes.
struct Dump {
  std::vector<int64_t> ids, positions, image_grid, video_grid;
  std::vector<double> second_per_grid;
  Buffer<float> pixel_values;
  int64_t patches = 0;
};

Dump collect(const Prompt& prompt, int64_t patch_dim) {
  Dump dump;
  dump.ids.assign(prompt.ids.begin(), prompt.ids.end());
  for (const auto& axis : prompt.positions.axis)
    dump.positions.insert(dump.positions.end(), axis.begin(), axis.end());
  for (const Picture& picture : prompt.pictures) {
    auto& grid = picture.is_video ? dump.video_grid : dump.image_grid;
    grid.insert(grid.end(), {picture.grid.t, picture.grid.h, picture.grid.w});
    if (picture.is_video) dump.second_per_grid.push_back(picture.second_per_grid);
    dump.patches += picture.grid.patches();
  }
  dump.pixel_values.resize(dump.patches * patch_dim);
  float* to = dump.pixel_values.data();
  for (const Picture& picture : prompt.pictures) {
    to = std::copy_n(picture.patches.data(), picture.grid.patches() * patch_dim, to);
  }
  return dump;
}

void write_logits(const LogitsFlags& flags, const MemoryCheck& memory, const Engine& engine,
                  const Observer& observer, ProgressBar& bar) {
  const ModelConfig& config = engine.checkpoint().config();
  const std::vector<Message> conversation = flags.engine.conversation();
  refuse_inputs_as_output(flags, conversation);
  const Prompt prompt = flags.engine.prepare(
      engine, conversation,
      [&](int64_t tokens, std::span<const Picture> measured, std::span<const MediaOptions> media) {
        memory.require(engine, 0, tokens, measured, media);
      });
  const Dump dump = collect(prompt, config.vision.patch_dim());
  const Evaluation result = engine.evaluate(prompt, flags.engine.prefill_chunk, observer);
  bar.clear();
  const auto n = static_cast<int64_t>(prompt.ids.size());
  const int64_t vision_width = config.vision.out_hidden_size;
  const auto thirds = [](const std::vector<int64_t>& values) {
    return static_cast<int64_t>(values.size()) / 3;
  };
  std::vector<TensorToWrite> tensors = {
      {"input_ids", StoredType::i64, {n}, dump.ids.data()},
      {"position_ids", StoredType::i64, {3, n}, dump.positions.data()},
      {"logits", StoredType::f32, {n, config.text.vocab_size}, result.logits.data()}};
  if (dump.patches > 0) {
    tensors.push_back({"pixel_values",
                       StoredType::f32,
                       {dump.patches, config.vision.patch_dim()},
                       dump.pixel_values.data()});
    tensors.push_back({"vision_embeddings",
                       StoredType::f32,
                       {result.vision_embeddings.size() / vision_width, vision_width},
                       result.vision_embeddings.data()});
  }
  if (!dump.image_grid.empty()) {
    tensors.push_back(
        {"image_grid_thw", StoredType::i64, {thirds(dump.image_grid), 3}, dump.image_grid.data()});
  }
  if (!dump.video_grid.empty()) {
    tensors.push_back(
        {"video_grid_thw", StoredType::i64, {thirds(dump.video_grid), 3}, dump.video_grid.data()});
    tensors.push_back({"second_per_grid_ts",
                       StoredType::f64,
                       {static_cast<int64_t>(dump.second_per_grid.size())},
                       dump.second_per_grid.data()});
  }
  write_safetensors(flags.out, tensors,
                    {{"format", "pt"},
                     {"attn", name_of(engine.options().attention)},
                     {"vision_attn", name_of(engine.options().vision_attention)},
                     {"dtype", name_of(engine.dtype())}});
  print_output("{}: {} tokens, {} patches\n", flags.out, n, dump.patches);
  const std::string warning = guard_warning(engine, result.guard);
  if (!warning.empty()) print_warning("{}\n", warning);
}

void logits(const LogitsFlags& flags) {
  ProgressBar bar;
  Observer observer;
  if (first_rank()) observer.progress = bar.callback();
  const MemoryCheck memory(flags.engine, flags.ram, true);
  const Engine engine = flags.engine.open(observer, memory.weight_limit(), memory.share_on_disk());
  if (first_rank()) among_ranks([&] { write_logits(flags, memory, engine, observer, bar); });
}

}  // namespace

void add_logits_command(CLI::App& app) {
  const auto flags = std::make_shared<LogitsFlags>();
  CLI::App* command =
      app.add_subcommand("logits", "write ids, positions, patches, vision embeddings and logits");
  flags->engine.add_to(*command);
  command->add_option("--out", flags->out, "file to write")
      ->required()
      ->type_name("FILE.safetensors")
      ->group(kCommonOptions);
  EngineFlags::add_ram_to(*command, flags->ram);
  flags->engine.add_kv_offload_to(*command);
  flags->engine.add_zero_to(*command);
  command->footer(
      "Tensors: input_ids [n], position_ids [3, n], pixel_values [patches, 1176], image_grid_thw, "
      "video_grid_thw,\n"
      "second_per_grid_ts, vision_embeddings [tokens, hidden], logits [n, vocab]; logits of every prompt "
      "position.");
  command->callback([flags] { logits(*flags); });
}

}  // namespace fovea
