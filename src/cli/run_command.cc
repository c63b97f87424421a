#include <cstdio>

#include "base/error.h"
#include "cli/answer_json.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/guard_text.h"
#include "cli/interrupt.h"
#include "cli/memory_check.h"
#include "cli/progress_bar.h"
#include "cli/ranks.h"
#include "cli/stored_weights.h"
#include "cli/warnings.h"
#include "plan/plan_text.h"

namespace fovea {

namespace {

struct RunFlags {
  EngineFlags engine;
  std::optional<int64_t> max_new_tokens, top_k, prompt_lookup_num_tokens, no_repeat_ngram_size;
  std::optional<double> temperature, top_p, repetition_penalty;
  std::vector<std::string> stop;
  std::optional<std::string> ram;
  uint64_t seed = 0;
  bool greedy = false, json = false, no_kv_cache = false, ignore_eos = false;
};

GenerationOptions generation_options(const RunFlags& flags, const Engine& engine) {
  GenerationOptions options = engine.default_generation();
  SamplingOptions& sampling = options.sampling;
  sampling.seed = flags.seed;
  if (flags.temperature || flags.top_p || flags.top_k) sampling.greedy = false;
  if (flags.greedy || flags.temperature == 0.0) sampling.greedy = true;
  if (flags.temperature) sampling.temperature = *flags.temperature;
  if (flags.top_p) sampling.top_p = *flags.top_p;
  if (flags.top_k) sampling.top_k = *flags.top_k;
  if (flags.repetition_penalty) sampling.repetition_penalty = *flags.repetition_penalty;
  if (flags.max_new_tokens) options.max_new_tokens = *flags.max_new_tokens;
  if (flags.no_repeat_ngram_size) sampling.no_repeat_ngram_size = *flags.no_repeat_ngram_size;
  if (!flags.stop.empty()) options.stop = flags.stop;
  options.ignore_eos = flags.ignore_eos;
  options.use_kv_cache = !flags.no_kv_cache;
  options.prompt_lookup_num_tokens = flags.prompt_lookup_num_tokens;
  options.prefill_chunk = flags.engine.prefill_chunk;
  return options;
}

void print_streaming(const StreamState& stream, const Timings& t) {
  const auto gb = [](int64_t bytes) { return static_cast<double>(bytes) / 1e9; };
  fmt::print(
      stderr,
      "weights: {:.2f} GB stay in memory, {:.2f} GB of buffers, {:.2f} GB streamed for every token; read: "
      "vision {:.2f} GB, prefill {:.2f} GB, decode {:.2f} GB ({:.2f} GB/s)\n",
      gb(stream.kept_bytes), gb(stream.buffer_bytes), gb(stream.streamed_bytes), gb(t.vision_fetched_bytes),
      gb(t.prefill_fetched_bytes), gb(t.decode_fetched_bytes),
      t.decode_s > 0 ? gb(t.decode_fetched_bytes) / t.decode_s : 0.0);
}

void print_summary(const Engine& engine, const Prompt& prompt, const Answer& answer) {
  for (const Picture& p : prompt.pictures) {
    const int64_t tokens = p.tokens(engine.checkpoint().config().vision.spatial_merge_size);
    fmt::print(stderr, "{}: {} x {} -> {} x {}, {} tokens{}\n", p.source, p.original_width, p.original_height,
               p.resized_width, p.resized_height, tokens,
               tokens < p.tokens_wanted ? fmt::format(" of {} wanted", p.tokens_wanted) : "");
  }
  const Timings& t = answer.timings;
  const auto rate = [](int64_t n, double s) { return s > 0 ? static_cast<double>(n) / s : 0.0; };
  fmt::print(stderr,
             "load {:.1f} s, preprocess {:.2f} s, vision {:.2f} s, prefill {} tokens in {:.2f} s ({:.1f}/s), "
             "decode {} tokens in {:.2f} s ({:.1f}/s), peak {:.2f} GB, finish: {}\n",
             t.load_s, t.preprocess_s, t.vision_s, t.prompt_tokens, t.prefill_s,
             rate(t.prompt_tokens, t.prefill_s), t.generated_tokens, t.decode_s,
             rate(std::max<int64_t>(t.generated_tokens - 1, 0), t.decode_s),
             static_cast<double>(peak_memory_bytes()) / 1e9, answer.finish_reason);
  if (const HeldWeights held = held_weights(engine); !held.widened.empty()) {
    fmt::print(stderr, "weights: {}, widened to {} when loaded\n", held.widened, held.type);
  }
  if (engine.streams_weights()) print_streaming(engine.stream_state(), t);
  if (const KvState& kv = answer.kv_cache; kv.layers_on_disk > 0) {
    fmt::print(stderr, "keys and values: {} in memory, {} on disk ({} layers); read {}, wrote {}\n",
               bytes_text(kv.bytes), bytes_text(kv.disk_bytes), kv.layers_on_disk, bytes_text(kv.read_bytes),
               bytes_text(kv.written_bytes));
  }
  if (const Speculation& s = answer.speculation; s.steps > 0) {
    fmt::print(stderr, "speculation: {} of {} proposed tokens accepted in {} steps\n", s.accepted, s.proposed,
               s.steps);
  }
}

// An answer that nobody can read is not worth the rest of the computation.
void flush_answer() {
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return;
  throw Error(ErrorKind::io, "cannot write the answer to standard output",
              "check the disk or the pipe it goes to");
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
  const Prompt prompt = flags.engine.prepare(engine, check);
  if (!show) return engine.generate(prompt, options, observer);
  bar.clear();
  print_warnings(prompt.warnings);
  if (!flags.json) {
    observer.on_text = [&](std::string_view piece) {
      bar.clear();
      std::fwrite(piece.data(), 1, piece.size(), stdout);
      flush_answer();
    };
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
    fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    fmt::print("\n");
    std::fflush(stdout);
    print_summary(engine, prompt, answer);
    print_parts(ranks);
  }
  const std::string warning = guard_warning(engine, answer.guard);
  if (!warning.empty()) fmt::print(stderr, "{}\n", warning);
  flush_answer();
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
  command->add_option("--max-new-tokens", flags->max_new_tokens, "length limit of the answer")
      ->type_name("N");
  CLI::Option* greedy = command->add_flag("--greedy", flags->greedy, "always take the most likely token");
  command->add_option("--temperature", flags->temperature, "sample; higher is more random (0: greedy)")
      ->type_name("T")
      ->excludes(greedy);
  command->add_option("--top-p", flags->top_p, "sample from the smallest set with this probability")
      ->type_name("P")
      ->excludes(greedy);
  command->add_option("--top-k", flags->top_k, "sample from the K most likely tokens")
      ->type_name("K")
      ->excludes(greedy);
  command
      ->add_option("--repetition-penalty", flags->repetition_penalty,
                   "divide the logits of tokens already seen")
      ->type_name("R");
  command
      ->add_option("--no-repeat-ngram-size", flags->no_repeat_ngram_size,
                   "never repeat N tokens in a row that prompt or answer already have (0: off)")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--seed", flags->seed, "seed of the sampler")
      ->type_name("S")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option(
          "--stop", flags->stop,
          "end the answer at this string; repeatable; takes the place of the checkpoint's stop_strings")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  command->add_flag("--ignore-eos", flags->ignore_eos, "go on to --max-new-tokens whatever the model says");
  command->add_flag("--no-kv-cache", flags->no_kv_cache,
                    "recompute the whole sequence for every token (comparison)");
  command
      ->add_option("--prompt-lookup-num-tokens", flags->prompt_lookup_num_tokens,
                   "tokens to propose where prompt or answer repeats itself, verified in one step; no token "
                   "changes (default: as many as pay, 0: off; not with --guard, --no-kv-cache)")
      ->type_name("N");
  EngineFlags::add_ram_to(*command, flags->ram);
  flags->engine.add_kv_offload_to(*command);
  flags->engine.add_zero_to(*command);
  flags->engine.add_tensor_parallel_to(*command);
  flags->engine.add_device_map_to(*command);
  command->add_flag("--json", flags->json, "print one JSON object instead of streaming text");
  command->footer(
      "Sampling follows the checkpoint's generation_config.json unless a flag says otherwise.\n\n"
      "Examples:\n"
      "  fovea run -m Qwen2.5-VL-3B-Instruct --image cat.jpg \"What is this?\"\n"
      "  fovea run -m DIR --image a.png --image b.png \"Compare <image> with <image>.\" --greedy\n"
      "  fovea run -m DIR --video clip.mp4 --max-pixels 200704 \"What happens?\" --json");
  command->callback([flags] { run(*flags); });
}

}  // namespace fovea
