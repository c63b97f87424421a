// `fovea audit` and `fovea eval`: a suite of questions under several configurations, or under one.
#include <algorithm>
#include <cstdio>
#include <limits>

#include "audit/audit.h"
#include "base/error.h"
#include "base/output_file.h"
#include "base/processors.h"
#include "base/utc_time.h"
#include "cli/answer_json.h"
#include "cli/audit_tables.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/files_read.h"
#include "cli/help.h"
#include "cli/interrupt.h"
#include "cli/memory_check.h"
#include "cli/option_values.h"
#include "cli/output.h"
#include "cli/own_command.h"
#include "cli/progress_bar.h"
#include "cli/ranks.h"
#include "cli/text_file.h"
#include "report/report.h"

namespace fovea {

namespace {

struct SuiteFlags {
  EngineFlags engine;
  std::string suite, json, resume;
  std::optional<std::string> ram;
  int64_t limit = 0, max_new_tokens = 32;

  void add_to(CLI::App& command) {
    engine.add_engine_to(command);
    command.add_option("--suite", suite, "questions: a .jsonl file, or a folder with suite.jsonl or *.jsonl")
        ->required()
        ->type_name("FILE|DIR")
        ->group(kCommonOptions);
    command.add_option("--limit", limit, "only the first N usable questions (default: all)")
        ->type_name("N")
        ->group(kCommonOptions);
    command
        .add_option("-n,--max-new-tokens,--max-tokens,--n-predict", max_new_tokens,
                    "length limit of an answer")
        ->type_name("N")
        ->check(whole_number(1, std::numeric_limits<int32_t>::max()))
        ->capture_default_str()
        ->group(kCommonOptions);
    EngineFlags::add_ram_to(command, ram);
    engine.add_kv_offload_to(command);
    engine.add_zero_to(command);
    command.add_option("--json", json, "write everything that was measured")
        ->type_name("FILE")
        ->group(kCommonOptions);
    command
        .add_option("--resume", resume,
                    "continue from this state file (without it: from the one beside --json, if there is one)")
        ->type_name("FILE")
        ->group(kCommonOptions);
  }
};

struct AuditFlags : SuiteFlags {
  std::string compare = "eager-bf16,sdpa,flash-bf16,eager-qkv-fp32", reference = "fp32";
  std::string report;
  std::vector<std::string> attribute;
  std::vector<int64_t> image_budgets;
  int64_t attribution_items = 24;
  double target = 0.95;
  bool drift = false, search = false, search_storage = false;
};

AuditOptions common_options(const SuiteFlags& flags) {
  AuditOptions options;
  options.limit = flags.limit;
  options.evaluation.max_new_tokens = flags.max_new_tokens;
  options.evaluation.prefill_chunk = flags.engine.prefill_chunk;
  options.media = flags.engine.media_limits();
  options.resume = !flags.resume.empty();
  if (options.resume) {
    options.state_file = flags.resume;
  } else if (!flags.json.empty()) {
    options.state_file = flags.json + ".state";
  }
  return options;
}

// The policy that --preset, --precision, --kv-cache-dtype, --attn, --vision-attn and --dtype describe.
Configuration configuration_of(const EngineFlags& flags) {
  Configuration one{"", flags.policy().value_or(PrecisionPolicy()), parse_guard(flags.guard)};
  const std::string vision = flags.vision_attention.empty() ? flags.attention : flags.vision_attention;
  PolicyScope text_tower, vision_tower;
  vision_tower.tower = Tower::vision;
  if (!flags.attention.empty()) one.policy.set(text_tower, "attention", flags.attention);
  if (!vision.empty()) one.policy.set(vision_tower, "attention", vision);
  if (!flags.dtype.empty()) one.policy.set_dtype(parse_dtype(flags.dtype));
  one.name = one.policy.text().empty() ? "default" : one.policy.text();
  if (one.policy == PrecisionPolicy::of_preset(one.policy.preset().value_or("fp32")))
    one.name = *one.policy.preset();
  return one;
}

Engine open(const EngineFlags& flags, const MemoryCheck& memory, const Observer& observer) {
  EngineFlags plain = flags;  // the evaluator makes the engines of the configurations
  plain.attention = plain.vision_attention = plain.dtype = plain.preset = plain.precision = "";
  plain.guard = "off";
  plain.kv_cache_dtype = "auto";
  return plain.open(observer, memory.weight_limit(), memory.share_on_disk());
}

// What each rank holds of the weights, and in all.
nlohmann::ordered_json ranks_json(const Engine& engine) {
  const StreamState stream = engine.stream_state();
  const nlohmann::ordered_json own = {{"share_bytes", stream.source_bytes},
                                      {"buffer_bytes", stream.buffer_bytes + stream.kept_bytes},
                                      {"fetched_bytes", stream.fetched_bytes},
                                      {"peak_memory_bytes", peak_memory_bytes()}};
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const std::string& text : gather_texts(own.dump()))
    list.push_back(nlohmann::ordered_json::parse(text));
  return list;
}

AuditOutcome run_shared(const Engine& engine, const Suite& suite, const AuditOptions& options,
                        const AuditFollower& follower, bool zero) {
  AuditOutcome outcome;
  among_ranks([&] {
    outcome = run_audit(engine, suite, options, follower);
    if (zero) outcome.json["ranks"] = ranks_json(engine);
  });
  return outcome;
}

// With --device-map: rank 0 asks, several questions at a time, the others compute their parts.
AuditOutcome run_split(const SuiteFlags& flags, const Suite& suite, const AuditOptions& options,
                       const Observer& observer, const AuditFollower& follower) {
  const Engine engine = flags.engine.open(observer, std::nullopt, false);
  AuditOutcome outcome;
  among_ranks([&] {
    if (first_rank()) {
      outcome = run_audit(engine, suite, options, follower);
      engine.release_ranks();
    } else {
      engine.serve();
    }
    const nlohmann::ordered_json parts = gather_parts(*engine.device_map());
    if (first_rank()) outcome.json["ranks"] = parts;
  });
  return outcome;
}

AuditOutcome run_whole(const SuiteFlags& flags, const Suite& suite, AuditOptions& options,
                       const Observer& observer, const AuditFollower& follower) {
  if (flags.engine.zero_stage == 3) options.sharing = sharing_among_ranks();
  std::vector<Configuration> configurations = options.compare;
  if (options.reference) configurations.push_back(*options.reference);
  const MemoryCheck memory(flags.engine, flags.ram, false, configurations);
  const Engine engine = open(flags.engine, memory, observer);
  options.check = [&](const EngineOptions& asked, const ConvertedBytes& converted, bool may_stream,
                      int64_t tokens, std::span<const Picture> pictures,
                      std::span<const MediaOptions> media) {
    return memory.room(engine, asked, converted, may_stream, flags.max_new_tokens, tokens, pictures, media);
  };
  return run_shared(engine, suite, options, follower, flags.engine.zero_stage == 3);
}

// Nothing that is written takes the place of what is read, nor of something else that is written.
void check_outputs(const SuiteFlags& flags, const AuditOptions& options, const Suite& suite,
                   const std::string& report) {
  InputFiles inputs;
  add_files_of(flags.engine, inputs);
  for (const SuiteItem& item : suite.items) {
    inputs.add(item.file);
    add_files_of(item.messages, inputs);
  }
  for (const SuiteProblem& problem : suite.problems) inputs.add(problem.file);
  const std::string state = options.state_file.string();
  inputs.refuse_as_output(state, options.resume ? "--resume" : "the state file of --json,");
  inputs.refuse_as_output(flags.json, "--json");
  inputs.refuse_as_output(report, "--report");
  if (same_place(report, flags.json) || same_place(state, flags.json) || same_place(state, report)) {
    throw Error(ErrorKind::invalid_argument, "--json, --report and --resume name the same file",
                "give each a name of its own");
  }
  if (!first_rank()) return;
  check_writable(flags.json);
  check_writable(report);
}

AuditOutcome run(const SuiteFlags& flags, AuditOptions options, const std::string& report = "") {
  flags.engine.refuse_beside_device_map(flags.ram);
  stop_on_interrupt();
  ProgressBar bar;
  const Suite suite = read_suite(flags.suite);
  check_outputs(flags, options, suite, report);
  Observer observer;
  if (first_rank()) observer.progress = bar.callback();
  AuditFollower follower;
  follower.progress = observer.progress;
  follower.cancel = &interrupted();
  follower.note = [&](std::string_view line) {
    if (!first_rank()) return;
    bar.clear();
    print_note("{}\n", line);
  };
  AuditOutcome outcome = flags.engine.device_map.empty()
                             ? run_whole(flags, suite, options, observer, follower)
                             : run_split(flags, suite, options, observer, follower);
  bar.clear();
  outcome.json["machine"]["cpu"] = processor_name();
  outcome.json["machine"]["version"] = FOVEA_VERSION;
  outcome.json["date"] = utc_now();
  const std::vector<std::string> command = command_to_repeat(flags.engine.model.model);
  outcome.json["command"] =
      command.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(command);
  return outcome;
}

std::string dump(const nlohmann::ordered_json& json) {
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void print_ranks(const nlohmann::ordered_json& json) {
  if (!json.contains("ranks")) return;
  if (json["ranks"][0].contains("parts")) return print_parts(json["ranks"]);
  int64_t rank = 0;
  for (const auto& item : json["ranks"]) {
    print_note("rank {}: weights in memory: {:.2f} MB of its own share, {:.2f} MB gathered for the moment\n",
               rank++, item["share_bytes"].get<double>() / 1e6, item["buffer_bytes"].get<double>() / 1e6);
  }
}

// An interrupted run has kept its state, if it was told where.
void end(const SuiteFlags& flags, const AuditOptions& options, const AuditOutcome& outcome) {
  if (!flags.json.empty()) write_file(flags.json, dump(outcome.json));
  flush_output();
  print_ranks(outcome.json);
  if (outcome.complete) return;
  if (options.state_file.empty()) {
    print_warning("stopped; with --json FILE or --resume FILE it could be continued\n");
  } else {
    print_warning("stopped; continue with the same command and --resume {}\n", options.state_file.string());
  }
  throw ExitWith{kInterrupted};
}

void audit(const AuditFlags& flags) {
  AuditOptions options = common_options(flags);
  if (!flags.engine.preset.empty() || !flags.engine.precision.empty() || !flags.engine.attention.empty() ||
      !flags.engine.vision_attention.empty() || !flags.engine.dtype.empty() || flags.engine.guard != "off" ||
      flags.engine.kv_cache_dtype != "auto") {
    throw Error(ErrorKind::invalid_argument,
                "an audit takes its configurations from --compare and --reference",
                "leave --attn, --vision-attn, --dtype, --kv-cache-dtype, --preset, --precision and --guard "
                "out, or use "
                "fovea eval");
  }
  options.compare = parse_configurations(flags.compare);
  options.reference = parse_configuration(flags.reference);
  options.evaluation.drift = flags.drift;
  options.attribute = !flags.attribute.empty();
  if (options.attribute) options.attribute_configuration = flags.attribute.front();
  options.attribution.items = flags.attribution_items;
  options.search = flags.search;
  options.search_storage = flags.search_storage;
  options.target = flags.target;
  options.image_budgets = flags.image_budgets;
  std::sort(options.image_budgets.begin(), options.image_budgets.end());
  const auto repeated = std::unique(options.image_budgets.begin(), options.image_budgets.end());
  options.image_budgets.erase(repeated, options.image_budgets.end());
  const AuditOutcome outcome = run(flags, options, flags.report);
  if (!first_rank()) return;
  print_output("{}\n{}", suite_text(outcome.json), configurations_text(outcome.json));
  for (const std::string& part : {tags_text(outcome.json), attribution_text(outcome.json),
                                  search_text(outcome.json), storage_search_text(outcome.json)}) {
    if (!part.empty()) print_output("\n{}", part);
  }
  print_output("\n{}", conclusion_text(outcome.json));
  if (!flags.report.empty()) write_file(flags.report, html_report(nlohmann::json(outcome.json)));
  end(flags, options, outcome);
}

void eval(const SuiteFlags& flags) {
  AuditOptions options = common_options(flags);
  options.compare = {configuration_of(flags.engine)};
  options.evaluation.examine = false;
  const AuditOutcome outcome = run(flags, options);
  if (!first_rank()) return;
  print_output("{}\n{}\n{}", suite_text(outcome.json), configurations_text(outcome.json),
               conclusion_text(outcome.json));
  end(flags, options, outcome);
}

void add_audit_options(CLI::App& command, AuditFlags& flags) {
  command.option_defaults()->group("What the audit does");
  command
      .add_option(
          "--compare", flags.compare,
          "configurations, separated by commas: presets (fovea presets lists them), each with settings of "
          "--precision behind a colon, separated by semicolons")
      ->type_name("LIST")
      ->capture_default_str();
  command.add_option("--reference", flags.reference, "the configuration that the others are compared with")
      ->type_name("NAME")
      ->capture_default_str();
  command.add_flag("--drift", flags.drift,
                   "errors layer by layer against the reference, and of each attention against its formula");
  command
      .add_option(
          "--attribute", flags.attribute,
          "find the node to blame, in the configuration that loses most or in NAME: each is raised to fp32 "
          "alone, and lowered alone")
      ->type_name("[NAME]")
      ->expected(0, 1)
      ->default_str("");
  command.add_option("--attribution-items", flags.attribution_items, "questions of --attribute")
      ->type_name("N")
      ->capture_default_str();
  command
      .add_option("--image-budgets", flags.image_budgets,
                  "ask everything again with each of these as --max-total-image-tokens, as 64,128,256: "
                  "accuracy over the tokens that the images of a question share")
      ->type_name("LIST")
      ->delimiter(',');
  command.add_option("--report", flags.report, "write one self-contained HTML page with charts")
      ->type_name("FILE.html");
  command.add_flag("--search", flags.search, "find the cheapest policy that reaches --target");
  command.add_flag("--search-storage", flags.search_storage,
                   "find the fewest bytes of weights, keys and values that reach --target: 16, 8 and 4 bits, "
                   "everywhere or in the inner layers");
  command.add_option("--target", flags.target, "share of right answers that is good enough")
      ->type_name("SHARE")
      ->capture_default_str();
  command.option_defaults()->group("Options");
}

}  // namespace

void add_audit_command(CLI::App& app) {
  const auto flags = std::make_shared<AuditFlags>();
  CLI::App* command = app.add_subcommand(
      "audit",
      "say which attention configurations are safe for a model and a suite, and why the others are not");
  flags->add_to(*command);
  add_audit_options(*command, *flags);
  command->footer(
      "Examples:\n"
      "  fovea audit -m DIR --suite suites/mixed\n"
      "  fovea audit -m DIR --suite my.jsonl --compare eager-bf16,eager-fp16,sdpa --limit 50 --json "
      "out.json\n"
      "  fovea audit -m DIR --suite my.jsonl --drift --attribute --search --target 0.95 --json out.json\n"
      "  fovea audit -m DIR --suite my.jsonl --compare \"eager-bf16:text.scores=fp32;text.scaled=fp32\"\n\n"
      "Ctrl-C ends it after the current question; the same command continues it when --json names the "
      "output.\n"
      "docs/guide/audit.md describes suites, configurations and every field of the JSON.");
  command->callback([flags] { audit(*flags); });
}

void add_eval_command(CLI::App& app) {
  const auto flags = std::make_shared<SuiteFlags>();
  CLI::App* command = app.add_subcommand("eval", "accuracy of one configuration on a suite of questions");
  flags->add_to(*command);
  flags->engine.add_device_map_to(*command);
  command->footer(
      "Examples:\n"
      "  fovea eval -m DIR --suite suites/easy\n"
      "  fovea eval -m DIR --suite my.jsonl --attn eager --dtype bf16 --json out.json\n"
      "  fovea eval -m DIR --suite my.jsonl --preset eager-qkv-fp32 --limit 20");
  command->callback([flags] { eval(*flags); });
}

}  // namespace fovea
