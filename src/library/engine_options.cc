#include "library/engine_options.h"

#include <algorithm>

#include "base/error.h"
#include "base/processors.h"
#include "base/thread_pool.h"
#include "plan/usual_kv_cache.h"
#include "policy/precision_policy.h"

namespace fovea {

namespace {

std::optional<PrecisionPolicy> policy_of(const v0::EngineOptions& given) {
  const bool stored_otherwise = !given.kv_cache_dtype.empty() && given.kv_cache_dtype != "auto";
  if (given.preset.empty() && given.precision.empty() && !stored_otherwise) return std::nullopt;
  PrecisionPolicy policy =
      given.precision.empty() ? PrecisionPolicy() : PrecisionPolicy::parse_text(given.precision);
  if (!given.preset.empty()) policy.set_preset(given.preset);
  if (stored_otherwise) set_kv_cache(policy, given.kv_cache_dtype);
  if (policy.preset() && (!given.attn_implementation.empty() || !given.vision_attn_implementation.empty())) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("attn_implementation contradicts preset {}, which fixes both attentions",
                            *policy.preset()),
                "leave it out, or change the preset by precision = \"text.attention=...\"");
  }
  return policy;
}

int64_t at_least(int64_t value, int64_t least, const char* option) {
  if (value >= least) return value;
  throw Error(ErrorKind::invalid_argument, fmt::format("{} = {} is less than {}", option, value, least),
              fmt::format("set it to {} or more", least));
}

}  // namespace

EngineOptions engine_options_of(const v0::EngineOptions& given) {
  EngineOptions options;
  if (!given.attn_implementation.empty()) options.attention = parse_attention(given.attn_implementation);
  options.vision_attention = given.vision_attn_implementation.empty()
                                 ? options.attention
                                 : parse_attention(given.vision_attn_implementation);
  if (!given.dtype.empty()) options.dtype = parse_dtype(given.dtype);
  options.policy = policy_of(given);
  if (!given.guard.empty()) options.guard.mode = parse_guard(given.guard);
  return options;
}

BatchLimits batch_limits_of(const v0::EngineOptions& given, const Engine& engine) {
  BatchLimits limits;
  limits.max_num_seqs = at_least(given.max_num_seqs, 1, "max_num_seqs");
  limits.max_num_batched_tokens = at_least(given.max_num_batched_tokens, 2, "max_num_batched_tokens");
  limits.max_queue = at_least(given.max_queue, 0, "max_queue");
  limits.vision_cache_bytes = at_least(given.vision_cache_bytes, 0, "vision_cache_bytes");
  limits.kv_cache_bytes = at_least(given.kv_cache_bytes, 0, "kv_cache_bytes");
  if (limits.kv_cache_bytes == 0) {
    limits.kv_cache_bytes = usual_kv_cache(BatchEngine::block_bytes(engine), limits.max_num_seqs);
  }
  return limits;
}

int threads_of(const v0::EngineOptions& given) {
  if (given.threads == 0) return usable_processors().threads();
  if (given.threads > 0 && given.threads <= ThreadPool::kMostThreads) return given.threads;
  throw Error(
      ErrorKind::invalid_argument, fmt::format("cannot run on threads = {}", given.threads),
      fmt::format("set it to a number from 1 to {}, or to 0 for one on each core", ThreadPool::kMostThreads));
}

}  // namespace fovea
