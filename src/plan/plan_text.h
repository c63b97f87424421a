// Plans in words, the same in `fovea plan` and in every refusal.
#pragma once

#include <optional>

#include "plan/remedies.h"

namespace fovea {

// "7.51 GB", "812.3 MB".
std::string bytes_text(int64_t bytes);

struct PlanPart {
  const char* name;   // as in JSON: "kv_cache"
  const char* words;  // "KV cache"
  const char* phase;  // in which it exists: "always", or that of Plan::peak_phase
  int64_t bytes;
};
std::vector<PlanPart> parts_of(const Plan& plan);

// "needs 9.31 GB at its peak, while generating: weights 7.51 GB, ..."; parts of the peak, largest first.
std::string need_text(const Plan& plan);
// "--attn flash_attention_2 (accuracy: none...; time: less; 8.1 GB)".
std::string remedy_text(const Remedy& remedy);

// The request's plan. Throws Error(exhausted) with these words unless it fits. A limit that the user gave
// (`ram`) is one of the whole resident set, and weights that do not fit are streamed; without one, what
// cannot be taken back must fit into what is available.
Plan require_fit(const Checkpoint& checkpoint, PlanSetup& setup, const std::optional<int64_t>& ram);

// What every token reads from disk: "4.62 GB of weights and 1.15 GB of keys and values".
std::string disk_text(const Plan& plan);
// "weights are streamed: 1.50 GB of memory for them, every token reads 4.62 GB"; empty when they are mapped.
std::string streaming_text(const Plan& plan);

// The limit that applies, and what of a plan is held against it.
struct MemoryLimit {
  int64_t bytes = 0;  // 0: not known
  bool given = false;
  int64_t need(const Plan& plan) const { return given ? plan.peak() : plan.unreclaimable(); }
  bool fits(const Plan& plan) const { return bytes == 0 || need(plan) <= bytes; }
};
MemoryLimit memory_limit(const std::optional<int64_t>& ram);

}  // namespace fovea
