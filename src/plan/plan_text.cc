#include "plan/plan_text.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "plan/available_memory.h"

namespace fovea {

std::string bytes_text(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  return value >= 1e9 ? fmt::format("{:.2f} GB", value / 1e9) : fmt::format("{:.1f} MB", value / 1e6);
}

std::vector<PlanPart> parts_of(const Plan& p) {
  return {{"process", "program and tokenizer", "always", p.process},
          {"weights", "weights, mapped", "always", p.weights},
          {"weight_share", "weights, this rank's share", "always", p.weight_share},
          {"vision_weights", "weights, kept and buffered", "encoding", p.vision_weights},
          {"text_weights", "weights, kept and buffered", "generating", p.text_weights},
          {"converted_weights", "weights, converted", "always", p.converted_weights},
          {"patches", "image patches", "always", p.patches},
          {"decoding", "picture decoding", "preprocessing", p.decoding},
          {"embeddings", "image embeddings", "encoding, generating", p.embeddings},
          {"vision_activations", "vision activations", "encoding", p.vision_activations},
          {"vision_attention", "vision attention scratch", "encoding", p.vision_attention},
          {"kv_cache", "KV cache", "generating", p.kv_cache},
          {"activations", "text activations", "generating", p.activations},
          {"attention", "text attention scratch", "generating", p.attention},
          {"logits", "logits", "generating", p.logits}};
}

std::string need_text(const Plan& plan) {
  std::vector<PlanPart> parts;
  for (const PlanPart& part : parts_of(plan)) {
    const std::string_view phase = part.phase;
    const bool counts = phase == "always" || phase.find(plan.peak_phase()) != std::string_view::npos;
    if (counts && part.bytes * 100 >= plan.peak()) parts.push_back(part);
  }
  std::stable_sort(parts.begin(), parts.end(),
                   [](const PlanPart& a, const PlanPart& b) { return a.bytes > b.bytes; });
  std::string text =
      fmt::format("needs {} at its peak, while {}", bytes_text(plan.peak()), plan.peak_phase());
  const char* before = ": ";
  for (const PlanPart& part : parts) {
    text += fmt::format("{}{} {}", std::exchange(before, ", "), part.words, bytes_text(part.bytes));
  }
  return text;
}

std::string remedy_text(const Remedy& remedy) {
  return fmt::format("{} ({}; accuracy: {}; time: {})", remedy.change, bytes_text(remedy.plan.peak()),
                     remedy.accuracy, remedy.time);
}

MemoryLimit memory_limit(const std::optional<int64_t>& ram) {
  return ram ? MemoryLimit{*ram, true} : MemoryLimit{available_memory(), false};
}

std::string disk_text(const Plan& plan) {
  const std::string weights = bytes_text(plan.fetched_per_token) + " of weights",
                    cache = bytes_text(plan.kv_disk) + " of keys and values";
  if (plan.kv_disk == 0) return weights;
  return plan.fetched_per_token == 0 ? cache : weights + " and " + cache;
}

std::string streaming_text(const Plan& plan) {
  if (!plan.streamed) return "";
  return fmt::format("weights are streamed: {} of memory for them, every token reads {}",
                     bytes_text(std::max(plan.vision_weights, plan.text_weights)),
                     bytes_text(plan.fetched_per_token));
}

Plan require_fit(const Checkpoint& checkpoint, PlanSetup& setup, const std::optional<int64_t>& ram) {
  const MemoryLimit limit = memory_limit(ram);
  setup.request.ram = ram;
  const Plan plan = make_plan(checkpoint, setup.policy.resolve(setup.target).precision, setup.request);
  if (limit.fits(plan)) return plan;
  std::string changes;
  for (const Remedy& remedy :
       find_remedies(checkpoint, setup, limit.bytes, [&](const Plan& p) { return limit.need(p); })) {
    changes += "\n    " + remedy_text(remedy);
  }
  throw Error(
      ErrorKind::exhausted,
      fmt::format("the request {}; {} {} (fovea plan shows more)", need_text(plan),
                  limit.given ? "--ram allows a resident set of" : "besides mapped weights there is room for",
                  bytes_text(limit.bytes)),
      changes.empty() ? "no single change is enough: use a machine with more memory, or ask for less"
                      : "any one of these is enough, cheapest first:" + changes);
}

}  // namespace fovea
