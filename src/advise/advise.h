// Chooses how to run a request on a machine: attention, precision, storage of weights, image tokens, chunk.
//
// Every way to store the weights is planned (plan/plan.h); one that does not fit is planned again with each
// remedy (plan/remedies.h). What then fits is compared by what it costs in accuracy and in time.
#pragma once

#include <string>
#include <vector>

#include "advise/estimate.h"
#include "plan/plan_text.h"

namespace fovea {

// accuracy: the least rounding that fits, streaming from disk where need be, never 4 bits. latency: the first
// token soonest. throughput: the most tokens a second. The last two take the least rounding among what is
// within a tenth of the fastest, and show the model less of its pictures only when nothing else fits.
enum class Preference { accuracy, latency, throughput };
// Throws Error(invalid_argument) listing the names.
Preference parse_preference(const std::string& name);

struct AdviceRequest {
  PlanSetup setup;  // attention flash_attention_2, no preset; `ram` unset
  Preference prefer = Preference::accuracy;
  int64_t budget = 0;      // the largest resident set, mapped weights included; bytes
  bool ram_given = false;  // the user's --ram, which the command then repeats
  // Because the context has no room for all of them; `setup` has the reduced pictures.
  std::optional<int64_t> max_total_image_tokens;
};

struct Choice {
  std::string what, value, reason;
};
struct Rejected {
  std::string what, reason;
};

// A way that fits, chosen or not.
struct Way {
  std::string name;
  int64_t peak_bytes = 0;
  Estimate time;
};

struct Advice {
  std::vector<std::string> prepare;  // arguments of fovea that make the folder; empty: none is needed
  std::vector<std::string> run;      // arguments of fovea: "run", "-m", ...
  std::vector<std::string> plan;     // of `fovea plan` for the same, without --images
  std::vector<Choice> choices;
  std::vector<Rejected> rejected;
  std::vector<Way> ways;
  Plan memory;
  Estimate time;
};

// Throws Error(exhausted) with the planner's words when nothing fits.
Advice advise(const Checkpoint& checkpoint, AdviceRequest request, const Machine& machine);

// As a shell takes it: "fovea run -m 'my model' ...".
std::string command_text(const std::vector<std::string>& arguments);

}  // namespace fovea
