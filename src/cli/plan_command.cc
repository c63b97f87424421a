// `fovea plan`: what a request would need, before anything is allocated.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/byte_size.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/output.h"
#include "cli/plan_request.h"

namespace fovea {

namespace {

using nlohmann::ordered_json;

// As `fovea run` ends, which would refuse the request.
constexpr int kDoesNotFit = 1;

struct PlanFlags {
  EngineFlags engine;
  std::string config;
  PlannedUse use;
  int64_t ranks = 0;
  std::optional<std::string> ram;
  bool json = false;
};

ordered_json plan_json(const Plan& plan) {
  ordered_json parts;
  for (const PlanPart& part : parts_of(plan))
    parts[part.name] = {{"bytes", part.bytes}, {"when", part.phase}};
  return {{"peak_bytes", plan.peak()},
          {"peak_phase", plan.peak_phase()},
          {"unreclaimable_bytes", plan.unreclaimable()},
          {"context", plan.context},
          {"prompt_tokens", plan.prompt_tokens},
          {"image_tokens", plan.image_tokens},
          {"phases",
           {{"preprocessing", plan.preprocessing()},
            {"encoding", plan.encoding()},
            {"generating", plan.generating()}}},
          {"ranks", plan.ranks},
          {"streamed", plan.streamed},
          {"weight_bytes_read_per_token", plan.fetched_per_token},
          {"kv_bytes_on_disk", plan.kv_disk},
          {"parts", parts}};
}

// What a rank or a machine alone lacks, others can hold.
void print_ranks(const std::optional<Remedy>& ranks) {
  if (ranks) print_output("in memory they have room among ranks: {}\n", remedy_text(*ranks));
}

void print_text(const Plan& plan, const MemoryLimit& limit, const std::vector<Remedy>& remedies) {
  print_output("{} tokens: {} of images, {} of text, {} of the answer\n", plan.context, plan.image_tokens,
               plan.prompt_tokens - plan.image_tokens, plan.context - plan.prompt_tokens);
  if (plan.ranks > 0)
    print_output("for the one of {} ranks that answers; the others need less\n", plan.ranks);
  print_output("\n");
  for (const PlanPart& part : parts_of(plan)) {
    if (part.bytes > 0) print_output("{:<26} {:>12}   {}\n", part.words, bytes_text(part.bytes), part.phase);
  }
  print_output("\n{:<26} {:>12}   {}\n", "peak", bytes_text(plan.peak()), plan.peak_phase());
  if (plan.ranks == 0 && plan.streamed) print_output("{}\n", streaming_text(plan));
  if (plan.kv_disk > 0) {
    print_output("{} of keys and values lie on disk; every token reads all there are by then\n",
                 bytes_text(plan.kv_disk));
  }
  if (plan.ranks > 0) {
    print_output("its part of the weights {}; every token gathers {}\n",
                 plan.weight_share > 0 ? "is in memory" : "stays on disk",
                 bytes_text(plan.fetched_per_token * (plan.ranks - 1) / plan.ranks));
  }
  if (limit.bytes == 0) return;
  print_output("{:<26} {:>12}   {}\n", limit.given ? "--ram" : "available", bytes_text(limit.bytes),
               limit.given ? "for the resident set" : "for all but the mapped weights");
  print_output("\n{}\n", limit.fits(plan) ? "it fits" : "it does not fit");
  if (limit.fits(plan)) {
    if (plan.peak() > limit.bytes) {
      print_output(
          "but not all mapped weights with it: they will be read again and again. --ram {}M streams them "
          "ahead\n",
          limit.bytes / 1'000'000);
    }
    return;
  }
  print_output("{}\n", remedies.empty() ? "no single change is enough"
                                        : "any one of these is enough, cheapest first:");
  for (const Remedy& remedy : remedies) print_output("  {}\n", remedy_text(remedy));
}

// Offered where weights fit, but not in memory: they are on disk, or mapped and read again.
std::optional<Remedy> ranks_in_memory(const Checkpoint& checkpoint, PlanSetup& setup, const Plan& plan,
                                      const MemoryLimit& limit) {
  const bool in_memory =
      limit.bytes == 0 || (plan.peak() <= limit.bytes && (plan.weight_share > 0 || !plan.streamed));
  if (in_memory || !limit.fits(plan)) return std::nullopt;
  return find_ranks(checkpoint, setup, limit.bytes, [](const Plan& p) { return p.peak(); });
}

ordered_json change_json(const Remedy& remedy) {
  return {{"change", remedy.change},
          {"accuracy", remedy.accuracy},
          {"time", remedy.time},
          {"peak_bytes", remedy.plan.peak()},
          {"image_tokens", remedy.plan.image_tokens},
          {"ranks", remedy.plan.ranks}};
}

ordered_json verdict_json(const Plan& plan, const MemoryLimit& limit, const std::vector<Remedy>& remedies,
                          const std::optional<Remedy>& ranks) {
  ordered_json result = plan_json(plan);
  result["limit_bytes"] = limit.bytes;
  result["limit_given"] = limit.given;
  result["fits"] = limit.fits(plan);
  result["changes"] = ordered_json::array();
  for (const Remedy& remedy : remedies) result["changes"].push_back(change_json(remedy));
  result["in_memory_among_ranks"] = ranks ? change_json(*ranks) : ordered_json(nullptr);
  return result;
}

// The ranks of a device map, each on a host of its own as far as memory goes.
void plan_device_map(const PlanFlags& flags, const Checkpoint& checkpoint, PlanSetup& setup,
                     const MemoryLimit& limit) {
  flags.engine.refuse_beside_device_map(std::nullopt);
  if (flags.engine.device_map == "auto" && flags.ranks == 0) {
    throw Error(ErrorKind::invalid_argument, "--device-map auto says nothing without a number of ranks",
                "add --ranks R");
  }
  const DeviceMap map = flags.engine.device_map_for(checkpoint, static_cast<int>(flags.ranks));
  const int ranks = flags.ranks > 0 ? static_cast<int>(flags.ranks) : map.ranks();
  map.require_ranks(ranks);
  const Precision precision = setup.policy.resolve(setup.target).precision;
  ordered_json list = ordered_json::array();
  bool all_fit = true;
  for (int rank = 0; rank < ranks; ++rank) {
    setup.request.part = {map.held_by(rank), rank == 0};
    const Plan plan = make_plan(checkpoint, precision, setup.request);
    all_fit = all_fit && limit.fits(plan);
    list.push_back({{"rank", rank}, {"device_map", map.parts_of(rank)}, {"fits", limit.fits(plan)}});
    list.back().update(plan_json(plan));
    if (flags.json) continue;
    print_output(
        "rank {}: {}\n  {}{}\n", rank, map.parts_of(rank), need_text(plan),
        limit.fits(plan) ? "" : fmt::format("\n  does not fit: there are {}", bytes_text(limit.bytes)));
  }
  if (flags.json) {
    print_json(ordered_json{{"device_map", map.text()},
                            {"limit_bytes", limit.bytes},
                            {"limit_given", limit.given},
                            {"fits", all_fit},
                            {"ranks", list},
                            {"warnings", checkpoint.warnings()}});
  } else if (!all_fit) {
    print_output("give such a rank less, or use more of them\n");
  }
  if (!all_fit) throw ExitWith{kDoesNotFit};
}

void plan_memory(const PlanFlags& flags) {
  const PlannedModel model(flags.engine, flags.config);
  const Checkpoint& checkpoint = model.checkpoint;
  PlanSetup setup = planned_request(flags.engine, flags.use, checkpoint);
  std::optional<int64_t> ram;
  if (flags.ram) ram = parse_bytes(*flags.ram, "--ram");
  const MemoryLimit limit = memory_limit(ram);
  if (!flags.engine.device_map.empty()) return plan_device_map(flags, checkpoint, setup, limit);
  setup.request.ranks = flags.ranks;
  setup.request.ram = ram;
  const Precision precision = setup.policy.resolve(setup.target).precision;
  Plan plan = make_plan(checkpoint, precision, setup.request);
  if (flags.ranks > 0 && !limit.fits(plan)) {
    setup.request.share_on_disk = true;
    plan = make_plan(checkpoint, precision, setup.request);
  }
  std::vector<Remedy> remedies;
  if (!limit.fits(plan)) {
    remedies = find_remedies(checkpoint, setup, limit.bytes, [&](const Plan& p) { return limit.need(p); });
  }
  const std::optional<Remedy> ranks = ranks_in_memory(checkpoint, setup, plan, limit);
  if (flags.json) {
    ordered_json verdict = verdict_json(plan, limit, remedies, ranks);
    verdict["warnings"] = checkpoint.warnings();
    print_json(verdict);
  } else {
    print_text(plan, limit, remedies);
    print_ranks(ranks);
  }
  if (!limit.fits(plan)) throw ExitWith{kDoesNotFit};
}

}  // namespace

void add_plan_command(CLI::App& app) {
  const auto flags = std::make_shared<PlanFlags>();
  CLI::App* command = app.add_subcommand(
      "plan", "predict the memory a request needs, and what to change when it does not fit");
  flags->engine.add_engine_to(*command);
  add_config_to(*command, flags->config);
  flags->use.add_to(*command);
  command
      ->add_option("--ram", flags->ram,
                   "memory the process may occupy, mapped weights included (default: what is available)")
      ->type_name("SIZE")
      ->group(kCommonOptions);
  command->add_flag("--json", flags->json, "print one JSON object")->group(kCommonOptions);
  command
      ->add_option(
          "--ranks", flags->ranks,
          "processes that store the weights together (--zero-stage 3 of run): the plan is that of the one "
          "that answers, on a host of its own; with --device-map those of all")
      ->type_name("R")
      ->group("Several processes");
  flags->engine.add_kv_offload_to(*command);
  flags->engine.add_device_map_to(*command);
  command->footer(
      "Examples:\n"
      "  fovea plan -m DIR --context 32768 --images 20@1280x960 --attn flash_attention_2 --ram 16G\n"
      "  fovea plan --config 7b --images 10@1280x960 --preset balanced --ram 16G\n"
      "  fovea plan -m DIR --context 4096 --ranks 4 --ram 4G\n"
      "  fovea plan -m DIR --images 2@1344x1008 --device-map auto --ranks 2\n"
      "  fovea plan -m DIR --images 2@3000x2000 --images 1@640x480x32 --dtype fp32 --json\n"
      "It ends with 1 when the request does not fit. docs/guide/memory.md says what is counted and how near "
      "the "
      "predictions are.");
  command->callback([flags] { plan_memory(*flags); });
}

}  // namespace fovea
