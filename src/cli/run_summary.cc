#include "cli/run_summary.h"

#include <fmt/ranges.h>

#include <vector>

#include "base/parallel.h"
#include "cli/answer_json.h"
#include "cli/output.h"
#include "cli/stored_weights.h"
#include "plan/plan_text.h"

namespace fovea {

namespace {

std::string rate_text(int64_t count, double seconds) {
  if (count < 1 || seconds <= 0) return "";
  const double rate = static_cast<double>(count) / seconds;
  return rate < 999.5 ? fmt::format(", {:.3g}/s", rate) : fmt::format(", {:.0f}/s", rate);
}

std::string tokens_text(int64_t count) { return fmt::format("{} token{}", count, count == 1 ? "" : "s"); }

void print_pictures(const Prompt& prompt, int64_t merge_size) {
  for (const Picture& p : prompt.pictures) {
    const int64_t tokens = p.tokens(merge_size);
    print_note("{}: {} x {} -> {} x {}, {} tokens{}\n", p.source, p.original_width, p.original_height,
               p.resized_width, p.resized_height, tokens,
               tokens < p.tokens_wanted ? fmt::format(" of {} wanted", p.tokens_wanted) : "");
  }
}

// The first token comes out of the prompt's pass; the time of decoding is that of the others.
void print_times(const Prompt& prompt, const Answer& answer, int64_t merge_size) {
  const Timings& t = answer.timings;
  int64_t of_pictures = 0;
  for (const Picture& p : prompt.pictures) of_pictures += p.tokens(merge_size);
  std::vector<std::string> parts = {fmt::format("load {}", seconds_text(t.load_s))};
  if (of_pictures > 0) {
    parts.push_back(fmt::format("pictures {}", seconds_text(t.preprocess_s)));
    parts.push_back(fmt::format("vision {}", seconds_text(t.vision_s)));
  }
  print_note("prompt {}{} in {}{}; answer {}{}; {}; peak {}; finish: {}\n", tokens_text(t.prompt_tokens),
             of_pictures > 0 ? fmt::format(" ({} of pictures)", of_pictures) : "", seconds_text(t.prefill_s),
             rate_text(t.prompt_tokens, t.prefill_s), tokens_text(t.generated_tokens),
             rate_text(t.generated_tokens - 1, t.decode_s), fmt::join(parts, ", "),
             bytes_text(peak_memory_bytes()), answer.finish_reason);
}

void print_streaming(const StreamState& stream, const Timings& t) {
  const auto gb = [](int64_t bytes) { return static_cast<double>(bytes) / 1e9; };
  print_note(
      "weights: {:.2f} GB stay in memory, {:.2f} GB of buffers, {:.2f} GB streamed for every token; read: "
      "vision {:.2f} GB, prefill {:.2f} GB, decode {:.2f} GB ({:.2f} GB/s)\n",
      gb(stream.kept_bytes), gb(stream.buffer_bytes), gb(stream.streamed_bytes), gb(t.vision_fetched_bytes),
      gb(t.prefill_fetched_bytes), gb(t.decode_fetched_bytes),
      t.decode_s > 0 ? gb(t.decode_fetched_bytes) / t.decode_s : 0.0);
}

void print_memory(const Engine& engine, const Answer& answer) {
  if (const HeldWeights held = held_weights(engine); !held.widened.empty()) {
    print_note("weights: {}, widened to {} when loaded\n", held.widened, held.type);
  }
  if (engine.streams_weights()) print_streaming(engine.stream_state(), answer.timings);
  if (const KvState& kv = answer.kv_cache; kv.layers_on_disk > 0) {
    print_note("keys and values: {} in memory, {} on disk ({} layers); read {}, wrote {}\n",
               bytes_text(kv.bytes), bytes_text(kv.disk_bytes), kv.layers_on_disk, bytes_text(kv.read_bytes),
               bytes_text(kv.written_bytes));
  }
}

// How the answer was computed and chosen, for --verbose.
void print_settings(const Engine& engine, const GenerationOptions& options, const Answer& answer) {
  if (notes() != Notes::many) return;
  const SamplingOptions& s = options.sampling;
  const EngineOptions& e = engine.options();
  print_detail("computed in {} with {} threads, kernels {}, attention {} (vision {}){}\n",
               name_of(engine.dtype()), threads(), engine.kernel_variant(), name_of(e.attention),
               name_of(e.vision_attention), e.policy ? ", precision " + e.policy->text() : "");
  print_detail("{}, repetition penalty {}, at most {}, prompt in steps of {}\n",
               s.greedy ? std::string("greedy")
                        : fmt::format("temperature {}, top-p {}, top-k {}, seed {}", s.temperature, s.top_p,
                                      s.top_k, s.seed),
               s.repetition_penalty, tokens_text(options.max_new_tokens), options.prefill_chunk);
  for (const auto& [form, bytes] : held_weights(engine).stored_as)
    print_detail("weights stored as {}: {}\n", form, bytes_text(bytes));
  print_detail("keys and values: {}\n", bytes_text(answer.kv_cache.bytes));
}

}  // namespace

std::string seconds_text(double seconds) {
  if (seconds < 0.9995e-3) return fmt::format("{:.0f} µs", seconds * 1e6);
  if (seconds < 0.9995) return fmt::format("{:.3g} ms", seconds * 1e3);
  return seconds < 99.95 ? fmt::format("{:.3g} s", seconds) : fmt::format("{:.0f} s", seconds);
}

void print_summary(const Engine& engine, const Prompt& prompt, const GenerationOptions& options,
                   const Answer& answer) {
  const int64_t merge_size = engine.checkpoint().config().vision.spatial_merge_size;
  print_pictures(prompt, merge_size);
  print_times(prompt, answer, merge_size);
  print_memory(engine, answer);
  if (const Speculation& s = answer.speculation; s.steps > 0) {
    print_note("speculation: {} of {} proposed tokens accepted in {} steps\n", s.accepted, s.proposed,
               s.steps);
  }
  print_settings(engine, options, answer);
}

}  // namespace fovea
