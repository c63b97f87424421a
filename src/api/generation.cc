#include "api/generation.h"

namespace fovea {

GenerationOptions generation_options(const AnswerFields& request, const GenerationOptions& defaults,
                                     int64_t choice) {
  GenerationOptions options = defaults;
  SamplingOptions& sampling = options.sampling;
  if (request.temperature || request.top_p || request.top_k || request.min_p) sampling.greedy = false;
  if (request.temperature == 0.0) {
    sampling.greedy = true;
  } else if (request.temperature) {
    sampling.temperature = *request.temperature;
  }
  if (request.top_p) sampling.top_p = *request.top_p;
  if (request.top_k) sampling.top_k = *request.top_k;
  if (request.repetition_penalty) sampling.repetition_penalty = *request.repetition_penalty;
  if (request.min_p) sampling.min_p = *request.min_p;
  sampling.presence_penalty = request.presence_penalty;
  sampling.frequency_penalty = request.frequency_penalty;
  for (const auto& [id, bias] : request.logit_bias) {
    sampling.logit_bias.push_back({id, static_cast<float>(bias)});
  }
  sampling.seed = request.seed.value_or(defaults.sampling.seed) + static_cast<uint64_t>(choice);
  if (request.max_tokens) options.max_new_tokens = *request.max_tokens;
  if (!request.stop.empty()) options.stop = request.stop;
  options.ignore_eos = request.ignore_eos || defaults.ignore_eos;
  return options;
}

}  // namespace fovea
