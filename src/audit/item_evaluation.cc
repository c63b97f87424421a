#include "audit/item_evaluation.h"

#include <algorithm>
#include <chrono>

#include "audit/statistics.h"
#include "base/error.h"

namespace fovea {

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool agrees(std::span<const float> logits, int32_t token) {
  // Ties go to the smallest id, as in greedy decoding.
  return std::max_element(logits.begin(), logits.end()) - logits.begin() == token;
}

}  // namespace

// What the vision tower made of the prompt under one policy.
struct ItemEvaluation::Vision {
  LayeredPrecision policy;
  GuardMode guard = GuardMode::off;
  Buffer<float> embeddings;
  std::vector<LayerSums> layers;
  double seconds = 0;
  std::optional<Error> failure;
};

ItemEvaluation::ItemEvaluation(const SuiteItem& item, const Prompt& prompt, const EvaluationOptions& options)
    : item_(item), prompt_(prompt), options_(options) {}
ItemEvaluation::~ItemEvaluation() = default;

const ItemEvaluation::Vision& ItemEvaluation::vision_of(const Engine& engine) {
  const LayeredPrecision& policy = engine.precision().vision;
  const auto known = std::find_if(visions_.begin(), visions_.end(), [&](const Vision& v) {
    return v.policy == policy && v.guard == engine.options().guard.mode;
  });
  if (known != visions_.end()) return *known;
  Vision& vision = visions_.emplace_back();
  vision.policy = policy;
  vision.guard = engine.options().guard.mode;
  if (prompt_.pictures.empty()) return vision;
  int64_t patches = 0;
  for (const Picture& picture : prompt_.pictures) patches += picture.grid.patches();
  TraceOptions trace_options;
  trace_options.drift = options_.drift && vision_drift_;
  trace_options.rows = trace_options.answer_start = patches;
  LayerTrace trace(trace_options, &vision_reference_);
  Observer observer;
  if (options_.examine || options_.drift) observer.layers = &trace;
  const auto start = std::chrono::steady_clock::now();
  try {
    vision.embeddings = engine.encode(prompt_, observer);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::numeric) throw;
    vision.failure = error;
    if (visions_.size() == 1) vision_drift_ = false;  // it was the reference: nothing to compare with
  }
  vision.seconds = seconds_since(start);
  vision.layers = trace.sums();
  return vision;
}

GenerationOptions ItemEvaluation::generation(const Engine& engine) const {
  GenerationOptions options = engine.default_generation();
  options.choose_greedy();
  options.max_new_tokens = options_.max_new_tokens;
  options.prefill_chunk = options_.prefill_chunk;
  return options;
}

TraceOptions ItemEvaluation::text_trace(bool is_reference) const {
  TraceOptions options;
  options.drift = options_.drift && (is_reference || has_reference_);
  const auto prompt = static_cast<int64_t>(prompt_.ids.size());
  options.answer_start = prompt - 1;  // the row that predicts the first answer token
  const auto answer = static_cast<int64_t>(reference_tokens_.size());
  options.rows = prompt + (has_reference_ ? std::max<int64_t>(answer - 1, 0) : options_.max_new_tokens);
  return options;
}

// Distributions along the reference's answer; `tokens` becomes what of the free answer is known from them.
void ItemEvaluation::follow_reference(Session& session, ItemResult& result,
                                      std::vector<int32_t>& tokens) const {
  const Buffer<float> logits = session.forced_logits(reference_tokens_);
  const auto count = static_cast<int64_t>(reference_tokens_.size());
  const int64_t vocab = count > 0 ? logits.size() / count : 0;
  for (int64_t i = 0; i < count; ++i) {
    const std::span<const float> row =
        logits.span().subspan(static_cast<size_t>(i * vocab), static_cast<size_t>(vocab));
    const float* reference = reference_logits_.data() + i * vocab;
    const int32_t token = reference_tokens_[static_cast<size_t>(i)];
    result.kl.push_back(kl_divergence(reference, row.data(), vocab));
    result.agreed += agrees(row, token);
    if (result.first_divergence) continue;
    const int32_t chosen = session.choose(row, tokens);
    if (chosen != token) result.first_divergence = i;
    tokens.push_back(chosen);
  }
}

void ItemEvaluation::judge(const Session& session, const std::vector<int32_t>& tokens,
                           ItemResult& result) const {
  result.tokens = static_cast<int64_t>(tokens.size());
  result.answer = session.text(tokens);
  result.correct = is_right(result.answer, item_.answers, item_.match);
}

ItemResult ItemEvaluation::run_with(const Engine& engine, bool is_reference) {
  ItemResult result;
  const Vision& vision = vision_of(engine);
  result.layers = vision.layers;
  if (vision.failure) {
    result.problem = vision.failure->message();
    result.seconds = vision.seconds;
    return result;
  }
  LayerTrace trace(text_trace(is_reference), &text_reference_);
  Observer observer;
  if (options_.examine || options_.drift) observer.layers = &trace;
  const auto start = std::chrono::steady_clock::now();
  try {
    Session session(engine, prompt_, vision.embeddings, generation(engine), observer);
    std::vector<int32_t> tokens;
    if (is_reference) {
      tokens = session.continue_greedily({}, [&](std::span<const float> logits) {
        reference_logits_.insert(reference_logits_.end(), logits.begin(), logits.end());
      });
      reference_tokens_ = tokens;
      result.kl.assign(tokens.size(), 0.0);
      result.agreed = static_cast<int64_t>(tokens.size());
    } else {
      if (has_reference_) follow_reference(session, result, tokens);
      if (has_reference_) trace.stop();
      tokens = session.continue_greedily(std::move(tokens), {});
    }
    judge(session, tokens, result);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::numeric) throw;
    result.problem = error.message();
  }
  result.seconds = vision.seconds + seconds_since(start);
  add_layers(result.layers, trace.sums());
  return result;
}

ItemResult ItemEvaluation::run_reference(const Engine& engine) {
  FOVEA_CHECK(!has_reference_);
  ItemResult result = run_with(engine, true);
  has_reference_ = result.problem.empty();
  return result;
}

ItemResult ItemEvaluation::run(const Engine& engine) { return run_with(engine, false); }

ItemFacts facts_of(const Prompt& prompt) {
  ItemFacts facts;
  facts.context = static_cast<int64_t>(prompt.ids.size());
  facts.images = static_cast<int64_t>(prompt.pictures.size());
  facts.warnings = prompt.warnings;
  for (const Picture& picture : prompt.pictures) {
    facts.largest_patches = std::max(facts.largest_patches, picture.grid.patches());
  }
  return facts;
}

}  // namespace fovea
