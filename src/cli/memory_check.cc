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
  setup.request.vision_budget_bytes = options.vision_budget_bytes;
  setup.request.guard = options.guard.mode != GuardMode::off;
  setup.request.kv_offload = options.kv_offload.has_value();
  return setup;
}

MemoryCheck::MemoryCheck(const EngineFlags& flags, const std::optional<std::string>& ram, bool all_logits)
    : prefill_chunk_(flags.prefill_chunk),
      all_logits_(all_logits),
      ranks_(flags.zero_stage == 3 ? launch().size : 0) {
  if (ram) ram_ = parse_bytes(*ram, "--ram");
  const Checkpoint checkpoint = Checkpoint::open(model_folder(flags.model));
  PlanSetup setup = plan_setup(flags.engine_options(), prefill_chunk_, checkpoint);
  const ResidentMemory resident = resident_memory();
  files_ = resident.file;
  setup.request.process_bytes = resident.file + resident.anonymous;
  setup.request.text_tokens = 1;
  setup.request.ranks = ranks_;
  if (ranks_ > 0 && ram_) {
    const Precision precision = setup.policy.resolve(setup.target).precision;
    share_on_disk_ = make_plan(checkpoint, precision, setup.request).peak() > *ram_;
    setup.request.share_on_disk = share_on_disk_;
  }
  const Plan plan = require_fit(checkpoint, setup, ram_);
  if (plan.streamed) weight_limit_ = plan.weight_limit;
}

void MemoryCheck::require(const Engine& engine, int64_t max_new_tokens, int64_t tokens,
                          std::span<const Picture> measured, std::span<const MediaOptions> options) const {
  const Checkpoint& checkpoint = engine.checkpoint();
  PlanSetup setup = plan_setup(engine.options(), prefill_chunk_, checkpoint);
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
  const StreamState stream = engine.stream_state();
  PlanRequest least;
  least.text_tokens = 1;
  const int64_t weights = engine.streams_weights()
                              ? stream.kept_bytes + stream.buffer_bytes + stream.source_bytes
                              : make_plan(checkpoint, engine.precision(), least).converted_weights;
  request.process_bytes = files_ + std::max<int64_t>(resident_memory().anonymous - weights, 0);
  const Plan plan = require_fit(checkpoint, setup, ram_);
  if (request.kv_offload) engine.limit_kv_cache(plan.kv_limit.value_or(plan.kv_cache));
  if (plan.streamed) {
    engine.limit_weights(plan.weight_limit);
  } else if (engine.streams_weights()) {  // all of them fit for once
    engine.limit_weights({plan.weights, plan.weights});
  }
}

}  // namespace fovea
