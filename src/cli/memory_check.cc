#include "cli/memory_check.h"

#include "cli/byte_size.h"
#include "cli/model_flag.h"
#include "comm/world.h"
#include "media/geometry.h"
#include "plan/available_memory.h"

namespace fovea {

PlanSetup plan_setup(const EngineOptions& options, int64_t prefill_chunk, const Checkpoint& checkpoint) {
  PlanSetup setup;
  setup.policy = options.policy.value_or(PrecisionPolicy());
  setup.target = policy_target(options, checkpoint);
  setup.request.prefill_chunk = prefill_chunk;
  setup.request.vision_budget_bytes = vision_budget_of(options);
  setup.request.guard = options.guard.mode != GuardMode::off;
  setup.request.kv_offload = options.kv_offload.has_value();
  return setup;
}

MemoryCheck::MemoryCheck(const EngineFlags& flags, const std::optional<std::string>& ram, bool all_logits,
                         std::span<const Configuration> configurations)
    : prefill_chunk_(flags.prefill_chunk),
      all_logits_(all_logits),
      ranks_(flags.zero_stage == 3 ? launch().size : 0) {
  if (ram) ram_ = parse_bytes(*ram, "--ram");
  const Checkpoint checkpoint = Checkpoint::open(model_files(flags.model));
  PlanSetup setup = plan_setup(flags.engine_options(), prefill_chunk_, checkpoint);
  const ResidentMemory resident = resident_memory();
  files_ = resident.file;
  setup.request.process_bytes = resident.file + resident.anonymous;
  setup.request.text_tokens = 1;
  setup.request.ranks = ranks_;
  if (configurations.empty()) plan_weights(checkpoint, setup);
  for (const Configuration& one : configurations) {
    setup.policy = one.policy;
    setup.request.guard = one.guard != GuardMode::off;
    try {
      plan_weights(checkpoint, setup);
      if (weight_limit_ && !shareable(checkpoint, setup.policy.resolve(setup.target).precision)) {
        throw Error(ErrorKind::exhausted,
                    "its weights are quantized, and those of other configurations have to be streamed",
                    "raise --ram, or compare them in audits of their own");
      }
    } catch (const Error& error) {
      throw Error(error.kind(), fmt::format("configuration {}: {}", one.name, error.message()),
                  error.remedy());
    }
  }
}

void MemoryCheck::plan_weights(const Checkpoint& checkpoint, PlanSetup& setup) {
  if (ranks_ > 0 && ram_) {
    const Precision precision = setup.policy.resolve(setup.target).precision;
    share_on_disk_ = share_on_disk_ || make_plan(checkpoint, precision, setup.request).peak() > *ram_;
    setup.request.share_on_disk = share_on_disk_;
  }
  const Plan plan = require_fit(checkpoint, setup, ram_);
  if (plan.streamed) weight_limit_ = plan.weight_limit;
}

void MemoryCheck::require(const Engine& engine, int64_t max_new_tokens, int64_t tokens,
                          std::span<const Picture> measured, std::span<const MediaOptions> options) const {
  ConvertedBytes converted;
  if (!engine.streams_weights())
    converted.now = ConvertedWeights(engine.checkpoint(), engine.precision()).bytes();
  const EngineRoom room =
      this->room(engine, engine.options(), converted, true, max_new_tokens, tokens, measured, options);
  if (room.kv_bytes) engine.limit_kv_cache(*room.kv_bytes);
}

EngineRoom MemoryCheck::room(const Engine& base, const EngineOptions& asked, const ConvertedBytes& converted,
                             bool may_stream, int64_t max_new_tokens, int64_t tokens,
                             std::span<const Picture> measured, std::span<const MediaOptions> options) const {
  const Checkpoint& checkpoint = base.checkpoint();
  PlanSetup setup = plan_setup(asked, prefill_chunk_, checkpoint);
  PlanRequest& request = setup.request;
  request.text_tokens = tokens;
  for (size_t i = 0; i < measured.size(); ++i) {
    request.text_tokens -= measured[i].tokens(options[i].merge_size);
    request.pictures.push_back({geometry_of(measured[i]), options[i]});
  }
  request.answer_tokens = std::min(max_new_tokens, checkpoint.config().text.max_position_embeddings - tokens);
  request.all_logits = all_logits_;
  request.ranks = ranks_;
  request.share_on_disk = share_on_disk_;
  // Converted weights, or those that stay of streamed ones, are there by now; the plan counts them under
  // their own names.
  const StreamState stream = base.stream_state();
  const int64_t weights =
      base.streams_weights() ? stream.kept_bytes + stream.buffer_bytes + stream.source_bytes : converted.now;
  request.process_bytes =
      files_ + std::max<int64_t>(resident_memory().anonymous - weights, 0) + converted.others;
  const Plan plan = require_fit(checkpoint, setup, ram_);
  if (plan.streamed && !may_stream) return {false, {}};
  EngineRoom room;
  if (request.kv_offload) room.kv_bytes = plan.kv_limit.value_or(plan.kv_cache);
  if (plan.streamed) {
    base.limit_weights(plan.weight_limit);
  } else if (base.streams_weights()) {  // all of them fit for once
    base.limit_weights({plan.weights, plan.weights});
  }
  return room;
}

}  // namespace fovea
