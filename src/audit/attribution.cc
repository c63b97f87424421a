#include "audit/attribution.h"

#include <algorithm>
#include <cmath>

#include "audit/verdict.h"
#include "base/error.h"

namespace fovea {

using nlohmann::ordered_json;

namespace {

struct Trial {
  AttributionEntry entry;
  Configuration raised, lowered;
  Score raised_score, lowered_score;
  double cure = 0, harm = 0;  // shares of what the failing configuration loses
  bool in_detail = false;     // asked on all items
};

class Attributor {
 public:
  Attributor(Evaluator& evaluator, const Configuration& reference, const Configuration& failing,
             const AttributionOptions& options)
      : evaluator_(evaluator), reference_(reference), failing_(failing), options_(options) {
    // A question that stopped has no distribution; it counts as if every token were equally likely.
    stopped_kl_ = std::log(static_cast<double>(evaluator.checkpoint().config().text.vocab_size));
  }

  Attribution run(std::span<const SuiteItem* const> items) {
    result_.configuration = failing_.name;
    const auto telling = telling_items(evaluator_.store(), reference_, failing_, items, options_.items);
    result_.items = std::ssize(telling);
    if (telling.empty()) {
      result_.verdict = "there is no question that both configurations were asked";
      return std::move(result_);
    }
    const auto answered_by = [&](const Configuration& c) {
      return Compared{&c, answered_items(evaluator_.store(), c, items), nullptr, {}};
    };
    harmless_ = !loses(answered_by(reference_), answered_by(failing_));
    make_trials();
    const auto first = quarter_of(telling);
    result_.complete = ask(trials_, first);
    if (result_.complete) {
      score_all(first);
      rank();
      detail(telling);
    }
    judge();
    return std::move(result_);
  }

 private:
  // Every fourth, so that lost and kept questions are both among them; at least four.
  static std::vector<const SuiteItem*> quarter_of(const std::vector<const SuiteItem*>& items) {
    const size_t step = std::max<size_t>(std::min<size_t>(4, items.size() / 4), 1);
    std::vector<const SuiteItem*> some;
    for (size_t i = 0; i < items.size(); i += step) some.push_back(items[i]);
    return some;
  }

  void make_trials() {
    const Precision& precision = evaluator_.precision(failing_);
    for (const AttributionEntry& entry : attribution_entries(precision)) {
      Trial trial;
      trial.entry = entry;
      const std::string name = entry.name();
      trial.raised = {failing_.name + " with " + name + " raised", raised(failing_.policy, entry),
                      failing_.guard};
      trial.lowered = {"fp32 with " + name + " lowered", lowered(failing_.policy, precision, entry),
                       failing_.guard};
      if (fits(trial.raised) && fits(trial.lowered)) trials_.push_back(std::move(trial));
    }
  }

  // Some nodes cannot differ from others in every implementation; those are not tried.
  bool fits(const Configuration& configuration) {
    try {
      evaluator_.precision(configuration);
      return true;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::invalid_argument && error.kind() != ErrorKind::unsupported) throw;
      return false;
    }
  }

  bool ask(std::span<const Trial> trials, std::span<const SuiteItem* const> items) {
    std::vector<Configuration> configurations;
    for (const Trial& trial : trials) {
      configurations.push_back(trial.raised);
      configurations.push_back(trial.lowered);
    }
    return evaluator_.evaluate("attribute", &reference_, configurations, items);
  }

  Score score(const Configuration& configuration, std::span<const SuiteItem* const> items) const {
    const auto answered = answered_items(evaluator_.store(), configuration, items);
    const auto expected = answered_items(evaluator_.store(), reference_, items);
    Score score = score_of(answered);
    double sum = score.kl * static_cast<double>(score.tokens);
    for (size_t i = 0; i < answered.size() && i < expected.size(); ++i) {
      if (answered[i].result->problem.empty()) continue;
      const auto tokens = std::ssize(expected[i].result->kl) - std::ssize(answered[i].result->kl);
      sum += stopped_kl_ * static_cast<double>(tokens);
      score.tokens += tokens;
    }
    score.kl = score.tokens > 0 ? sum / static_cast<double>(score.tokens) : 0;
    return score;
  }

  void score_trial(Trial& trial, std::span<const SuiteItem* const> items) const {
    trial.raised_score = score(trial.raised, items);
    trial.lowered_score = score(trial.lowered, items);
    const Score worst = score(failing_, items), best = score(reference_, items);
    const auto share = [](double part, double whole) {
      return whole > 0 ? std::clamp(part / whole, -1.0, 1.0) : 0.0;
    };
    const double lost = best.accuracy() - worst.accuracy();
    const double cure_kl = share(worst.kl - trial.raised_score.kl, worst.kl);
    const double harm_kl = share(trial.lowered_score.kl, worst.kl);
    if (lost <= 0) {
      trial.cure = cure_kl;
      trial.harm = harm_kl;
      return;
    }
    trial.cure = (cure_kl + share(trial.raised_score.accuracy() - worst.accuracy(), lost)) / 2;
    trial.harm = (harm_kl + share(best.accuracy() - trial.lowered_score.accuracy(), lost)) / 2;
  }

  void score_all(std::span<const SuiteItem* const> items) {
    for (Trial& trial : trials_) score_trial(trial, items);
    items_of_all_.assign(items.begin(), items.end());
  }

  // What cures counts twice what harms: a node is guilty when the failure goes away with it.
  void rank() {
    std::stable_sort(trials_.begin(), trials_.end(), [](const Trial& a, const Trial& b) {
      return 2 * a.cure + a.harm > 2 * b.cure + b.harm;
    });
  }

  // The leading entries, and the parts of leading groups, on all questions.
  void detail(const std::vector<const SuiteItem*>& items) {
    constexpr size_t kLeading = 3;
    std::vector<Trial> chosen;
    for (size_t i = 0; i < trials_.size(); ++i) {
      bool part = false;
      for (size_t j = 0; j < std::min(kLeading, trials_.size()); ++j) {
        const auto& group = trials_[j].entry.nodes;
        part = part || (group.size() < 4 && trials_[i].entry.nodes.size() == 1 &&
                        std::find(group.begin(), group.end(), trials_[i].entry.nodes[0]) != group.end());
      }
      if (i < kLeading || part) {
        trials_[i].in_detail = true;
        chosen.push_back(trials_[i]);
      }
    }
    result_.complete = ask(chosen, items);
    if (!result_.complete) return;
    for (Trial& trial : trials_) {
      if (trial.in_detail) score_trial(trial, items);
    }
    items_of_detail_ = items;
    rank();
  }

  static ordered_json short_json(const Score& score) {
    const Interval interval = score.interval();
    return {{"accuracy", score.accuracy()},
            {"interval", {interval.low, interval.high}},
            {"count", score.count},
            {"kl", score.tokens > 0 ? ordered_json(score.kl) : ordered_json(nullptr)}};
  }

  static std::string why(const Trial& trial, bool guilty) {
    const std::string effect =
        fmt::format("raised alone it wins back {:.0f} % of the loss, lowered alone it causes {:.0f} % of it",
                    100 * std::max(trial.cure, 0.0), 100 * std::max(trial.harm, 0.0));
    if (guilty && trial.entry.nodes.size() > 1) {
      return effect + "; these roundings follow each other, so that none of them alone need cure anything";
    }
    return effect;
  }

  ordered_json entry_json(const Trial& trial, int64_t rank, bool guilty) const {
    const auto& items = trial.in_detail && !items_of_detail_.empty() ? items_of_detail_ : items_of_all_;
    const Score worst = score(failing_, items), best = score(reference_, items);
    ordered_json nodes = ordered_json::array();
    bool text = false, vision = false;
    for (const NodeAddress& node : trial.entry.nodes) {
      nodes.push_back(node.text());
      (node.tower == "vision" ? vision : text) = true;
    }
    return {{"rank", rank},
            {"node", trial.entry.name()},
            {"nodes", nodes},
            {"tower", text && vision ? "both"
                      : vision       ? "vision"
                                     : "text"},
            {"group", trial.entry.nodes.size() > 1},
            {"raised", short_json(trial.raised_score)},
            {"lowered", short_json(trial.lowered_score)},
            {"accuracy_gain", trial.raised_score.accuracy() - worst.accuracy()},
            {"kl_gain", worst.kl - trial.raised_score.kl},
            {"accuracy_loss", best.accuracy() - trial.lowered_score.accuracy()},
            {"kl_loss", trial.lowered_score.kl},
            {"cure", trial.cure},
            {"harm", trial.harm},
            {"guilty", guilty},
            {"why", why(trial, guilty)}};
  }

  // The smallest entry that undoes most of the loss; among equals the one that undoes more.
  const Trial* guilty() const {
    constexpr double kMost = 0.75;
    const Trial* found = nullptr;
    for (const Trial& trial : trials_) {
      if (trial.cure < kMost) continue;
      if (found == nullptr || trial.entry.nodes.size() < found->entry.nodes.size()) found = &trial;
    }
    return found;
  }

  void judge() {
    if (trials_.empty() || items_of_all_.empty()) {
      result_.verdict = trials_.empty() ? failing_.name + " rounds nothing to 16 bits" : "it was stopped";
      return;
    }
    const Trial* culprit = harmless_ ? nullptr : guilty();
    // The culprit stands first, whatever the weights of the ranking say.
    std::stable_partition(
        trials_.begin(), trials_.end(),
        [&, name = culprit ? culprit->entry.name() : ""](const Trial& t) { return t.entry.name() == name; });
    int64_t rank = 0;
    for (const Trial& trial : trials_) {
      ++rank;
      result_.entries.push_back(entry_json(trial, rank, culprit != nullptr && rank == 1));
    }
    const Trial& first = trials_.front();
    if (harmless_) {
      result_.verdict = fmt::format("nothing: what {} loses here is not more than noise", failing_.name);
      return;
    }
    if (culprit == nullptr) {
      result_.verdict = fmt::format(
          "no single node and no group explains the loss of {}; the largest part, {:.0f} %, goes away with "
          "{}",
          failing_.name, 100 * std::max(first.cure, 0.0), first.entry.name());
      return;
    }
    result_.guilty = first.entry.name();
    result_.guilty_nodes = first.entry.nodes;
    result_.verdict = fmt::format("{} fails at {}: kept in fp32, {:.0f} % of the loss goes away",
                                  failing_.name, described(first.entry), 100 * first.cure);
  }

  static std::string described(const AttributionEntry& entry) {
    const std::string name = entry.name();
    if (name == "text.scores+text.scaled") return "the scores of the text decoder (product and scale)";
    if (name == "vision.scores+vision.scaled") return "the scores of the vision tower (product and scale)";
    return name.size() < 60 ? name : "the nodes of the vision tower together";
  }

  Evaluator& evaluator_;
  const Configuration &reference_, &failing_;
  AttributionOptions options_;
  double stopped_kl_;
  bool harmless_ = false;  // then there is nothing to blame a node for
  std::vector<Trial> trials_;
  std::vector<const SuiteItem*> items_of_all_, items_of_detail_;
  Attribution result_;
};

}  // namespace

Attribution attribute(Evaluator& evaluator, const Configuration& reference, const Configuration& failing,
                      std::span<const SuiteItem* const> items, const AttributionOptions& options) {
  return Attributor(evaluator, reference, failing, options).run(items);
}

}  // namespace fovea
