#include "cli/batch_limits.h"

#include "cli/byte_size.h"
#include "cli/memory_check.h"
#include "cli/progress_bar.h"
#include "cli/ranks.h"
#include "plan/available_memory.h"
#include "plan/usual_kv_cache.h"

namespace fovea {

namespace {

constexpr const char* kGroup = "Many requests";

}  // namespace

void BatchLimitFlags::add_to(CLI::App& command) {
  command
      .add_option("--max-num-seqs,--parallel", limits_given.max_num_seqs,
                  "requests that run at once; no answer depends on it")
      ->type_name("N")
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--max-num-batched-tokens", limits_given.max_num_batched_tokens,
                  "tokens that a step computes, of all requests; no answer depends on it")
      ->type_name("N")
      ->capture_default_str()
      ->group(kGroup);
  add_memory_to(command);
}

void BatchLimitFlags::add_memory_to(CLI::App& command) {
  command
      .add_option("--kv-cache-memory", kv_cache,
                  "for keys and values of all requests, such as 2G (default: 4096 tokens for each of "
                  "--max-num-seqs, at most half of the free memory)")
      ->type_name("SIZE")
      ->group(kGroup);
  command
      .add_option("--vision-cache-memory", vision_cache,
                  "for embeddings of pictures that may come again (default: 256MiB)")
      ->type_name("SIZE")
      ->group(kGroup);
}

BatchLimits BatchLimitFlags::limits(const Engine& engine) const {
  BatchLimits limits = limits_given;
  if (vision_cache) limits.vision_cache_bytes = parse_bytes(*vision_cache, "--vision-cache-memory");
  if (kv_cache) {
    limits.kv_cache_bytes = parse_bytes(*kv_cache, "--kv-cache-memory");
    return limits;
  }
  limits.kv_cache_bytes = usual_kv_cache(BatchEngine::block_bytes(engine), limits.max_num_seqs);
  return limits;
}

BatchLimits BatchLimitFlags::limits_within(const Engine& engine, int64_t ram, int64_t program_files) const {
  BatchLimits limits = limits_given;
  if (vision_cache) limits.vision_cache_bytes = parse_bytes(*vision_cache, "--vision-cache-memory");
  PlanSetup setup = plan_setup(engine.options(), limits.max_num_batched_tokens, engine.checkpoint());
  PlanRequest& request = setup.request;
  request.text_tokens = 1;
  const int64_t converted = make_plan(engine.checkpoint(), engine.precision(), request).converted_weights;
  request.text_tokens = limits.max_num_batched_tokens;
  request.process_bytes = program_files + std::max<int64_t>(resident_memory().anonymous - converted, 0);
  const Plan plan = make_plan(engine.checkpoint(), engine.precision(), request);
  // A picture that is encoded and those that wait for it.
  const int64_t pictures = 2 * engine.options().vision_budget_bytes + limits.vision_cache_bytes,
                room = ram - (plan.peak() - plan.kv_cache) - pictures,
                least =
                    kv_cache ? parse_bytes(*kv_cache, "--kv-cache-memory") : BatchEngine::block_bytes(engine);
  if (room < least) {
    throw Error(
        ErrorKind::exhausted,
        fmt::format("--ram {} leaves {} for keys and values, which need {}: a step without them takes {}, "
                    "pictures {}",
                    bytes_text(ram), bytes_text(std::max<int64_t>(room, 0)), bytes_text(least),
                    bytes_text(plan.peak() - plan.kv_cache), bytes_text(pictures)),
        "give it more, or less to --kv-cache-memory, --vision-cache-memory or --vision-budget, or take "
        "fewer --max-num-batched-tokens");
  }
  const int64_t wanted = wanted_kv_cache(BatchEngine::block_bytes(engine), limits.max_num_seqs);
  limits.kv_cache_bytes = kv_cache ? least : std::min(room, std::max(wanted, least));
  return limits;
}

Engine open_for_batches(const EngineFlags& flags, Observer& observer, const char* what, const char* instead,
                        const std::optional<std::string>& ram) {
  flags.refuse_beside_device_map(ram);
  if (flags.device_map.empty() && MemoryCheck(flags, ram).weight_limit()) {
    throw Error(ErrorKind::exhausted,
                fmt::format("the weights do not fit into {}, and {} cannot stream them",
                            ram ? "--ram " + *ram : "this machine's memory", what),
                fmt::format("take a smaller or a quantized checkpoint (fovea advise), or {}", instead));
  }
  ProgressBar bar;
  if (first_rank()) observer.progress = bar.callback();
  Engine engine = flags.open(observer, std::nullopt, false);
  observer.progress = {};  // the bar ends here
  bar.clear();
  return engine;
}

}  // namespace fovea
