#include "audit/conclusion.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "audit/score_error.h"

namespace fovea {

namespace {

std::string percent(double share) { return fmt::format("{:.0f} %", 100 * share); }

// What a number of lost answers rules out: the one-sided bound of verdict_of.
std::string ruled_out(double tolerated) {
  return fmt::format("with 95 % confidence that {:.3g} % or more are lost on questions like these",
                     100 * tolerated);
}

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

// The scores of one tower that are too large for the type they are stored in.
struct TowerRisk {
  ModelPart part = ModelPart::text;
  std::vector<int64_t> layers;  // those with rows at risk
  int64_t rows = 0, at_risk = 0;
  double largest = 0;
  int64_t largest_layer = 0;  // whose it is
  DType type = DType::bf16;   // of its scores

  const char* layer_word() const { return part == ModelPart::vision ? "vision block" : "decoder layer"; }
};

TowerRisk risk_of(const Compared& c, ModelPart part) {
  TowerRisk risk;
  risk.part = part;
  for (const LayerSums& layer : layers_of(c.answered)) {
    if (layer.part != part) continue;
    const LayeredPrecision& tower = part == ModelPart::vision ? c.precision->vision : c.precision->text;
    const TowerPrecision& nodes = tower.layers.at(static_cast<size_t>(layer.layer));
    const HeadSums total = layer.total();
    if (total.at_risk == 0 || !scores_are_rounded(nodes)) continue;
    risk.layers.push_back(layer.layer);
    risk.rows += total.rows;
    risk.at_risk += total.at_risk;
    if (!(total.largest_score > risk.largest)) continue;
    risk.largest = total.largest_score;
    risk.largest_layer = layer.layer;
    risk.type = nodes.attention.scaled;
  }
  return risk;
}

// "0-3, 7 and 2 more" of ascending numbers.
std::string ranges(const std::vector<int64_t>& numbers) {
  constexpr size_t kMostRanges = 4;
  std::vector<std::string> parts;
  size_t named = 0;
  for (size_t first = 0; first < numbers.size() && parts.size() < kMostRanges;) {
    size_t last = first;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    parts.push_back(first == last ? fmt::format("{}", numbers[first])
                                  : fmt::format("{}-{}", numbers[first], numbers[last]));
    named = first = last + 1;
  }
  const size_t more = numbers.size() - named;
  return fmt::format("{}{}", fmt::join(parts, ", "), more > 0 ? fmt::format(" and {} more", more) : "");
}

std::string size_words(const TowerRisk& risk) {
  if (std::isinf(risk.largest)) return fmt::format("leave the range of {}", name_of(risk.type));
  // Numbers from 2^e to 2^(e+1) are 2^e * epsilon apart.
  const double spacing = std::exp2(std::floor(std::log2(risk.largest))) * epsilon_of(risk.type);
  constexpr double kLargestExponent = 700;  // of exp() in f64
  const std::string factor =
      spacing < kLargestExponent ? fmt::format("{:.3g}", std::exp(spacing)) : "more than 1e300";
  return fmt::format(
      "reach {:.0f} after scaling, where neighbouring {} numbers are {:g} apart, a factor of {} in the "
      "weight of "
      "a key",
      risk.largest, name_of(risk.type), spacing, factor);
}

std::string risk_sentence(const TowerRisk& risk) {
  return fmt::format(
      "in {} {} scores {}; {} of the rows examined in {}{} {} are at risk", risk.layer_word(),
      risk.largest_layer, size_words(risk),
      percent(static_cast<double>(risk.at_risk) / static_cast<double>(std::max<int64_t>(risk.rows, 1))),
      risk.layer_word(), risk.layers.size() > 1 ? "s" : "", ranges(risk.layers));
}

// Whether the attribution of this configuration found others to blame.
bool acquits(const Attribution* attribution, const Compared& c, ModelPart part) {
  if (attribution == nullptr || attribution->configuration != c.configuration->name) return false;
  const char* tower = part == ModelPart::vision ? "vision" : "text";
  const auto& nodes = attribution->guilty_nodes;
  return !nodes.empty() &&
         std::none_of(nodes.begin(), nodes.end(), [&](const NodeAddress& n) { return n.tower == tower; });
}

// Why stored scores harm it; empty where none of them are in danger.
std::string risk_words(const Compared& c, const Attribution* attribution) {
  std::vector<std::string> sentences;
  std::string acquitted;
  for (const ModelPart part : {ModelPart::text, ModelPart::vision}) {
    const TowerRisk risk = risk_of(c, part);
    if (risk.layers.empty()) continue;
    if (acquits(attribution, c, part)) {
      acquitted = fmt::format("; those of the {}, at most {:.0f}, are not to blame",
                              part == ModelPart::vision ? "vision tower" : "text decoder", risk.largest);
    } else {
      sentences.push_back(risk_sentence(risk));
    }
  }
  if (sentences.empty()) return "";
  return fmt::format("Why {}: {}{}.", c.configuration->name, fmt::join(sentences, "; "), acquitted);
}

// Nothing can be called safe on fewer questions than could show harm.
void say_few(const Compared& reference, double tolerated, std::vector<std::string>& words) {
  const int64_t right = score_of(reference.answered).correct;
  const std::optional<int64_t> needed = right_answers_needed(0, tolerated);
  if (!needed) {
    words.push_back(
        "Too few questions: none are enough to show that nothing is ever lost, as --target 1 asks, so "
        "nothing is "
        "called safe.");
  } else if (right < *needed) {
    words.push_back(
        fmt::format("Too few questions: {} answers {} of them right. It takes {}, none of them lost, to rule "
                    "out {}; nothing is called safe on fewer.",
                    reference.configuration->name, right, *needed, ruled_out(tolerated)));
  }
}

// What it lost, and how many questions would have told.
std::string undecided_words(const Compared& reference, const Compared& c, double tolerated) {
  const Exchange e = exchange_of(reference, c);
  const std::string exchanged =
      fmt::format("{} ({} answers lost, {} gained", c.configuration->name, e.lost, e.gained);
  const std::optional<int64_t> needed = right_answers_needed(e.lost, tolerated);
  if (needed && e.right < *needed) return fmt::format("{}: {} right ones needed)", exchanged, *needed);
  return fmt::format("{}, mean KL {:.2g})", exchanged, score_of(c.answered).kl);
}

std::string safe_words(const Compared& reference, const Compared& c) {
  const int64_t lost = exchange_of(reference, c).lost;
  return fmt::format("{} ({} lost)", c.configuration->name, lost == 0 ? "none" : std::to_string(lost));
}

void say_safe(const Compared& reference, std::span<const Compared> compared, double tolerated,
              std::vector<std::string>& words) {
  std::vector<std::string> safe, undecided;
  for (const Compared& c : compared) {
    if (&c == &reference || c.answered.empty()) continue;
    const Verdict verdict = verdict_of(reference, c, tolerated);
    if (verdict == Verdict::safe) safe.push_back(safe_words(reference, c));
    if (verdict == Verdict::undecided) undecided.push_back(undecided_words(reference, c, tolerated));
  }
  const int64_t right = score_of(reference.answered).correct;
  if (!safe.empty()) {
    words.push_back(
        fmt::format("Safe here: {}: of the {} answers that {} has right, losing so few rules out {}, and "
                    "the distributions are close.",
                    fmt::join(safe, ", "), right, reference.configuration->name, ruled_out(tolerated)));
  }
  if (!undecided.empty()) {
    words.push_back(fmt::format(
        "Undecided: {}: with {} right answers of {} these questions cannot tell whether it matters.",
        fmt::join(undecided, ", "), right, reference.configuration->name));
  }
}

void say_unsafe(const Compared& reference, std::span<const Compared> compared, double tolerated,
                const Attribution* attribution, std::vector<std::string>& words) {
  for (const Compared& c : compared) {
    if (&c == &reference || c.answered.empty()) continue;
    if (verdict_of(reference, c, tolerated) != Verdict::unsafe) continue;
    words.push_back(fmt::format("Not safe here: {} answers {} right where {} answers {}{}.",
                                c.configuration->name, scored(c), reference.configuration->name,
                                percent(score_of(reference.answered).accuracy()), stopped_words(c)));
    const std::string why = risk_words(c, attribution);
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
                                  const Attribution* attribution, const SearchResult* search,
                                  double tolerated) {
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
  say_few(*reference, tolerated, words);
  say_safe(*reference, compared, tolerated, words);
  say_unsafe(*reference, compared, tolerated, attribution, words);
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
