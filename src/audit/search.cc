#include "audit/search.h"

#include <algorithm>
#include <tuple>

#include "base/error.h"

namespace fovea {

using nlohmann::ordered_json;

namespace {

bool is_low(DType type) { return type == DType::bf16 || type == DType::f16; }

// Layers of a tower whose scores endanger a row, the largest score first.
std::vector<int64_t> layers_at_risk(const std::vector<LayerSums>& layers, ModelPart part) {
  std::vector<std::pair<double, int64_t>> found;
  for (const LayerSums& layer : layers) {
    const HeadSums total = layer.total();
    if (layer.part == part && total.at_risk > 0) found.emplace_back(-total.largest_score, layer.layer);
  }
  std::sort(found.begin(), found.end());
  std::vector<int64_t> order;
  for (const auto& [score, layer] : found) order.push_back(layer);
  return order;
}

// Names as --compare takes them.
class CandidateNames {
 public:
  CandidateNames(const Configuration& base, const Precision& precision, DType model_dtype)
      : base_(base.name), precision_(precision), model_dtype_(model_dtype) {}

  std::vector<std::string> list(const std::vector<LayerSums>& layers) {
    const DType dtype = precision_.text.tower.linear;
    if (is_low(dtype)) names_.push_back(dtype == DType::f16 ? "flash-fp16" : "flash-bf16");
    names_.push_back(dtype == model_dtype_ ? "sdpa" : fmt::format("sdpa:dtype={}", name_of(dtype)));
    names_.push_back(base_);
    const auto vision_risk = layers_at_risk(layers, ModelPart::vision);
    add("guard=escalate");
    add_cures(dtype, !vision_risk.empty());
    for (const char* node : {"scores=fp32", "scaled=fp32"}) add(fmt::format("text.{}", node));
    add_layer_by_layer(layers_at_risk(layers, ModelPart::text));
    const std::string scores = "text.scores=fp32;text.scaled=fp32";
    add(scores);
    if (!vision_risk.empty()) add(scores + ";vision.scores=fp32;vision.scaled=fp32");
    if (dtype == model_dtype_) {
      names_.emplace_back("eager-qk-fp32");
      names_.emplace_back("eager-qkv-fp32");
    }
    return names_;
  }

 private:
  // Of stored scores. The presets cure both towers; another base is cured in the text decoder, and in the
  // vision tower when that is in danger.
  void add_cures(DType dtype, bool vision) {
    if (base_ == "eager-bf16") {
      for (const char* preset : {"eager-bf16-maxshift", "eager-bf16-kcentred", "eager-bf16-kcentred256",
                                 "eager-bf16-bias-split"}) {
        names_.emplace_back(preset);
      }
    } else {
      const std::string shift = "{0}.score_shift=row_max;{0}.scale=fused;{0}.scores=fp32",
                        centre = "{0}.k_centring=mean";
      for (const std::string& cure : {shift, centre}) {
        std::string settings = with_tower(cure, "text");
        if (vision) settings += ";" + with_tower(cure, "vision");
        add(settings);
      }
      add("text.bias_split=on");
    }
    if (dtype == DType::bf16) names_.emplace_back("flash-bf16-bias-split");
  }
  static std::string with_tower(std::string settings, const std::string& tower) {
    for (size_t at = settings.find("{0}"); at != std::string::npos; at = settings.find("{0}"))
      settings.replace(at, 3, tower);
    return settings;
  }

  void add(const std::string& settings) {
    names_.push_back(base_ + (base_.find(':') == std::string::npos ? ":" : ";") + settings);
  }
  // The most endangered layer alone, then it and the next, and so on; all of them is the whole tower's entry.
  void add_layer_by_layer(const std::vector<int64_t>& risky) {
    constexpr size_t kMostSteps = 4;
    std::string settings;
    for (size_t i = 0; i < risky.size() && i < kMostSteps; ++i) {
      if (i + 1 == precision_.text.layers.size()) break;
      settings += fmt::format("{}text.layers.{}.scores=fp32;text.layers.{}.scaled=fp32", i > 0 ? ";" : "",
                              risky[i], risky[i]);
      add(settings);
    }
  }

  std::string base_;
  const Precision& precision_;
  DType model_dtype_;
  std::vector<std::string> names_;
};

SearchCandidate make_candidate(Evaluator& evaluator, const std::string& name, const PromptShape& shape) {
  SearchCandidate candidate;
  candidate.configuration.name = name;
  try {
    candidate.configuration = parse_configuration(name);
    const Precision& precision = evaluator.precision(candidate.configuration);
    candidate.memory = memory_plan(evaluator.checkpoint(), precision, shape);
    candidate.eager = precision.text.tower.kind == AttentionKind::eager;
    candidate.why = "not tried: a cheaper one reached the target";
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::invalid_argument && error.kind() != ErrorKind::unsupported) throw;
    candidate.why = "cannot be tried: " + error.message();
  }
  return candidate;
}

// What may be stored in fewer bits, as --compare takes it. Boundary layers are the first and the last.
std::vector<std::string> storage_names() {
  const std::string inner = "text.layers.1--2.", kv8 = "{0}k_cache=int8;{0}v_cache=int8;{0}bias_split=on";
  std::vector<std::string> names;
  for (const std::string& weights :
       {std::string("exact"), "exact:" + inner + "quantization=w8a8", "exact:" + inner + "quantization=int4",
        std::string("balanced"), "balanced:" + inner + "quantization=int4",
        std::string("balanced:text.mlp_quantization=int4"), std::string("fast")}) {
    names.push_back(weights);
    for (const std::string& layers : {inner, std::string("text.")}) {
      names.push_back(weights + (weights.find(':') == std::string::npos ? ":" : ";") +
                      fmt::format(fmt::runtime(kv8), layers));
    }
  }
  return names;
}

bool can_be_tried(const SearchCandidate& candidate) { return candidate.memory.peak() > 0; }

// Asks in pieces, so that a hopeless candidate is given up early, unless its answers are `known` anyway.
// False when cancelled.
bool try_candidate(Evaluator& evaluator, const Configuration& reference, SearchCandidate& candidate,
                   std::span<const SuiteItem* const> items, double target, bool known) {
  constexpr size_t kPiece = 8;
  const auto total = static_cast<double>(items.size());
  for (size_t at = 0; at < items.size(); at += kPiece) {
    const auto piece = items.subspan(at, std::min(kPiece, items.size() - at));
    if (!evaluator.evaluate("search", &reference, std::span(&candidate.configuration, 1), piece))
      return false;
    candidate.score =
        score_of(answered_items(evaluator.store(), candidate.configuration, items.first(at + piece.size())));
    const auto wrong = static_cast<double>(candidate.score.count - candidate.score.correct);
    const bool hopeless = (total - wrong) / total < target;  // even if all others are right
    if (hopeless && !known) break;
  }
  const bool all_asked = candidate.score.count > 0;
  const bool reached = all_asked && candidate.score.accuracy() >= target &&
                       candidate.score.count >= static_cast<int64_t>(items.size());
  candidate.status = reached ? SearchCandidate::Status::reached : SearchCandidate::Status::missed;
  candidate.why = fmt::format("{} of {} right, {} {:.2f}", candidate.score.correct, candidate.score.count,
                              reached ? "reaches" : "cannot reach", target);
  return true;
}

const SearchCandidate* first_reached(const std::vector<SearchCandidate>& candidates, bool eager_only) {
  for (const SearchCandidate& c : candidates) {
    if (c.status == SearchCandidate::Status::reached && (c.eager || !eager_only)) return &c;
  }
  return nullptr;
}

}  // namespace

const SearchCandidate* SearchResult::cheapest() const { return first_reached(candidates, false); }
const SearchCandidate* SearchResult::cheapest_eager() const { return first_reached(candidates, true); }

std::vector<SearchCandidate> search_candidates(Evaluator& evaluator, const Configuration& base,
                                               const std::vector<LayerSums>& layers,
                                               const PromptShape& shape) {
  CandidateNames names(base, evaluator.precision(base), evaluator.checkpoint().config().dtype);
  std::vector<SearchCandidate> candidates;
  for (const std::string& name : names.list(layers)) {
    candidates.push_back(make_candidate(evaluator, name, shape));
  }
  const auto cost = [](const SearchCandidate& c) {
    return std::make_tuple(!can_be_tried(c), c.memory.scores, c.memory.peak());
  };
  std::stable_sort(candidates.begin(), candidates.end(),
                   [&](const SearchCandidate& a, const SearchCandidate& b) { return cost(a) < cost(b); });
  return candidates;
}

std::vector<SearchCandidate> storage_candidates(Evaluator& evaluator, const PromptShape& shape) {
  std::vector<SearchCandidate> candidates;
  for (const std::string& name : storage_names()) {
    candidates.push_back(make_candidate(evaluator, name, shape));
  }
  const auto cost = [](const SearchCandidate& c) {
    return std::make_tuple(!can_be_tried(c), c.memory.weights + c.memory.kv_cache);
  };
  std::stable_sort(candidates.begin(), candidates.end(),
                   [&](const SearchCandidate& a, const SearchCandidate& b) { return cost(a) < cost(b); });
  return candidates;
}

SearchResult search(Evaluator& evaluator, const Configuration& reference,
                    std::vector<SearchCandidate> candidates, std::span<const SuiteItem* const> items,
                    double target) {
  SearchResult result;
  result.target = target;
  result.candidates = std::move(candidates);
  for (SearchCandidate& candidate : result.candidates) {
    if (!can_be_tried(candidate)) continue;
    const bool known =
        std::ssize(answered_items(evaluator.store(), candidate.configuration, items)) == std::ssize(items);
    const bool needless =
        result.cheapest() != nullptr && (!candidate.eager || result.cheapest_eager() != nullptr);
    if (needless && !known) continue;
    if (!try_candidate(evaluator, reference, candidate, items, target, known)) {
      result.complete = false;
      break;
    }
  }
  return result;
}

ordered_json candidate_json(const SearchCandidate& candidate, double target) {
  const Score& score = candidate.score;
  const Interval interval = score.interval();
  constexpr const char* kStatus[] = {"reached", "missed", "skipped"};
  const bool asked = score.count > 0;
  return {{"name", candidate.configuration.name},
          {"policy", candidate.configuration.policy.text()},
          {"flags", flags_of(candidate.configuration)},
          {"accuracy", asked ? ordered_json(score.accuracy()) : ordered_json(nullptr)},
          {"interval", asked ? ordered_json{interval.low, interval.high} : ordered_json(nullptr)},
          {"count", score.count},
          {"target", target},
          {"reaches_target", candidate.status == SearchCandidate::Status::reached},
          {"score_bytes", candidate.memory.scores},
          {"peak_bytes", candidate.memory.peak()},
          {"weight_bytes", candidate.memory.weights},
          {"kv_bytes", candidate.memory.kv_cache},
          {"seconds", asked ? ordered_json(score.seconds) : ordered_json(nullptr)},
          {"status", kStatus[static_cast<int>(candidate.status)]},
          {"why", candidate.why}};
}

}  // namespace fovea
