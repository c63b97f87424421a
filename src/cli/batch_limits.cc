#include "cli/batch_limits.h"

#include "cli/byte_size.h"
#include "cli/memory_check.h"
#include "cli/progress_bar.h"
#include "cli/warnings.h"
#include "plan/available_memory.h"

namespace fovea {

namespace {

constexpr int64_t kTokensOfRequest = 4096;
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
  const int64_t block = BatchEngine::block_bytes(engine),
                wanted = limits.max_num_seqs * (kTokensOfRequest / kPageTokens) * block,
                free = available_memory() - resident_memory().anonymous;
  limits.kv_cache_bytes = std::max(std::min(wanted, free / 2), block);
  return limits;
}

Engine open_for_batches(const EngineFlags& flags, Observer& observer, const char* what, const char* instead) {
  const MemoryCheck memory(flags, std::nullopt);
  if (memory.weight_limit()) {
    throw Error(
        ErrorKind::exhausted,
        fmt::format("the weights do not fit into this machine's memory, and {} cannot stream them", what),
        fmt::format("take a smaller or a quantized checkpoint (fovea advise), or {}", instead));
  }
  ProgressBar bar;
  observer.progress = bar.callback();
  Engine engine = flags.open(observer, std::nullopt, false);
  observer.progress = {};  // the bar ends here
  bar.clear();
  print_warnings(engine.warnings());
  return engine;
}

}  // namespace fovea
