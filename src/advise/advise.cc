#include "advise/advise.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "base/error.h"
#include "checkpoint/model_folder.h"
#include "quantize/quantize.h"

namespace fovea {

namespace {

// A way to store the weights. `loss` orders them by how much they round; no figure, an order.
struct Form {
  const char* name;
  const char* policy;   // text of a precision policy
  const char* suffix;   // of the folder that fovea quantize writes; null: none is written
  const char* weights;  // its --weights
  int loss;
  bool four_bits;
};
constexpr Form kForms[] = {
    {"weights as stored", "", nullptr, nullptr, 0, false},
    {"fovea quantize int8", kInt8Policy, "-int8", "int8", 10, false},
    {"preset balanced", "preset=balanced", nullptr, nullptr, 20, false},
    {"fovea quantize int4", kInt4Policy, "-int4", "int4", 30, true},
    {"preset fast", "preset=fast", nullptr, nullptr, 40, true},
};
constexpr int kRoundsMore = 5, kShowsLess = 100;  // a remedy's part of the loss

struct Option {
  const Form* form;
  std::optional<Remedy> remedy;
  ResolvedPolicy resolved;
  std::optional<std::string> preset;
  Plan plan;
  Estimate time;
  int loss = 0;

  std::string name() const {
    const std::string base = plan.streamed ? "weights as stored, streamed" : form->name;
    return remedy ? fmt::format("{} with {}", base, remedy->change) : base;
  }
  bool shows_less() const { return loss >= kShowsLess; }
};

std::string speed_text(const Estimate& time) {
  return fmt::format("first token {:.3g} s, {:.3g} tokens/s", time.first_token_s(), time.tokens_per_s());
}

std::string option_text(const Option& option) {
  return fmt::format("{}, {}", bytes_text(option.plan.peak()), speed_text(option.time));
}

class Adviser {
 public:
  Adviser(const Checkpoint& checkpoint, AdviceRequest request, const Machine& machine)
      : checkpoint_(checkpoint), request_(std::move(request)), machine_(machine) {
    for (const TensorInfo& tensor : checkpoint.tensors()) weight_bytes_ += tensor.bytes();
  }

  Advice run() {
    for (const Form& form : kForms) consider(form);
    if (options_.empty()) {
      // The planner's words, for the weights as stored.
      as_stored();
      require_fit(checkpoint_, request_.setup, request_.budget);
    }
    const Option& best = choose();
    Advice advice;
    advice.memory = best.plan;
    advice.time = best.time;
    commands(best, advice);
    choices(best, advice);
    attentions();
    for (const Option& option : options_) {
      advice.ways.push_back({option.name(), option.plan.peak(), option.time});
      if (&option != &best) rejected_.push_back({option.name(), reason_against(option, best)});
    }
    advice.rejected = std::move(rejected_);
    return advice;
  }

 private:
  Plan planned() const {
    const PlanSetup& setup = request_.setup;
    return make_plan(checkpoint_, setup.policy.resolve(setup.target).precision, setup.request);
  }

  void as_stored() {
    request_.setup.policy = {};
    request_.setup.request.quantized_folder_bytes.reset();
  }

  void consider(const Form& form) {
    const bool quantizes = form.loss > 0;
    if (quantizes && checkpoint_.quantized()) {
      return reject(form.name, "the checkpoint is quantized already, and quantizing twice loses twice");
    }
    if (form.four_bits && request_.prefer == Preference::accuracy) {
      return reject(form.name, "4 bits are never chosen with --prefer accuracy");
    }
    as_stored();
    PlanSetup& setup = request_.setup;
    setup.policy = PrecisionPolicy::parse_text(form.policy);
    setup.request.ram = request_.budget;
    if (form.suffix != nullptr) {
      const ResolvedPolicy resolved = setup.policy.resolve(setup.target);
      setup.request.quantized_folder_bytes = planned_quantization(checkpoint_, resolved.precision).bytes;
    }
    const Plan plan = planned();
    if (plan.peak() <= request_.budget) return add(form, {}, plan);
    const auto peak = [](const Plan& p) { return p.peak(); };
    std::vector<Remedy> remedies = find_remedies(checkpoint_, setup, request_.budget, peak);
    std::erase_if(remedies, [](const Remedy& r) { return r.plan.ranks > 0; });  // advice is for one machine
    if (remedies.empty()) {
      reject(form.name, fmt::format("{}; {} are there", need_text(plan), bytes_text(request_.budget)));
    }
    for (const Remedy& remedy : remedies) add(form, remedy, remedy.plan);
  }

  void add(const Form& form, std::optional<Remedy> remedy, const Plan& plan) {
    const PlanSetup& setup = request_.setup;
    Option option{&form, std::move(remedy), setup.policy.resolve(setup.target), setup.policy.preset(), plan,
                  {},    form.loss};
    option.time = estimate(checkpoint_.config(), option.resolved.precision, setup.request, plan,
                           weight_bytes_, machine_);
    if (option.remedy) {
      const bool less = option.remedy->change.find("--max-") != std::string::npos;
      const bool same = option.remedy->accuracy.starts_with("none");
      option.loss += less ? kShowsLess : same ? 0 : kRoundsMore;
    }
    options_.push_back(std::move(option));
  }

  void reject(const std::string& what, const std::string& reason) { rejected_.push_back({what, reason}); }

  double cost(const Option& option) const {
    switch (request_.prefer) {
      case Preference::latency:
        return option.time.first_token_s();
      case Preference::throughput:
        return option.time.token_s;
      case Preference::accuracy:
        break;
    }
    return option.time.answer_s(request_.setup.request.answer_tokens);
  }

  const Option& choose() const {
    const auto by_loss = [&](const Option& a, const Option& b) {
      return std::pair(a.loss, cost(a)) < std::pair(b.loss, cost(b));
    };
    if (request_.prefer == Preference::accuracy) {
      return *std::min_element(options_.begin(), options_.end(), by_loss);
    }
    const auto fastest =
        std::min_element(options_.begin(), options_.end(), [&](const Option& a, const Option& b) {
          return std::pair(a.shows_less(), cost(a)) < std::pair(b.shows_less(), cost(b));
        });
    const Option* best = &*fastest;
    for (const Option& option : options_) {
      const bool near = cost(option) <= 1.1 * cost(*fastest) && option.shows_less() == fastest->shows_less();
      if (near && by_loss(option, *best)) best = &option;
    }
    return *best;
  }

  std::string reason_against(const Option& option, const Option& best) const {
    const std::string figures = option_text(option);
    if (option.shows_less() && !best.shows_less()) return figures + ": it shows the model less, without need";
    if (option.loss > best.loss) {
      return figures + (request_.prefer == Preference::accuracy
                            ? ": it rounds more"
                            : ": it rounds more and is not a tenth faster in what was preferred");
    }
    return figures + ": slower";
  }

  // Why not the other implementations, in numbers of the weights as stored.
  void attentions() {
    as_stored();
    PlanSetup& setup = request_.setup;
    setup.request.ram.reset();
    const PolicyTarget target = setup.target;
    const int64_t flash = planned().peak();
    for (const AttentionKind kind : {AttentionKind::eager, AttentionKind::sdpa}) {
      setup.target.text_attention = setup.target.vision_attention = kind;
      const bool eager = kind == AttentionKind::eager;
      reject(fmt::format("--attn {}", name_of(kind)),
             fmt::format("{} instead of {} with mapped weights, and {} % of the rate instead of 73 %{}",
                         bytes_text(planned().peak()), bytes_text(flash), eager ? 17 : 38,
                         eager ? "; in 16 bits it rounds scores" : ""));
    }
    setup.target = target;
  }

  using Flags = std::vector<std::pair<std::string, std::string>>;

  // Flags as chosen, those of the remedy in the place of the usual ones.
  Flags flags_of(const Option& option) const {
    Flags flags;
    const std::optional<std::string>& preset = option.preset;
    flags.emplace_back(preset ? "--preset" : "--attn", preset.value_or("flash_attention_2"));
    flags.emplace_back("--prefill-chunk", fmt::format("{}", request_.setup.request.prefill_chunk));
    flags.emplace_back("--kv-cache-dtype", "auto");
    if (request_.max_total_image_tokens) {
      flags.emplace_back("--max-total-image-tokens", fmt::format("{}", *request_.max_total_image_tokens));
    }
    flags.emplace_back("--max-new-tokens", fmt::format("{}", request_.setup.request.answer_tokens));
    flags.emplace_back("--threads", fmt::format("{}", machine_.threads));
    // In bytes: rounded up it could be more than there is, rounded down the plan could just not fit.
    if (option.plan.streamed || option.plan.kv_limit || request_.ram_given)
      flags.emplace_back("--ram", fmt::format("{}", request_.budget));
    if (!option.remedy) return flags;
    std::istringstream words(option.remedy->change);
    for (std::string flag; words >> flag;) {
      std::string value;  // none of --kv-offload
      if ((words >> std::ws).peek() != '-') words >> value;
      const auto known =
          std::find_if(flags.begin(), flags.end(), [&](const auto& f) { return f.first == flag; });
      if (known != flags.end()) known->second = value;
      if (known == flags.end()) flags.emplace_back(flag, value);
    }
    return flags;
  }

  void commands(const Option& best, Advice& advice) const {
    std::vector<std::string> model = checkpoint_.files().arguments();
    const auto add_model = [&](std::vector<std::string>& arguments) {
      arguments.emplace_back("-m");
      arguments.insert(arguments.end(), model.begin(), model.end());
    };
    if (best.form->suffix != nullptr) {
      const std::string out = place_beside(checkpoint_.dir()) + best.form->suffix;
      advice.prepare = {"quantize"};
      add_model(advice.prepare);
      advice.prepare.insert(advice.prepare.end(), {"--out", out, "--weights", best.form->weights});
      model = {out};
    }
    advice.run = {"run"};
    advice.plan = {"plan"};
    add_model(advice.run);
    add_model(advice.plan);
    advice.plan.insert(advice.plan.end(), {"--context", fmt::format("{}", best.plan.context)});
    for (const auto& [flag, value] : flags_of(best)) {
      for (auto* arguments : {&advice.run, &advice.plan}) {
        arguments->push_back(flag);
        if (!value.empty()) arguments->push_back(value);
      }
    }
    int images = 0, videos = 0;
    for (const PlanPicture& picture : request_.setup.request.pictures) {
      const bool video = picture.measured.is_video;
      advice.run.insert(advice.run.end(),
                        {video ? "--video" : "--image",
                         video ? fmt::format("VIDEO_{}", ++videos) : fmt::format("IMAGE_{}", ++images)});
    }
    advice.run.emplace_back("QUESTION");
  }

  void choices(const Option& best, Advice& advice) const {
    const Flags flags = flags_of(best);
    const auto value = [&](const char* name) {
      for (const auto& [flag, text] : flags) {
        if (flag == name) return text;
      }
      return std::string();
    };
    const auto add = [&](const char* what, const std::string& choice, const std::string& reason) {
      advice.choices.push_back({what, choice, reason});
    };
    add("weights", best.plan.streamed ? "streamed from disk" : best.form->name, weights_reason(best));
    add("precision", best.preset.value_or(best.form->suffix ? "as quantized" : "exact"),
        precision_reason(best));
    add("attention", "flash_attention_2", "scores in fp32 and no buffer that grows with the context");
    const std::string usual = fmt::format("{}", request_.setup.request.prefill_chunk);
    const std::string chunk = value("--prefill-chunk");
    add("prefill chunk", chunk,
        chunk == usual ? "products of that many rows reach 78 % of the rate; more rows only take memory"
                       : fmt::format("with {} it does not fit; no result changes", usual));
    add("image tokens", fmt::format("{}", best.plan.image_tokens), image_reason(best, flags));
    const TowerPrecision& layer = best.resolved.precision.text.layers.front();
    const std::string cache = value("--kv-cache-dtype");
    add("KV cache", cache == "auto" ? name_of(layer.k_cache) : cache,
        best.plan.kv_limit ? "as computed, but on disk where memory has no room"
        : cache == "auto"  ? "as keys and values are computed: nothing is rounded twice"
                           : "as computed it does not fit");
    add("threads", fmt::format("{}", machine_.threads), "one per core; no result depends on it");
  }

  std::string weights_reason(const Option& best) const {
    if (best.plan.streamed) {
      return fmt::format("mapped they do not fit into {}; {}; the disk gave {:.2f} GB/s",
                         bytes_text(request_.budget), streaming_text(best.plan), machine_.disk_gbps);
    }
    if (best.form->suffix != nullptr) {
      return fmt::format("{} on disk in place of {}, mapped without conversion",
                         bytes_text(best.plan.weights), bytes_text(weight_bytes_));
    }
    if (best.form->loss > 0) return "quantized when the model is opened, which takes seconds; both forms fit";
    return fmt::format("they fit whole ({})", bytes_text(best.plan.weights));
  }

  std::string precision_reason(const Option& best) const {
    if (best.form->loss == 0) {
      return request_.prefer == Preference::accuracy
                 ? "nothing is rounded that the reference does not round"
                 : "nothing that rounds more and fits is a tenth faster in what was preferred";
    }
    return request_.prefer == Preference::accuracy
               ? "less rounding does not fit without showing the model less"
               : fmt::format("{}; less rounding is more than a tenth slower", speed_text(best.time));
  }

  std::string image_reason(const Option& best, const Flags& flags) const {
    const bool limited = std::any_of(flags.begin(), flags.end(), [](const auto& flag) {
      return flag.first == "--max-total-image-tokens";
    });
    if (best.remedy && best.remedy->change.find("--max-total-image-tokens") != std::string::npos)
      return "more do not fit into memory: " + best.remedy->accuracy;
    if (limited) return "more have no room in the context beside text and answer";
    return request_.setup.request.pictures.empty() ? "no pictures" : "all that the pictures have";
  }

  const Checkpoint& checkpoint_;
  AdviceRequest request_;
  const Machine& machine_;
  int64_t weight_bytes_ = 0;
  std::vector<Option> options_;
  std::vector<Rejected> rejected_;
};

}  // namespace

Preference parse_preference(const std::string& name) {
  if (name == "accuracy") return Preference::accuracy;
  if (name == "latency") return Preference::latency;
  if (name == "throughput") return Preference::throughput;
  throw Error(ErrorKind::invalid_argument, fmt::format("there is no preference '{}'", name),
              "use accuracy, latency or throughput");
}

Advice advise(const Checkpoint& checkpoint, AdviceRequest request, const Machine& machine) {
  return Adviser(checkpoint, std::move(request), machine).run();
}

std::string command_text(const std::vector<std::string>& arguments) {
  std::string text = "fovea";
  for (const std::string& argument : arguments) {
    const bool plain =
        !argument.empty() && std::all_of(argument.begin(), argument.end(), [](unsigned char c) {
          return std::isalnum(c) != 0 ||
                 std::string_view("-_./=,:@+").find(static_cast<char>(c)) != std::string_view::npos;
        });
    if (plain) {
      text += " " + argument;
      continue;
    }
    text += " '";
    for (const char c : argument) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    text += "'";
  }
  return text;
}

}  // namespace fovea
