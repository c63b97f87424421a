// One question under many configurations. The pictures are prepared once, the vision tower runs once per
// vision policy, the prompt is fed once per configuration for both the teacher-forced and the free answer.
#pragma once

#include <list>
#include <memory>

#include "audit/item_result.h"
#include "audit/layer_trace.h"
#include "runtime/session.h"
#include "suite/record.h"

namespace fovea {

struct EvaluationOptions {
  int64_t max_new_tokens = 32;
  int64_t prefill_chunk = 512;
  bool drift = false;   // errors per layer against the reference
  bool examine = true;  // largest scores and rows at risk
};

class ItemEvaluation {
 public:
  // Borrows item and prompt.
  ItemEvaluation(const SuiteItem& item, const Prompt& prompt, const EvaluationOptions& options);
  ~ItemEvaluation();

  // The run that the others are compared with; before them, once.
  ItemResult run_reference(const Engine& engine);
  // Without a reference before it only the answer is judged. A non-finite value is a result: `problem`.
  ItemResult run(const Engine& engine);

 private:
  struct Vision;
  const Vision& vision_of(const Engine& engine);
  GenerationOptions generation(const Engine& engine) const;
  TraceOptions text_trace(bool is_reference) const;
  void follow_reference(Session& session, ItemResult& result, std::vector<int32_t>& tokens) const;
  void judge(const Session& session, const std::vector<int32_t>& tokens, ItemResult& result) const;
  ItemResult run_with(const Engine& engine, bool is_reference);

  const SuiteItem& item_;
  const Prompt& prompt_;
  EvaluationOptions options_;
  std::list<Vision> visions_;
  bool has_reference_ = false, vision_drift_ = true;
  std::vector<int32_t> reference_tokens_;
  std::vector<float> reference_logits_;  // [reference tokens, vocab]
  RunReference vision_reference_, text_reference_;
};

ItemFacts facts_of(const Prompt& prompt);

}  // namespace fovea
