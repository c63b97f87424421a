#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/option_values.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "suite/generator.h"

namespace fovea {

namespace {

struct SuiteFlags {
  std::string kind, out, tokens, images, facts, turns, digits = "unseen";
  int64_t count = 100;
  uint64_t seed = 0;
  bool force = false;
};

SuiteRequest request_of(const SuiteFlags& flags) {
  SuiteRequest request = default_request(parse_suite_kind(flags.kind));
  request.count = flags.count;
  request.seed = flags.seed;
  request.digits = flags.digits == "seen" ? DigitPool::seen : DigitPool::unseen;
  if (!flags.tokens.empty()) request.tokens = parse_range(flags.tokens, "--tokens");
  if (!flags.images.empty()) request.images = parse_range(flags.images, "--images");
  if (!flags.facts.empty()) request.facts = parse_range(flags.facts, "--facts");
  if (!flags.turns.empty()) request.turns = parse_range(flags.turns, "--turns");
  return request;
}

void make(const SuiteFlags& flags) {
  ProgressBar bar;
  make_suite(request_of(flags), flags.out, flags.force, bar.callback());
  bar.clear();
  print_output("wrote {} questions: {}/suite.jsonl\n", flags.count, flags.out);
}

}  // namespace

void add_suite_command(CLI::App& app) {
  const auto flags = std::make_shared<SuiteFlags>();
  CLI::App* suite = app.add_subcommand("suite", "make question sets to audit a model with");
  suite->require_subcommand(1);
  suite->footer("");  // not the program's
  CLI::App* command = suite->add_subcommand("make", "write a question set made from a seed");
  choose(command->add_option(
             "--kind", flags->kind,
             "easy (one card or one fact), multi-image (several cards), long-context (facts among filler) "
             "or mixed (cards, facts, filler)"),
         {"easy", "multi-image", "long-context", "mixed"})
      ->required();
  command
      ->add_option("--out", flags->out,
                   "folder to write: suite.jsonl and images/; it appears when it is complete")
      ->required()
      ->type_name("DIR");
  command->add_option("--count", flags->count, "number of questions")->type_name("N")->capture_default_str();
  command
      ->add_option("--tokens", flags->tokens,
                   "length of the text with the facts: words and punctuation marks, T or LOW-HIGH "
                   "(default: long-context 500-3000, mixed 200-1500)")
      ->type_name("T");
  command
      ->add_option("--images", flags->images,
                   "cards in a question, K or LOW-HIGH, at most 32 (default: multi-image 4-8, mixed 2-6)")
      ->type_name("K");
  command
      ->add_option("--facts", flags->facts,
                   "facts in a question, F or LOW-HIGH, at most 64 (default: long-context 8-16, mixed 4-8)")
      ->type_name("F");
  command
      ->add_option(
          "--turns", flags->turns,
          "questions in a conversation: the earlier ones stand there with their answers, the last one "
          "counts (default 1)")
      ->type_name("Q");
  command->add_option("--seed", flags->seed, "the same seed gives the same bytes")
      ->type_name("S")
      ->capture_default_str();
  choose(command->add_option("--digits", flags->digits,
                             "handwriting that the demo model has never seen, or that it was trained on"),
         {"unseen", "seen"})
      ->capture_default_str();
  command->add_flag("--force", flags->force, "replace a suite that is already there");
  command->footer(
      "Each line of suite.jsonl is {\"id\", \"messages\", \"answer\", \"match\", \"tags\"}; your own file of "
      "the same "
      "form works as well.\n\n"
      "Examples:\n"
      "  fovea suite make --kind multi-image --images 6 --count 200 --seed 1 --out suites/images\n"
      "  fovea suite make --kind long-context --tokens 500-4000 --count 200 --seed 1 --out suites/long");
  command->callback([flags] { make(*flags); });
}

}  // namespace fovea
