// Asks questions under configurations and stores the results; what the store holds already is not asked
// again.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "audit/configuration_engines.h"
#include "audit/item_evaluation.h"
#include "audit/result_store.h"

namespace fovea {

// How a caller follows an audit; every member may be empty.
struct AuditFollower {
  ProgressFn progress;                         // "compare", "attribute", "search"; done of total answers
  std::function<void(std::string_view)> note;  // something worth a line: a state file found, an item skipped
  const std::atomic<bool>* cancel = nullptr;   // ends the audit after the current question
};

// Several processes that make the same calls: of each evaluation every one takes its part of the questions,
// and then all have all results.
struct Sharing {
  int rank = 0, size = 1;
  // Collective: every rank's text, in rank order.
  std::function<std::vector<std::string>(const std::string& own)> exchange = {};
};

class Evaluator {
 public:
  // Everything but the check is borrowed; a question it refuses is skipped. `state_file` may be empty;
  // otherwise the store is saved there now and then.
  Evaluator(const Engine& engine, const MediaLimits& limits, const EvaluationOptions& options,
            const EngineCheck& check, ResultStore& store, std::filesystem::path state_file,
            const AuditFollower& follower, Sharing sharing = {});

  // Asks every item under every configuration, question by question, or several of them at a time where that
  // keeps ranks busy, or where engines are opened in turn. A question that cannot be asked becomes a problem
  // in the store. False when cancelled, here or on another rank: the questions begun before are complete.
  bool evaluate(std::string_view stage, const Configuration* reference,
                std::span<const Configuration> configurations, std::span<const SuiteItem* const> items);

  // As resolved. Throws Error for a policy that does not fit the model.
  const Precision& precision(const Configuration& configuration) { return engines_.precision(configuration); }
  const Checkpoint& checkpoint() const { return engine_.checkpoint(); }
  const ResultStore& store() const { return store_; }
  void save();
  // What the store holds of these questions comes to be known by all ranks. False if any says so.
  bool exchange(std::span<const SuiteItem* const> items, bool go_on);

 private:
  struct Question;
  class Course;

  bool evaluate_own(std::string_view stage, const Configuration* reference,
                    std::span<const Configuration> configurations, std::span<const SuiteItem* const> items);
  bool is_done(const Configuration& configuration, const SuiteItem& item) const;
  std::unique_ptr<Question> begin(const SuiteItem& item, const Configuration* reference,
                                  std::vector<const Configuration*> missing, bool alone);
  void ask(std::span<const std::unique_ptr<Question>> group, const Configuration* reference,
           std::span<const Configuration> configurations, const std::function<void()>& answered);
  bool cancelled() const { return follower_.cancel != nullptr && follower_.cancel->load(); }

  const Engine& engine_;
  MediaLimits limits_;
  EvaluationOptions options_;
  ResultStore& store_;
  std::filesystem::path state_file_;
  const AuditFollower& follower_;
  Sharing sharing_;
  ConfigurationEngines engines_;
  std::chrono::steady_clock::time_point saved_ = std::chrono::steady_clock::now();
};

}  // namespace fovea
