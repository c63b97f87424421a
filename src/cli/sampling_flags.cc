#include "cli/sampling_flags.h"

#include "cli/help.h"

namespace fovea {

void SamplingFlags::apply(GenerationOptions& options) const {
  SamplingOptions& sampling = options.sampling;
  sampling.seed = seed;
  if (temperature || top_p || top_k) sampling.greedy = false;
  if (greedy || temperature == 0.0) options.choose_greedy();
  if (temperature) sampling.temperature = *temperature;
  if (top_p) sampling.top_p = *top_p;
  if (top_k) sampling.top_k = *top_k;
  if (repetition_penalty) sampling.repetition_penalty = *repetition_penalty;
  if (max_new_tokens) options.max_new_tokens = *max_new_tokens;
  if (no_repeat_ngram_size) sampling.no_repeat_ngram_size = *no_repeat_ngram_size;
  if (!stop.empty()) options.stop = stop;
  options.ignore_eos = ignore_eos;
}

void SamplingFlags::add_length_to(CLI::App& command) {
  command
      .add_option("-n,--max-new-tokens,--max-tokens,--n-predict", max_new_tokens,
                  "length limit of the answer")
      ->type_name("N")
      ->group(kCommonOptions);
}

void SamplingFlags::add_to(CLI::App& command) {
  constexpr const char* kGroup = "Sampling and ending";
  CLI::Option* likeliest = command.add_flag("--greedy", greedy, "always take the most likely token");
  likeliest->group(kGroup);
  const auto sampled = [&](CLI::Option* option, const char* type) {
    option->type_name(type)->excludes(likeliest)->group(kGroup);
  };
  sampled(
      command.add_option("--temperature,--temp", temperature, "sample; higher is more random (0: greedy)"),
      "T");
  sampled(command.add_option("--top-p", top_p, "sample from the smallest set with this probability"), "P");
  sampled(command.add_option("--top-k", top_k, "sample from the K most likely tokens (0: from all)"), "K");
  command
      .add_option("--repetition-penalty,--repeat-penalty", repetition_penalty,
                  "divide the logits of tokens already seen")
      ->type_name("R")
      ->group(kGroup);
  command
      .add_option("--no-repeat-ngram-size", no_repeat_ngram_size,
                  "never repeat N tokens in a row that prompt or answer already have (0: off)")
      ->type_name("N")
      ->group(kGroup);
  command.add_option("-s,--seed", seed, "seed of the sampler")
      ->type_name("S")
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option(
          "--stop", stop,
          "end the answer at this string; repeatable; takes the place of the checkpoint's stop_strings")
      ->type_name("TEXT")
      ->allow_extra_args(false)
      ->group(kGroup);
  command.add_flag("--ignore-eos", ignore_eos, "go on to --max-new-tokens whatever the model says")
      ->group(kGroup);
}

}  // namespace fovea
