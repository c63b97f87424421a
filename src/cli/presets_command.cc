// `fovea presets`: what --preset and --precision understand.
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "policy/precision_policy.h"

namespace fovea {

namespace {

using nlohmann::ordered_json;

struct PresetsFlags {
  std::string name;
  bool json = false;
};

// A preset without a dtype is shown for bf16, in which the checkpoints are published.
constexpr DType kShown = DType::bf16;

void list() {
  for (const Preset& preset : presets()) print_output("{:<24}{}\n", preset.name, preset.line);
}

const char* dtype_of(const Preset& preset) {
  return preset.dtype ? name_of(*preset.dtype) : "the model's, or --dtype";
}

void show(const Preset& preset) {
  print_output("{}: {}\ndtype: {}\n", preset.name, preset.line, dtype_of(preset));
  if (!preset.dtype) print_output("shown for {}:\n", name_of(kShown));
  print_output("\n{:<17}{:<19}{:<19}{}\n", "node", "text", "vision", "meaning");
  const TowerPrecision text = preset.tower(Tower::text, kShown), vision = preset.tower(Tower::vision, kShown);
  for (const Node& node : nodes()) {
    print_output("{:<17}{:<19}{:<19}{}\n", node.name, value_of(text, node),
                 node.text_only ? "-" : value_of(vision, node), node.meaning);
  }
  print_output("{:<17}{:<19}{:<19}{}\n", "logits", name_of(preset.dtype.value_or(kShown)), "-",
               "what the output head returns");
}

ordered_json tower_json(const Preset& preset, Tower tower) {
  ordered_json object;
  for (const Node& node : nodes()) {
    if (tower == Tower::vision && node.text_only) continue;
    object[node.name] = value_of(preset.tower(tower, kShown), node);
  }
  return object;
}

ordered_json preset_json(const Preset& preset, bool with_nodes) {
  ordered_json object = {{"name", preset.name},
                         {"line", preset.line},
                         {"attention", name_of(preset.attention)},
                         {"dtype", preset.dtype ? ordered_json(name_of(*preset.dtype)) : ordered_json()}};
  if (!with_nodes) return object;
  object["shown_for"] = name_of(preset.dtype.value_or(kShown));
  object["logits"] = name_of(preset.dtype.value_or(kShown));
  object["text"] = tower_json(preset, Tower::text);
  object["vision"] = tower_json(preset, Tower::vision);
  return object;
}

void run(const PresetsFlags& flags) {
  if (!flags.name.empty()) {
    const Preset& preset = preset_named(flags.name);
    if (!flags.json) return show(preset);
    print_json(preset_json(preset, true));
    return;
  }
  if (!flags.json) return list();
  ordered_json all = ordered_json::array();
  for (const Preset& preset : presets()) all.push_back(preset_json(preset, false));
  print_json(all);
}

std::string node_help() {
  std::string help =
      "Settings of --precision, separated by commas: TOWER.NODE=VALUE, TOWER.layers.L.NODE=VALUE, or\n"
      "TOWER.layers.L-M.NODE=VALUE (TOWER: text or vision; -1 is the last layer), logits=T, preset=NAME, "
      "dtype=T.\n\n"
      "Nodes, in the order of the computation:\n";
  for (const Node& node : nodes()) {
    help += fmt::format("  {:<17}{}{}\n                   {}\n", node.name, fmt::join(node.values, " | "),
                        node.text_only ? " (text only)" : "", node.meaning);
  }
  return help + "  logits           fp32 | bf16 | fp16\n                   what the output head returns";
}

}  // namespace

void add_presets_command(CLI::App& app) {
  const auto flags = std::make_shared<PresetsFlags>();
  CLI::App* command = app.add_subcommand("presets", "list the precision presets, or show one node by node");
  command->add_option("name", flags->name, "a preset")->type_name("NAME");
  command->add_flag("--json", flags->json, "print JSON");
  command->footer(node_help());
  command->callback([flags] { run(*flags); });
}

}  // namespace fovea
