#include "base/error.h"
#include "cli/answer_form_flags.h"
#include "cli/answer_json.h"
#include "cli/attention_map_file.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/files_read.h"
#include "cli/guard_text.h"
#include "cli/help.h"
#include "cli/interrupt.h"
#include "cli/memory_check.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "cli/ranks.h"
#include "cli/run_summary.h"
#include "cli/sampling_flags.h"
#include "cli/warnings.h"

namespace fovea {

namespace {

struct RunFlags {
  EngineFlags engine;
  SamplingFlags sampling;
  AnswerFormFlags form;
  std::optional<int64_t> prompt_lookup_num_tokens;
  std::optional<std::string> ram;
  AttentionMapFlags attention_map;
  bool json = false, no_kv_cache = false;
};

GenerationOptions generation_options(const RunFlags& flags, const Engine& engine) {
  GenerationOptions options = engine.default_generation();
  flags.sampling.apply(options);
  flags.form.apply(options, engine);
  options.use_kv_cache = !flags.no_kv_cache;
  options.prompt_lookup_num_tokens = flags.prompt_lookup_num_tokens;
  options.prefill_chunk = flags.engine.prefill_chunk;
  return options;
}

// `memory`: null where none is planned.
Answer ask(const RunFlags& flags, const MemoryCheck* memory, const Engine& engine, Observer& observer,
           ProgressBar& bar, bool show) {
  const GenerationOptions options = generation_options(flags, engine);
  PromptCheck check;
  if (memory != nullptr) {
    check = [&](int64_t tokens, std::span<const Picture> measured, std::span<const MediaOptions> media) {
      memory->require(engine, options.max_new_tokens, tokens, measured, media);
    };
  }
  const std::vector<Message> conversation = flags.engine.conversation();
  if (flags.attention_map.wanted()) {
    InputFiles inputs;
    add_files_of(flags.engine, inputs);
    add_files_of(conversation, inputs);
    inputs.refuse_as_output(flags.attention_map.file, "--attention-map");
  }
  Prompt prompt = flags.engine.prepare(engine, conversation, check);
  const std::vector<std::string> unused = options.unused();
  prompt.warnings.insert(prompt.warnings.end(), unused.begin(), unused.end());
  if (!show) return engine.generate(prompt, options, observer);
  bar.clear();
  print_warnings(prompt.warnings);
  if (!flags.json) {
    observer.on_text = [&](std::string_view piece) {
      bar.clear();
      write_output(piece);
      flush_output();  // an answer that nobody can read is not worth the rest of the computation
    };
  }
  std::optional<AttentionMapper> mapper;
  if (flags.attention_map.wanted()) {
    mapper.emplace(flags.attention_map.mapper(engine, prompt, options.max_new_tokens));
    observer.layers = &*mapper;
  }
  Answer answer = engine.generate(prompt, options, observer);
  bar.clear();
  nlohmann::ordered_json ranks;
  if (engine.device_map() != nullptr) {
    engine.release_ranks();
    ranks = gather_parts(*engine.device_map());
  }
  if (flags.json) {
    nlohmann::ordered_json json = answer_json(engine, prompt, answer);
    if (!ranks.is_null()) json["ranks"] = ranks;
    print_json(json);
  } else {
    print_output("\n");
    flush_output();
    print_summary(engine, prompt, options, answer);
    print_parts(ranks);
  }
  if (mapper) flags.attention_map.write(engine, prompt, answer, mapper->map());
  const std::string warning = guard_warning(engine, answer.guard);
  if (!warning.empty()) print_warning("{}\n", warning);
  return answer;
}

// With --device-map: rank 0 asks, the others compute their parts for it.
bool run_split(const RunFlags& flags, Observer& observer, ProgressBar& bar) {
  const Engine engine = flags.engine.open(observer, std::nullopt, false);
  bool cancelled = false;
  among_ranks([&] {
    if (first_rank()) {
      cancelled = ask(flags, nullptr, engine, observer, bar, true).finish_reason == "cancelled";
    } else {
      engine.serve();
      gather_parts(*engine.device_map());
    }
  });
  return cancelled;
}

void run(const RunFlags& flags) {
  const bool proposes = flags.prompt_lookup_num_tokens.value_or(0) != 0;
  flags.engine.refuse_beside_device_map(flags.ram, proposes ? "--prompt-lookup-num-tokens" : nullptr);
  // Ranks that compute together cannot stop one by one: then the signal ends the process, and mpirun all.
  const bool together = flags.engine.tensor_parallel > 1;
  if (flags.attention_map.wanted() && (together || !flags.engine.device_map.empty())) {
    throw Error(ErrorKind::unsupported, "--attention-map and ranks that share a model exclude each other",
                "leave out --attention-map, or --tensor-parallel and --device-map");
  }
  if (!together) stop_on_interrupt();
  ProgressBar bar;
  Observer observer;
  if (first_rank()) observer.progress = bar.callback();
  if (!together) observer.cancel = &interrupted();
  bool cancelled = false;
  if (!flags.engine.device_map.empty()) {
    cancelled = run_split(flags, observer, bar);
  } else {
    const MemoryCheck memory(flags.engine, flags.ram);
    const Engine engine = flags.engine.open(observer, memory.weight_limit(), memory.share_on_disk());
    // With ZeRO the other ranks only serve their share of the weights, at the end of the engine's life.
    if (first_rank() || together) {
      among_ranks([&] {
        const Answer answer = ask(flags, &memory, engine, observer, bar, first_rank());
        cancelled = answer.finish_reason == "cancelled";
      });
    }
  }
  if (cancelled) throw ExitWith{kInterrupted};
}

}  // namespace

void add_run_command(CLI::App& app) {
  const auto flags = std::make_shared<RunFlags>();
  CLI::App* command = app.add_subcommand("run", "answer a question about images, videos and text");
  flags->engine.add_to(*command);
  flags->sampling.add_length_to(*command);
  command->add_flag("--json", flags->json, "print one JSON object instead of streaming text")
      ->group(kCommonOptions);
  EngineFlags::add_ram_to(*command, flags->ram);
  flags->engine.add_kv_offload_to(*command);
  flags->engine.add_zero_to(*command);
  flags->engine.add_tensor_parallel_to(*command);
  flags->engine.add_device_map_to(*command);
  flags->sampling.add_to(*command);
  flags->form.add_to(*command);
  command
      ->add_option("--prompt-lookup-num-tokens", flags->prompt_lookup_num_tokens,
                   "tokens to propose where prompt or answer repeats itself, verified in one step; no token "
                   "changes (default: as many as pay, 0: off; not with --guard, --no-kv-cache)")
      ->type_name("N")
      ->group("Speed");
  command
      ->add_flag("--no-kv-cache", flags->no_kv_cache,
                 "recompute the whole sequence for every token (comparison)")
      ->group("Speed");
  flags->attention_map.add_to(*command);
  command->footer(
      "Behind --image and --video, arguments that are files or look like them are further pictures; the one "
      "that is not is the prompt. Sampling follows the checkpoint's generation_config.json unless an option "
      "says otherwise.\n\n"
      "Examples:\n"
      "  fovea run -m Qwen2.5-VL-3B-Instruct --image cat.jpg \"What is this?\"\n"
      "  fovea run -m DIR --image a.png b.png \"Compare <image> with <image>.\" --greedy\n"
      "  fovea run -m DIR --video clip.mp4 --max-pixels 200704 \"What happens?\" --json");
  command->callback([flags] { run(*flags); });
}

}  // namespace fovea
