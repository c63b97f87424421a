#include "audit/evaluator.h"

#include "base/error.h"

namespace fovea {

namespace {

constexpr auto kSaveInterval = std::chrono::seconds(10);

}  // namespace

Evaluator::Evaluator(const Engine& engine, const MediaLimits& limits, const EvaluationOptions& options,
                     const EngineCheck& check, ResultStore& store, std::filesystem::path state_file,
                     const AuditFollower& follower, Sharing sharing)
    : engine_(engine),
      limits_(limits),
      options_(options),
      check_(check),
      store_(store),
      state_file_(std::move(state_file)),
      follower_(follower),
      sharing_(std::move(sharing)) {}

const Engine& Evaluator::engine(const Configuration& configuration) {
  if (engine_.device_map() != nullptr) return engine_;
  const auto known = engines_.find(configuration.key());
  if (known != engines_.end()) return known->second;
  EngineOptions options;
  options.policy = configuration.policy;
  options.guard.mode = configuration.guard;
  try {
    return engines_.emplace(configuration.key(), engine_.with(options)).first->second;
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("configuration {}: {}", configuration.name, error.message()),
                error.remedy());
  }
}

bool Evaluator::is_done(const Configuration& configuration, const SuiteItem& item) const {
  return store_.problem(item.id) != nullptr || store_.find(configuration.key(), item.id) != nullptr;
}

void Evaluator::save() {
  if (!state_file_.empty()) store_.save(state_file_);
  saved_ = std::chrono::steady_clock::now();
}

void Evaluator::ask(const SuiteItem& item, const Configuration* reference,
                    const std::vector<const Configuration*>& missing, const std::function<void()>& answered) {
  Prompt prompt;
  PromptCheck check;
  if (check_) {
    check = [&](int64_t tokens, std::span<const Picture> pictures, std::span<const MediaOptions> media) {
      if (reference != nullptr) check_(engine(*reference), tokens, pictures, media);
      for (const Configuration* configuration : missing) {
        check_(engine(*configuration), tokens, pictures, media);
      }
    };
  }
  try {
    prompt = engine_.prepare(item.messages, limits_, false, check);
  } catch (const Error& error) {
    store_.put_problem(item.id, {item.file, item.line, item.id, error.message(), error.remedy()});
    if (follower_.note) follower_.note(fmt::format("{} is skipped: {}", item.id, error.message()));
    return;
  }
  store_.put_facts(item.id, facts_of(prompt));
  ItemEvaluation evaluation(item, prompt, options_);
  if (reference != nullptr) {
    ItemResult result = evaluation.run_reference(engine(*reference));
    if (!is_done(*reference, item)) {
      store_.put(reference->key(), item.id, std::move(result));
      answered();
    }
  }
  for (const Configuration* configuration : missing) {
    if (is_done(*configuration, item)) continue;  // the same policy under another name
    store_.put(configuration->key(), item.id, evaluation.run(engine(*configuration)));
    answered();
  }
}

bool Evaluator::exchange(std::span<const SuiteItem* const> items, bool go_on) {
  if (sharing_.size == 1) return go_on;
  std::string own = store_.part(items);
  own.push_back(go_on ? '1' : '0');
  std::vector<std::string> all = sharing_.exchange(own);
  for (size_t rank = 0; rank < all.size(); ++rank) {
    go_on = go_on && all[rank].back() == '1';
    all[rank].pop_back();
    if (static_cast<int>(rank) != sharing_.rank) store_.take(all[rank]);
  }
  return go_on;
}

bool Evaluator::evaluate(std::string_view stage, const Configuration* reference,
                         std::span<const Configuration> configurations,
                         std::span<const SuiteItem* const> items) {
  if (reference != nullptr) engine(*reference);
  for (const Configuration& configuration : configurations) engine(configuration);  // refused before any work
  std::vector<const SuiteItem*> own;
  for (size_t i = static_cast<size_t>(sharing_.rank); i < items.size();
       i += static_cast<size_t>(sharing_.size)) {
    own.push_back(items[i]);
  }
  return exchange(own, evaluate_own(stage, reference, configurations, own));
}

// A cancelled evaluation begins no further question.
bool Evaluator::evaluate_own(std::string_view stage, const Configuration* reference,
                             std::span<const Configuration> configurations,
                             std::span<const SuiteItem* const> items) {
  const auto total = static_cast<int64_t>(items.size()),
             per_item = static_cast<int64_t>(configurations.size());
  int64_t next = 0, done = 0;
  bool go_on = true;
  const auto evaluate_item = [&](const SuiteItem& item) {
    std::vector<const Configuration*> missing;
    for (const Configuration& configuration : configurations) {
      if (!is_done(configuration, item)) missing.push_back(&configuration);
    }
    int64_t answered = 0;
    if (!missing.empty()) {
      if (cancelled()) go_on = false;
      if (!go_on) return;
      ask(item, reference, missing, [&] {
        ++answered;
        if (follower_.progress)
          follower_.progress(stage, done * per_item + std::min(answered, per_item), total * per_item);
      });
      if (std::chrono::steady_clock::now() - saved_ > kSaveInterval) save();
    }
    ++done;
    if (follower_.progress) follower_.progress(stage, done * per_item, total * per_item);
  };
  engine_.side_by_side(std::min(engine_.requests_at_once(), total), [&](int64_t) {
    try {
      while (go_on && next < total) evaluate_item(*items[static_cast<size_t>(next++)]);
    } catch (...) {
      go_on = false;
      throw;
    }
  });
  return go_on;
}

}  // namespace fovea
