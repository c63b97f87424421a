#include "plan/remedies.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "media/geometry.h"
#include "media/token_budget.h"
#include "plan/plan_text.h"

namespace fovea {

namespace {

constexpr const char* kSame = "none: the same results";

class Search {
 public:
  Search(const Checkpoint& checkpoint, PlanSetup& setup, int64_t limit, const Need& need)
      : checkpoint_(checkpoint), setup_(setup), limit_(limit), need_(need) {}

  std::vector<Remedy> run() {
    const Plan before = planned();
    attention("flash_attention_2", AttentionKind::flash_attention_2, "none: its scores are fp32", "less");
    attention("sdpa", AttentionKind::sdpa, "none: its scores are fp32", "less");
    chunk();
    vision_budget();
    offload();
    kv_offload();
    if (auto ranks = find_ranks(checkpoint_, setup_, limit_, need_)) found_.push_back(std::move(*ranks));
    if (before.converted_weights > 0) stored_dtype();
    cache("bf16", "keys and values are rounded to bf16", "the same or less");
    cache("int8", "keys and values in 8 bits, but in the first and last layer", "a little more");
    if (found_.empty()) together();
    image_tokens("");
    answer();
    return std::move(found_);
  }

 private:
  Plan planned() const {
    const ResolvedPolicy resolved = setup_.policy.resolve(setup_.target);
    return make_plan(checkpoint_, resolved.precision, setup_.request);
  }
  bool fits(const Plan& plan) const { return need_(plan) <= limit_; }
  void offer(const std::string& change, const std::string& accuracy, const std::string& time) {
    const Plan plan = planned();
    if (fits(plan)) found_.push_back({change, accuracy, time, plan});
  }

  // Each of these leaves the setup as it was.
  void attention(const std::string& name, AttentionKind kind, const char* accuracy, const char* time) {
    if (setup_.policy.preset()) return;
    const PolicyTarget target = setup_.target;
    const auto heavier = [&](AttentionKind k) {
      return k == AttentionKind::eager || (k == AttentionKind::sdpa && kind != AttentionKind::sdpa);
    };
    if (heavier(target.text_attention) || heavier(target.vision_attention)) {
      setup_.target.text_attention = setup_.target.vision_attention = kind;
      try {
        offer("--attn " + name, accuracy, time);
      } catch (const Error&) {  // the policy has settings of eager alone
      }
    }
    setup_.target = target;
  }

  void chunk() {
    const int64_t old = setup_.request.prefill_chunk;
    for (int64_t rows = 512; rows >= 32; rows /= 2) {
      if (old > 0 && rows >= old) continue;
      setup_.request.prefill_chunk = rows;
      if (!fits(planned())) continue;
      offer(fmt::format("--prefill-chunk {}", rows), kSame, "a little more in the prefill");
      break;
    }
    setup_.request.prefill_chunk = old;
  }

  void vision_budget() {
    const int64_t old = std::exchange(setup_.request.vision_budget_bytes, 1);
    offer("--vision-budget 1M", kSame, "a little more for videos");
    setup_.request.vision_budget_bytes = old;
  }

  // Where a limit was given, weights are streamed already.
  void offload() {
    if (setup_.request.ram) return;
    setup_.request.ram = limit_;
    const Plan plan = planned();
    if (plan.streamed && fits(plan)) {
      found_.push_back({fmt::format("--ram {}M", limit_ / 1'000'000), kSame,
                        fmt::format("every token reads {} of weights", bytes_text(plan.fetched_per_token)),
                        plan});
    }
    setup_.request.ram.reset();
  }

  void kv_offload() {
    if (std::exchange(setup_.request.kv_offload, true)) return;
    const Plan plan = planned();
    if (plan.kv_limit && fits(plan)) {
      found_.push_back({"--kv-offload", kSame, fmt::format("every token reads {}", disk_text(plan)), plan});
    }
    setup_.request.kv_offload = false;
  }

  void stored_dtype() {
    const auto old = std::exchange(setup_.target.dtype, checkpoint_.config().dtype);
    try {
      offer(fmt::format("--dtype {}", name_of(checkpoint_.config().dtype)),
            "that of the checkpoint's own dtype", "the same");
    } catch (const Error&) {  // the policy fixes another
    }
    setup_.target.dtype = old;
  }

  void cache(const char* dtype, const char* accuracy, const char* time) {
    const PrecisionPolicy old = setup_.policy;
    try {
      set_kv_cache(setup_.policy, dtype);
      offer(fmt::format("--kv-cache-dtype {}", dtype), accuracy, time);
    } catch (const Error&) {  // the policy says otherwise, or another dtype makes no sense there
    }
    setup_.policy = old;
  }

  // No single change of the computation was enough: those that change no result, and with them fewer tokens.
  void together() {
    const PolicyTarget target = setup_.target;
    const int64_t chunk = setup_.request.prefill_chunk, budget = setup_.request.vision_budget_bytes;
    std::string change;
    if (!setup_.policy.preset() && (target.text_attention != AttentionKind::flash_attention_2 ||
                                    target.vision_attention != AttentionKind::flash_attention_2)) {
      setup_.target.text_attention = setup_.target.vision_attention = AttentionKind::flash_attention_2;
      change += "--attn flash_attention_2 ";
    }
    setup_.request.prefill_chunk = chunk == 0 ? 128 : std::min<int64_t>(chunk, 128);
    setup_.request.vision_budget_bytes = 1;
    change += fmt::format("--prefill-chunk {} --vision-budget 1M", setup_.request.prefill_chunk);
    try {
      const size_t before = found_.size();
      offer(change, "none: scores are fp32", "a little more in the prefill");
      if (found_.size() == before) image_tokens(change + " ");
    } catch (const Error&) {
    }
    setup_.target = target;
    setup_.request.prefill_chunk = chunk;
    setup_.request.vision_budget_bytes = budget;
  }

  // The request with its pictures at one level (media/token_budget.h).
  std::vector<std::pair<Picture, MediaOptions>> at_level_of(int64_t level) {
    std::vector<std::pair<Picture, MediaOptions>> old;
    for (PlanPicture& picture : setup_.request.pictures) {
      const MediaOptions options = at_level(picture.options, level);
      Picture geometry = with_geometry(picture.measured, options);
      old.emplace_back(std::exchange(picture.measured, std::move(geometry)),
                       std::exchange(picture.options, options));
    }
    return old;
  }
  void restore(std::vector<std::pair<Picture, MediaOptions>> old) {
    for (size_t i = 0; i < old.size(); ++i) {
      setup_.request.pictures[i].measured = std::move(old[i].first);
      setup_.request.pictures[i].options = old[i].second;
    }
  }
  Plan planned_at(int64_t level) {
    auto old = at_level_of(level);
    const Plan plan = planned();
    restore(std::move(old));
    return plan;
  }

  void image_tokens(const std::string& beside) {
    if (setup_.request.pictures.empty()) return;
    const Plan before = planned();
    int64_t enough = 0, too_many = before.image_tokens + 1;
    while (too_many - enough > 1) {
      const int64_t middle = enough + (too_many - enough) / 2;
      (fits(planned_at(middle)) ? enough : too_many) = middle;
    }
    if (enough == 0) return;
    const Plan plan = planned_at(enough);
    if (plan.image_tokens >= before.image_tokens) return;
    const auto pictures = static_cast<int64_t>(setup_.request.pictures.size());
    found_.push_back(
        {fmt::format("{}--max-total-image-tokens {}", beside, plan.image_tokens),
         fmt::format(
             "images keep {} % of their tokens{}", plan.image_tokens * 100 / before.image_tokens,
             plan.image_tokens / pictures < kImageTokensUsable ? ", too few for small text and places" : ""),
         "less", plan});
  }

  void answer() {
    const int64_t old = setup_.request.answer_tokens;
    int64_t enough = -1, too_many = old;
    while (too_many - enough > 1) {
      const int64_t middle = enough + (too_many - enough) / 2;
      setup_.request.answer_tokens = middle;
      (fits(planned()) ? enough : too_many) = middle;
    }
    if (enough > 0) {
      setup_.request.answer_tokens = enough;
      offer(fmt::format("--max-new-tokens {}", enough), "a long answer ends early", "less");
    }
    setup_.request.answer_tokens = old;
  }

  const Checkpoint& checkpoint_;
  PlanSetup& setup_;
  int64_t limit_;
  const Need& need_;
  std::vector<Remedy> found_;
};

}  // namespace

std::vector<Remedy> find_remedies(const Checkpoint& checkpoint, PlanSetup& setup, int64_t limit,
                                  const Need& need) {
  return Search(checkpoint, setup, limit, need).run();
}

std::optional<Remedy> find_ranks(const Checkpoint& checkpoint, PlanSetup& setup, int64_t limit,
                                 const Need& need) {
  constexpr int64_t kMost = 64;
  const Precision precision = setup.policy.resolve(setup.target).precision;
  if (!shareable(checkpoint, precision)) return std::nullopt;
  PlanRequest& request = setup.request;
  const int64_t ranks = request.ranks;
  const bool on_disk = std::exchange(request.share_on_disk, false);
  std::optional<Remedy> found;
  for (request.ranks = std::max<int64_t>(ranks, 1) + 1; !found && request.ranks <= kMost; ++request.ranks) {
    const Plan plan = make_plan(checkpoint, precision, request);
    if (need(plan) > limit) continue;
    found = Remedy{fmt::format("mpirun -n {} on as many hosts, with --zero-stage 3", request.ranks), kSame,
                   fmt::format("every token gathers {} of weights",
                               bytes_text(plan.fetched_per_token * (request.ranks - 1) / request.ranks)),
                   plan};
  }
  request.ranks = ranks;
  request.share_on_disk = on_disk;
  return found;
}

}  // namespace fovea
