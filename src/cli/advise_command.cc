// `fovea advise`: how to run a request on this machine, and why so.
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "advise/advise.h"
#include "base/error.h"
#include "cli/byte_size.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/model_flag.h"
#include "cli/option_values.h"
#include "cli/output.h"
#include "cli/plan_request.h"
#include "plan/available_memory.h"

namespace fovea {

namespace {

using nlohmann::ordered_json;

// Of what is available when no --ram is given, and left to others and to the plan's error.
constexpr double kLeftFree = 0.05;
// What a process occupies before any weight is read differs from start to start, by up to 2.0 MB beside other
// processes (sixty starts of `fovea plan`): a command chosen to fit by less would be refused at another
// start.
constexpr int64_t kStartsDiffer = 2'500'000;

struct AdviseFlags {
  EngineFlags engine;
  std::string config;
  PlannedUse use;
  std::optional<std::string> ram;
  std::string prefer = "accuracy";
  bool json = false, remeasure = false;
};

// Empty where nothing says where files are kept.
std::filesystem::path cache_file() {
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  if (cache != nullptr && *cache == '/') return std::filesystem::path(cache) / "fovea" / "machine.json";
  if (home != nullptr && *home != '\0')
    return std::filesystem::path(home) / ".cache" / "fovea" / "machine.json";
  return {};
}

// The total of image tokens that the context has room for, when it has none for all; text keeps 512 tokens,
// or half of what the answer leaves.
std::optional<int64_t> total_for_context(const EngineFlags& engine, const PlannedUse& use,
                                         const Checkpoint& checkpoint) {
  const int64_t most = checkpoint.config().text.max_position_embeddings;
  const int64_t context = use.context.value_or(most), left = context - use.max_new_tokens;
  if (left < 2) return std::nullopt;  // refused by the plan
  const int64_t room = left - std::min<int64_t>(512, left / 2);
  const int64_t images = picture_tokens(engine, use, checkpoint);
  if (images <= (use.context ? left - 1 : room)) return std::nullopt;
  return room;
}

ordered_json advice_json(const Advice& advice, int64_t budget, const Machine& machine,
                         const std::vector<std::string>& plan) {
  const bench::Limits& l = machine.measured.limits;
  ordered_json json = {
      {"prepare", advice.prepare.empty() ? ordered_json() : ordered_json(command_text(advice.prepare))},
      {"command", command_text(advice.run)},
      {"plan_command", command_text(plan)},
      {"peak_bytes", advice.memory.peak()},
      {"limit_bytes", budget},
      {"vision_s", advice.time.vision_s},
      {"first_token_s", advice.time.first_token_s()},
      {"tokens_per_s", advice.time.tokens_per_s()},
      {"machine",
       {{"cpu", machine.cpu},
        {"threads", machine.threads},
        {"kernels", machine.kernels},
        {"read_gbps", l.read_gbps},
        {"bf16_gflops", l.bf16_gflops},
        {"fp32_gflops", l.fp32_gflops},
        {"int8_gops", l.int8_gops},
        {"disk_gbps", machine.disk_gbps},
        {"measured", machine.measured.when},
        {"load", machine.measured.load},
        {"notes", machine.notes}}},
      {"choices", ordered_json::array()},
      {"rejected", ordered_json::array()},
      {"ways", ordered_json::array()}};
  for (const Choice& c : advice.choices)
    json["choices"].push_back({{"what", c.what}, {"value", c.value}, {"reason", c.reason}});
  for (const Rejected& r : advice.rejected)
    json["rejected"].push_back({{"what", r.what}, {"reason", r.reason}});
  for (const Way& way : advice.ways) {
    json["ways"].push_back({{"name", way.name},
                            {"peak_bytes", way.peak_bytes},
                            {"first_token_s", way.time.first_token_s()},
                            {"tokens_per_s", way.time.tokens_per_s()}});
  }
  return json;
}

void print_advice(const Advice& advice, int64_t budget, bool ram_given, const Machine& machine,
                  const std::vector<std::string>& plan) {
  const bench::Limits& l = machine.measured.limits;
  print_output(
      "{}, {} threads, kernels {}: reading {:.1f} GB/s, bf16 {:.0f} GFLOP/s, fp32 {:.0f} GFLOP/s, int8 "
      "{:.0f} Gop/s (measured {}), disk {:.2f} GB/s\n",
      machine.cpu, machine.threads, machine.kernels, l.read_gbps, l.bf16_gflops, l.fp32_gflops, l.int8_gops,
      machine.measured.when, machine.disk_gbps);
  for (const std::string& note : machine.notes) print_output("note: {}\n", note);
  print_output("\n");
  if (!advice.prepare.empty()) print_output("once:   {}\n", command_text(advice.prepare));
  print_output("run:    {}\nshow:   {}\n\n", command_text(advice.run), command_text(plan));
  print_output("memory  {} at its peak, of {} {}\n", bytes_text(advice.memory.peak()), bytes_text(budget),
               ram_given ? "of --ram" : "(95 % of what is available)");
  print_output("time    first token after {:.3g} s ({:.3g} s of them vision), then {:.3g} tokens/s\n\n",
               advice.time.first_token_s(), advice.time.vision_s, advice.time.tokens_per_s());
  for (const Choice& c : advice.choices) print_output("{:<14} {}: {}\n", c.what, c.value, c.reason);
  print_output("\nrejected\n");
  for (const Rejected& r : advice.rejected) print_output("  {}: {}\n", r.what, r.reason);
}

void add_disk(Machine& machine, const ModelOrConfig& model, const Checkpoint& checkpoint) {
  machine.disk_gbps = model.hollow() ? kAssumedDiskGbps : measure_disk(checkpoint);
  if (model.hollow()) {
    machine.notes.push_back(fmt::format(
        "there are no weights yet to measure the disk with: {} GB/s are assumed", kAssumedDiskGbps));
  }
}

void run(const AdviseFlags& flags) {
  const PlannedModel model(flags.engine, flags.config);
  const ModelOrConfig& source = model.source;
  const Checkpoint& checkpoint = model.checkpoint;
  AdviceRequest request;
  request.prefer = parse_preference(flags.prefer);
  EngineFlags engine = flags.engine;
  engine.max_total_image_tokens = total_for_context(engine, flags.use, checkpoint);
  request.max_total_image_tokens = engine.max_total_image_tokens;
  request.setup = planned_request(engine, flags.use, checkpoint);
  request.setup.request.process_bytes += kStartsDiffer;
  request.ram_given = flags.ram.has_value();
  request.budget = flags.ram
                       ? parse_bytes(*flags.ram, "--ram")
                       : static_cast<int64_t>(static_cast<double>(available_memory()) * (1 - kLeftFree));
  if (request.budget == 0) {
    throw Error(ErrorKind::unsupported, "the system does not tell how much memory is available",
                "say how much there is with --ram");
  }
  Machine machine = this_machine(cache_file(), flags.remeasure);
  add_disk(machine, source, checkpoint);
  const int64_t budget = request.budget;
  const bool ram_given = request.ram_given;
  Advice advice = advise(checkpoint, std::move(request), machine);
  advice.prepare = source.shown(advice.prepare, false);
  advice.run = source.shown(advice.run, false);
  std::vector<std::string> plan = source.shown(advice.plan, true);
  for (const std::string& picture : flags.use.pictures) plan.insert(plan.end(), {"--images", picture});
  if (!flags.json) return print_advice(advice, budget, ram_given, machine, plan);
  ordered_json json = advice_json(advice, budget, machine, plan);
  json["warnings"] = checkpoint.warnings();
  print_json(json);
}

}  // namespace

void add_advise_command(CLI::App& app) {
  const auto flags = std::make_shared<AdviseFlags>();
  CLI::App* command =
      app.add_subcommand("advise", "choose how to run a request on this machine, with the reasons");
  add_model_to(*command, flags->engine.model);
  add_config_to(*command, flags->config);
  flags->use.max_new_tokens = 256;
  flags->use.add_to(*command);
  command
      ->add_option("--ram", flags->ram,
                   "memory the process may occupy, mapped weights included (default: 95 % of what is "
                   "available)")
      ->type_name("SIZE")
      ->group(kCommonOptions);
  choose(command->add_option(
             "--prefer", flags->prefer,
             "accuracy: the least rounding that fits, never 4 bits; latency: the first token soonest; "
             "throughput: the most tokens a second"),
         {"accuracy", "latency", "throughput"})
      ->capture_default_str()
      ->group(kCommonOptions);
  command
      ->add_flag("--remeasure", flags->remeasure,
                 "measure the machine's limits again ($XDG_CACHE_HOME/fovea/machine.json keeps them)")
      ->group(kCommonOptions);
  command->add_flag("--json", flags->json, "print one JSON object")->group(kCommonOptions);
  command->footer(
      "Examples:\n"
      "  fovea advise -m DIR --images 4@1280x960 --ram 4G\n"
      "  fovea advise --config 3b --images 1@1280x960 --ram 16G\n"
      "  fovea advise -m DIR --context 8192 --max-new-tokens 500 --prefer throughput --json\n"
      "docs/guide/memory.md says how it chooses and what the times are worth.");
  command->callback([flags] { run(*flags); });
}

}  // namespace fovea
