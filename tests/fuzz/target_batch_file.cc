// The input of a batch, and after a line of "%%" an output that an earlier run may have left: every line is a
// request or a refusal, and what was kept of the output are answers to requests.
#include "api/batch_input.h"
#include "api/batch_output.h"
#include "api/chat_response.h"
#include "scratch.h"
#include "target.h"

FOVEA_FUZZ_TARGET(batch_file) {
  static const fovea::fuzz::Scratch scratch;
  const auto files = fovea::fuzz::pieces(bytes);
  const auto file = scratch.write("in.jsonl", files[0]);
  fovea::BatchRules rules;
  rules.max_line_bytes = 1 << 16;
  const fovea::BatchSurvey survey = fovea::survey_batch(file, rules);
  fovea::fuzz::require(survey.refusals + static_cast<int64_t>(survey.ids.size()) == survey.lines,
                       "a line is a request or a refusal");
  fovea::BatchInput input(file, rules);
  while (const auto line = input.next()) {
    fovea::fuzz::require(line->request.has_value() != line->refusal.has_value(), "never both");
    if (line->refusal) fovea::json_line(fovea::batch_failure(*line, *line->refusal));
  }
  const auto output = scratch.write("out.jsonl", files.size() > 1 ? files[1] : "");
  const fovea::BatchOutput written(output, survey.ids);
  for (const std::string& id : written.completed()) {
    fovea::fuzz::require(survey.ids.contains(id), "an answer that is kept was asked for");
  }
}
