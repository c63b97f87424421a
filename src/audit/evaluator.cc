#include "audit/evaluator.h"

#include <algorithm>

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
      store_(store),
      state_file_(std::move(state_file)),
      follower_(follower),
      sharing_(std::move(sharing)),
      engines_(engine, check) {}

bool Evaluator::is_done(const Configuration& configuration, const SuiteItem& item) const {
  return store_.problem(item.id) != nullptr || store_.find(configuration.key(), item.id) != nullptr;
}

void Evaluator::save() {
  if (!state_file_.empty()) store_.save(state_file_);
  saved_ = std::chrono::steady_clock::now();
}

// A question on its way through the configurations that have not answered it.
struct Evaluator::Question {
  Question(const SuiteItem& asked, std::vector<const Configuration*> open, Prompt made,
           const EvaluationOptions& options)
      : item(asked), missing(std::move(open)), prompt(std::move(made)), evaluation(item, prompt, options) {}

  const SuiteItem& item;
  std::vector<const Configuration*> missing;
  Prompt prompt;
  ItemEvaluation evaluation;

  // What it holds until all have answered.
  int64_t bytes(const ModelConfig& config, int64_t answer_tokens) const {
    int64_t floats = answer_tokens * config.text.vocab_size;
    for (const Picture& picture : prompt.pictures) {
      floats += picture.patches.size() +
                picture.tokens(config.vision.spatial_merge_size) * config.vision.out_hidden_size;
    }
    return floats * int64_t{sizeof(float)};
  }
};

// Null when it cannot be asked. Throws Error(exhausted) when it might be asked alone.
std::unique_ptr<Evaluator::Question> Evaluator::begin(const SuiteItem& item, const Configuration* reference,
                                                      std::vector<const Configuration*> missing, bool alone) {
  std::vector<const Configuration*> asked;
  if (reference != nullptr) asked.push_back(reference);
  asked.insert(asked.end(), missing.begin(), missing.end());
  const auto check = [&](int64_t tokens, std::span<const Picture> pictures,
                         std::span<const MediaOptions> media) {
    engines_.make_room(asked, tokens, pictures, media);
  };
  try {
    Prompt prompt = engine_.prepare(item.messages, limits_, false,
                                    engines_.checks() ? PromptCheck(check) : PromptCheck());
    store_.put_facts(item.id, facts_of(prompt));
    return std::make_unique<Question>(item, std::move(missing), std::move(prompt), options_);
  } catch (const Error& error) {
    if (!alone && error.kind() == ErrorKind::exhausted) throw;
    store_.put_problem(item.id, {item.file, item.line, item.id, error.message(), error.remedy()});
    if (follower_.note) follower_.note(fmt::format("{} is skipped: {}", item.id, error.message()));
    return nullptr;
  }
}

// Configuration by configuration: where there is no room for all of them, each is opened once for the group.
void Evaluator::ask(std::span<const std::unique_ptr<Question>> group, const Configuration* reference,
                    std::span<const Configuration> configurations, const std::function<void()>& answered) {
  for (const auto& question : group) {
    if (reference == nullptr) break;
    ItemResult result = question->evaluation.run_reference(engines_.engine(*reference));
    if (is_done(*reference, question->item)) continue;
    store_.put(reference->key(), question->item.id, std::move(result));
    answered();
  }
  for (const Configuration& configuration : configurations) {
    for (const auto& question : group) {
      const auto& missing = question->missing;
      if (std::find(missing.begin(), missing.end(), &configuration) == missing.end()) continue;
      if (is_done(configuration, question->item)) continue;  // the same policy under another name
      store_.put(configuration.key(), question->item.id,
                 question->evaluation.run(engines_.engine(configuration)));
      answered();
    }
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
  if (reference != nullptr) precision(*reference);
  for (const Configuration& configuration : configurations)
    precision(configuration);  // refused before any work
  std::vector<const SuiteItem*> own;
  for (size_t i = static_cast<size_t>(sharing_.rank); i < items.size();
       i += static_cast<size_t>(sharing_.size)) {
    own.push_back(items[i]);
  }
  return exchange(own, evaluate_own(stage, reference, configurations, own));
}

// The questions of one call, taken by one worker or several; groups of them are complete before the next.
class Evaluator::Course {
 public:
  Course(Evaluator& evaluator, std::string_view stage, const Configuration* reference,
         std::span<const Configuration> configurations, std::span<const SuiteItem* const> items)
      : evaluator_(evaluator),
        stage_(stage),
        reference_(reference),
        configurations_(configurations),
        items_(items),
        per_item_(std::ssize(configurations)) {}

  bool goes_on() const { return go_on_; }

  void work() {
    try {
      while (go_on_ && next_ < items_.size()) take_group();
    } catch (...) {
      go_on_ = false;
      throw;
    }
  }

 private:
  std::vector<const Configuration*> missing(const SuiteItem& item) const {
    std::vector<const Configuration*> list;
    for (const Configuration& configuration : configurations_) {
      if (!evaluator_.is_done(configuration, item)) list.push_back(&configuration);
    }
    return list;
  }

  // One question, or where engines are opened in turn as many as may wait for them.
  void take_group() {
    std::vector<std::unique_ptr<Question>> group;
    int64_t bytes = 0, taken = 0;
    const int64_t most = evaluator_.engine_.options().vision_budget_bytes;
    do {
      const SuiteItem& item = *items_[next_++];
      ++taken;
      auto open = missing(item);
      if (open.empty()) continue;
      if (evaluator_.cancelled()) go_on_ = false;
      if (!go_on_) return finish(group, taken - 1);
      std::unique_ptr<Question> question;
      try {
        question = evaluator_.begin(item, reference_, std::move(open), group.empty());
      } catch (const Error&) {
        if (group.empty()) throw;
        --next_;
        return finish(group, taken - 1);
      }
      if (!question) continue;
      bytes += question->bytes(evaluator_.checkpoint().config(),
                               reference_ ? evaluator_.options_.max_new_tokens : 0);
      group.push_back(std::move(question));
    } while (!evaluator_.engines_.keeps_all() && bytes < most && next_ < items_.size());
    finish(group, taken);
  }

  // `taken` questions are then done, those that need no answer or can have none among them.
  void finish(std::span<const std::unique_ptr<Question>> group, int64_t taken) {
    int64_t answers = 0;
    evaluator_.ask(group, reference_, configurations_,
                   [&] { report(done_ * per_item_ + std::min(++answers, taken * per_item_)); });
    done_ += taken;
    if (taken > 0) report(done_ * per_item_);
    if (!group.empty() && std::chrono::steady_clock::now() - evaluator_.saved_ > kSaveInterval)
      evaluator_.save();
  }

  void report(int64_t answers) const {
    if (!evaluator_.follower_.progress) return;
    evaluator_.follower_.progress(stage_, answers, std::ssize(items_) * per_item_);
  }

  Evaluator& evaluator_;
  std::string_view stage_;
  const Configuration* reference_;
  std::span<const Configuration> configurations_;
  std::span<const SuiteItem* const> items_;
  int64_t per_item_, done_ = 0;
  size_t next_ = 0;
  bool go_on_ = true;
};

// A cancelled evaluation begins no further question.
bool Evaluator::evaluate_own(std::string_view stage, const Configuration* reference,
                             std::span<const Configuration> configurations,
                             std::span<const SuiteItem* const> items) {
  Course course(*this, stage, reference, configurations, items);
  engine_.side_by_side(std::min<int64_t>(engine_.requests_at_once(), std::ssize(items)),
                       [&](int64_t) { course.work(); });
  return course.goes_on();
}

}  // namespace fovea
