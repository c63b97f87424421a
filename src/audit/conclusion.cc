#include "audit/conclusion.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "audit/score_error.h"

namespace fovea {

namespace {

std::string percent(double share) { return fmt::format("{:.0f} %", 100 * share); }

std::string scored(const Compared& c) {
  const Score score = score_of(c.answered);
  return fmt::format("{} ({} of {})", percent(score.accuracy()), score.correct, score.count);
}

// The first reason why answers stopped, and how many.
std::string stopped_words(const Compared& c) {
  int64_t count = 0;
  std::string first;
  for (const AnsweredItem& a : c.answered) {
    if (a.result->problem.empty()) continue;
    if (count++ == 0) first = a.result->problem;
  }
  return count == 0 ? "" : fmt::format("; {} stopped ({})", count, first);
}

// Where the scores are too large for the type they are stored in.
std::string risk_words(const Compared& c) {
  int64_t rows = 0, at_risk = 0;
  double largest = 0;
  std::vector<std::string> layers;
  DType type = DType::bf16;
  for (const LayerSums& layer : layers_of(c.answered)) {
    const LayeredPrecision& tower = layer.part == ModelPart::vision ? c.precision->vision : c.precision->text;
    const TowerPrecision& nodes = tower.layers.at(static_cast<size_t>(layer.layer));
    const HeadSums total = layer.total();
    if (total.at_risk == 0 || !scores_are_rounded(nodes)) continue;
    rows += total.rows;
    at_risk += total.at_risk;
    if (total.largest_score > largest) {
      largest = total.largest_score;
      type = nodes.attention.scaled;
    }
    layers.push_back(fmt::format("{} {}", layer.part == ModelPart::vision ? "vision block" : "decoder layer",
                                 layer.layer));
  }
  if (layers.empty()) return "";
  constexpr size_t kMostNames = 6;
  const size_t more = layers.size() > kMostNames ? layers.size() - kMostNames : 0;
  layers.resize(layers.size() - more);
  const std::string places =
      fmt::format("{}{}", fmt::join(layers, ", "), more > 0 ? fmt::format(" and {} more", more) : "");
  // Numbers from 2^e to 2^(e+1) are 2^e * epsilon apart.
  const double spacing = std::exp2(std::floor(std::log2(largest))) * epsilon_of(type);
  return fmt::format(
      "Why {}: in {} scores reach {:.0f} after scaling, where neighbouring {} numbers are {:g} apart, a "
      "factor of "
      "{:.3g} in the weight of a key; {} of the rows examined there are at risk.",
      c.configuration->name, places, largest, name_of(type), spacing, std::exp(spacing),
      percent(static_cast<double>(at_risk) / static_cast<double>(std::max<int64_t>(rows, 1))));
}

void say_safe(const Compared& reference, std::span<const Compared> compared,
              std::vector<std::string>& words) {
  std::vector<std::string> safe, undecided;
  for (const Compared& c : compared) {
    if (&c == &reference || c.answered.empty()) continue;
    const Verdict verdict = verdict_of(reference, c);
    if (verdict == Verdict::safe) safe.push_back(c.configuration->name);
    if (verdict != Verdict::undecided) continue;
    const Exchange e = exchange_of(reference, c);
    undecided.push_back(
        fmt::format("{} ({} answers lost, {} gained)", c.configuration->name, e.lost, e.gained));
  }
  if (!safe.empty()) {
    words.push_back(fmt::format("Safe here: {}: as many answers are right as in {}, {}.",
                                fmt::join(safe, ", "), reference.configuration->name, scored(reference)));
  }
  if (!undecided.empty()) {
    words.push_back(
        fmt::format("Undecided: {}: its distributions differ, but these questions are too few or too easy to "
                    "tell whether it matters.",
                    fmt::join(undecided, ", ")));
  }
}

void say_unsafe(const Compared& reference, std::span<const Compared> compared,
                std::vector<std::string>& words) {
  for (const Compared& c : compared) {
    if (&c == &reference || c.answered.empty() || verdict_of(reference, c) != Verdict::unsafe) continue;
    words.push_back(fmt::format("Not safe here: {} answers {} right where {} answers {}{}.",
                                c.configuration->name, scored(c), reference.configuration->name,
                                percent(score_of(reference.answered).accuracy()), stopped_words(c)));
    const std::string why = risk_words(c);
    if (!why.empty()) words.push_back(why);
  }
}

void say_search(const SearchResult& search, std::vector<std::string>& words) {
  const SearchCandidate *best = search.cheapest(), *eager = search.cheapest_eager();
  if (best == nullptr) {
    words.push_back(fmt::format("No policy that was tried reaches {}.", percent(search.target)));
    return;
  }
  words.push_back(fmt::format("Use: {} ({}; {} right).", flags_of(best->configuration),
                              best->configuration.name, percent(best->score.accuracy())));
  if (eager != nullptr && eager != best) {
    words.push_back(fmt::format("Where eager attention is a must (attention maps): {} ({} right).",
                                flags_of(eager->configuration), percent(eager->score.accuracy())));
  }
}

void say_empty(std::span<const Compared> compared, std::vector<std::string>& words) {
  for (const Compared& c : compared) {
    const auto empty = std::count_if(c.answered.begin(), c.answered.end(), [](const AnsweredItem& a) {
      return a.result->problem.empty() && a.result->answer.find_first_not_of(" \t\r\n") == std::string::npos;
    });
    if (empty > 0) {
      words.push_back(fmt::format("{} answers nothing to {} of {} questions; they count as wrong.",
                                  c.configuration->name, empty, c.answered.size()));
    }
  }
}

}  // namespace

std::vector<std::string> conclude(const Compared* reference, std::span<const Compared> compared,
                                  const Attribution* attribution, const SearchResult* search) {
  std::vector<std::string> words;
  if (reference == nullptr) {
    for (const Compared& c : compared) {
      words.push_back(
          fmt::format("{} answers {} right.", c.configuration->name, scored(c) + stopped_words(c)));
    }
    say_empty(compared, words);
    return words;
  }
  const Score best = score_of(reference->answered);
  if (best.accuracy() < 0.5) {
    words.push_back(
        fmt::format("The reference {} itself answers only {} right: this model cannot do this suite, so "
                    "accuracy says little here; read KL and agreement instead.",
                    reference->configuration->name, scored(*reference)));
  }
  say_empty(compared, words);
  say_safe(*reference, compared, words);
  say_unsafe(*reference, compared, words);
  if (attribution != nullptr) words.push_back(fmt::format("To blame: {}.", attribution->verdict));
  if (search != nullptr) say_search(*search, words);
  return words;
}

std::string say_storage(const SearchResult& search) {
  const SearchCandidate* best = search.cheapest();
  if (best == nullptr) {
    return fmt::format("No storage that was tried reaches {}.", percent(search.target));
  }
  return fmt::format(
      "The smallest storage that reaches {}: {} ({:.1f} MB of weights, {:.1f} MB of keys and values; {} "
      "right).",
      percent(search.target), flags_of(best->configuration), static_cast<double>(best->memory.weights) / 1e6,
      static_cast<double>(best->memory.kv_cache) / 1e6, percent(best->score.accuracy()));
}

}  // namespace fovea
