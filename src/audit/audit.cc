#include "audit/audit.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "audit/asked_questions.h"
#include "audit/conclusion.h"
#include "audit/description.h"
#include "audit/fingerprint.h"
#include "audit/search.h"
#include "base/error.h"
#include "base/format_version.h"
#include "base/parallel.h"

namespace fovea {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

ResultShape shape_of(const Engine& engine, const Suite& suite, const AuditOptions& options) {
  const ModelConfig& config = engine.checkpoint().config();
  ResultShape shape;
  shape.vision_blocks = config.vision.depth;
  shape.vision_heads = config.vision.num_heads;
  shape.text_layers = config.text.num_hidden_layers;
  shape.text_heads = config.text.num_attention_heads;
  shape.max_context = config.text.max_position_embeddings;
  shape.max_new_tokens = options.evaluation.max_new_tokens;
  for (const SuiteItem& item : suite.items) shape.questions.insert(item.id);
  return shape;
}

ordered_json model_json(const Engine& engine) {
  const ModelConfig& c = engine.checkpoint().config();
  int64_t parameters = 0;
  for (const TensorInfo& tensor : engine.checkpoint().tensors()) parameters += tensor.elements();
  ordered_json json = {{"dir", engine.checkpoint().dir().string()}};
  const std::filesystem::path& mmproj = engine.checkpoint().files().mmproj;
  if (!mmproj.empty()) json["mmproj"] = mmproj.string();
  json.update(ordered_json{{"dtype", name_of(c.dtype)},
                           {"parameters", parameters},
                           {"text_layers", c.text.num_hidden_layers},
                           {"vision_blocks", c.vision.depth},
                           {"query_heads", c.text.num_attention_heads},
                           {"kv_heads", c.text.num_key_value_heads},
                           {"head_dim", c.text.head_dim},
                           {"hidden_size", c.text.hidden_size},
                           {"vocab_size", c.text.vocab_size}});
  return json;
}

ordered_json problem_json(const SuiteProblem& p) {
  return {{"file", p.file},
          {"line", p.line},
          {"id", p.id.empty() ? ordered_json(nullptr) : ordered_json(p.id)},
          {"message", p.message},
          {"remedy", p.remedy}};
}

class Audit {
 public:
  Audit(const Engine& engine, const Suite& suite, const AuditOptions& options, const AuditFollower& follower)
      : engine_(engine),
        suite_(suite),
        options_(options),
        follower_(follower),
        store_(fingerprint_of(engine, suite, options)),
        state_file_(options.sharing.rank == 0 ? options.state_file : std::filesystem::path()),
        evaluator_(engine, options.media, options.evaluation, options.check, store_, state_file_, follower,
                   options.sharing) {
    const int64_t count = options.limit > 0 ? options.limit : std::ssize(suite.items);
    for (const SuiteItem& item : suite.items) {
      if (std::ssize(items_) < count) items_.push_back(&item);
    }
    if (options.reference) add_once(*options.reference);
    for (const Configuration& configuration : options.compare) add_once(configuration);
    asked_for();  // refused before any work
    find_state();
    evaluator_.exchange(items_, true);
  }

  AuditOutcome run() {
    const auto start = std::chrono::steady_clock::now();
    complete_ = evaluator_.evaluate("compare", reference(), configurations_, items_);
    drop_unaskable();
    std::optional<Attribution> attribution;
    std::optional<SearchResult> found, stored;
    if (complete_ && (options_.attribute || options_.search) && reference() != nullptr) {
      failing_ = failing_configuration();
      if (options_.attribute) attribution = run_attribution();
      if (complete_ && options_.search) found = run_search();
    }
    if (complete_ && options_.search_storage && reference() != nullptr) {
      stored = search_among(storage_candidates(evaluator_, largest_shape()));
    }
    AuditOutcome outcome;
    outcome.json = report(attribution, found, stored);
    outcome.json["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    outcome.complete = complete_;
    if (complete_ && !state_file_.empty() && !options_.keep_state) {
      std::error_code ignored;
      std::filesystem::remove(state_file_, ignored);
    } else {
      evaluator_.save();
    }
    return outcome;
  }

 private:
  void add_once(const Configuration& configuration) {
    const bool known = std::any_of(configurations_.begin(), configurations_.end(),
                                   [&](const Configuration& c) { return c.name == configuration.name; });
    if (!known) configurations_.push_back(configuration);
  }
  const Configuration* reference() const { return options_.reference ? &configurations_.front() : nullptr; }

  // Without --resume, the state of another audit does not stop this one: it begins anew and says so. What is
  // no state at all is not ours to replace.
  void find_state() {
    const auto& path = state_file_;
    std::error_code ignored;
    if (path.empty() || (!options_.resume && !std::filesystem::exists(path, ignored))) return;
    try {
      store_.load(path, shape_of(engine_, suite_, options_));
      if (follower_.note) follower_.note(fmt::format("continuing from {}", path.string()));
    } catch (const Error& error) {
      if (options_.resume || error.kind() != ErrorKind::invalid_argument) throw;
      if (follower_.note) follower_.note(fmt::format("beginning anew: {}", error.message()));
      store_ = ResultStore(fingerprint_of(engine_, suite_, options_));
    }
  }

  void drop_unaskable() {
    std::erase_if(items_, [&](const SuiteItem* item) { return store_.problem(item->id) != nullptr; });
    if (!items_.empty() || store_.problems().empty()) return;
    const SuiteProblem& first = store_.problems().begin()->second;
    throw Error(ErrorKind::invalid_argument,
                fmt::format("no question of {} can be asked; the first: {}: {}", suite_.source, first.id,
                            first.message),
                first.remedy);
  }

  std::vector<AnsweredItem> answered(const Configuration& c) const {
    return answered_items(store_, c, items_);
  }

  // The one that --attribute names, if it does.
  const Configuration* asked_for() const {
    if (options_.attribute_configuration.empty()) return nullptr;
    for (const Configuration& c : configurations_) {
      if (c.name == options_.attribute_configuration) return &c;
    }
    throw Error(ErrorKind::invalid_argument,
                fmt::format("--attribute {}: it is not compared", options_.attribute_configuration),
                "add it to --compare");
  }

  // The one that was named, or that loses most: in accuracy, then in KL.
  const Configuration* failing_configuration() {
    if (const Configuration* asked = asked_for()) return asked;
    const Configuration* worst = nullptr;
    Score worst_score;
    for (const Configuration& c : configurations_) {
      if (&c == reference()) continue;
      const Score score = score_of(answered(c));
      if (worst == nullptr || score.correct < worst_score.correct ||
          (score.correct == worst_score.correct && score.kl > worst_score.kl)) {
        worst = &c;
        worst_score = score;
      }
    }
    return worst;
  }

  std::optional<Attribution> run_attribution() {
    if (failing_ == nullptr) return std::nullopt;
    Attribution attribution =
        fovea::attribute(evaluator_, *reference(), *failing_, items_, options_.attribution);
    complete_ = attribution.complete;
    return attribution;
  }

  PromptShape largest_shape() const {
    PromptShape shape;
    for (const SuiteItem* item : items_) {
      const ItemFacts* facts = store_.facts(item->id);
      if (facts == nullptr) continue;
      shape.tokens = std::max(shape.tokens, facts->context);
      shape.largest_patches = std::max(shape.largest_patches, facts->largest_patches);
    }
    shape.answer_tokens = options_.evaluation.max_new_tokens;
    shape.prefill_chunk = options_.evaluation.prefill_chunk;
    return shape;
  }

  // Around the failing policy if it is eager, else around the eager preset of its dtype.
  Configuration search_base() {
    if (failing_ != nullptr) {
      const Precision& precision = evaluator_.precision(*failing_);
      if (precision.text.tower.kind == AttentionKind::eager) return *failing_;
      if (precision.text.tower.linear == DType::f16) return parse_configuration("eager-fp16");
    }
    return parse_configuration("eager-bf16");
  }

  SearchResult run_search() {
    const Configuration base = search_base();
    auto candidates = search_candidates(evaluator_, base, layers_of(answered(base)), largest_shape());
    return search_among(std::move(candidates));
  }

  SearchResult search_among(std::vector<SearchCandidate> candidates) {
    SearchResult result =
        fovea::search(evaluator_, *reference(), std::move(candidates), items_, options_.target);
    complete_ = result.complete;
    return result;
  }

  std::vector<Compared> compared() {
    std::vector<Compared> list;
    for (const Configuration& c : configurations_) {
      const Precision& precision = evaluator_.precision(c);
      list.push_back(
          {&c, answered(c), &precision, memory_plan(engine_.checkpoint(), precision, largest_shape())});
    }
    return list;
  }

  ordered_json suite_json() const {
    ordered_json problems = ordered_json::array();
    for (const SuiteProblem& p : suite_.problems) problems.push_back(problem_json(p));
    for (const auto& [id, p] : store_.problems()) problems.push_back(problem_json(p));
    std::vector<double> context, images;
    for (const SuiteItem* item : items_) {
      const ItemFacts* facts = store_.facts(item->id);
      if (facts == nullptr) continue;
      context.push_back(static_cast<double>(facts->context));
      images.push_back(static_cast<double>(facts->images));
    }
    std::sort(context.begin(), context.end());
    std::sort(images.begin(), images.end());
    const auto whole = [](double value) { return static_cast<int64_t>(value); };
    ordered_json result = {{"source", suite_.source},
                           {"items", suite_.lines},
                           {"used", context.size()},
                           {"skipped", problems.size()},
                           {"problems", problems}};
    result["context"] = result["images"] = nullptr;
    if (context.empty()) return result;
    result["context"] = {{"min", whole(context.front())},
                         {"median", whole(quantile(context, 0.5))},
                         {"max", whole(context.back())}};
    result["images"] = {{"min", whole(images.front())}, {"max", whole(images.back())}};
    return result;
  }

  // Of the folder, of its settings that greedy answers do not use, and of each question's prompt.
  std::vector<std::string> warnings() const {
    std::vector<std::string> all = engine_.warnings();
    GenerationOptions generation = engine_.default_generation();
    generation.choose_greedy();
    for (std::string& unused : generation.unused()) all.push_back(std::move(unused));
    for (const SuiteItem* item : items_) {
      const ItemFacts* facts = store_.facts(item->id);
      if (facts == nullptr) continue;
      for (const std::string& warning : facts->warnings) all.push_back(item->id + ": " + warning);
    }
    return all;
  }

  std::string described(const Configuration& configuration) {
    return describe(evaluator_.precision(configuration), configuration.guard);
  }

  ordered_json recommended_by_search(const SearchResult& found) {
    const SearchCandidate* best = found.cheapest();
    if (best == nullptr) return nullptr;
    ordered_json json = candidate_json(*best, found.target);
    json.erase("status");
    json["why"] = fmt::format("the cheapest of {} policies that reaches {:.2f}: {}", found.candidates.size(),
                              found.target, best->why);
    json["description"] = described(best->configuration);
    const auto known =
        std::find_if(found.candidates.begin(), found.candidates.end(),
                     [](const SearchCandidate& c) { return c.configuration.name == "eager-qkv-fp32"; });
    json["against"] = nullptr;
    if (known == found.candidates.end() || known->memory.peak() == 0) return json;
    SearchCandidate cure = *known;
    cure.score = score_of(answered(cure.configuration));
    json["against"] = against_json(cure, *best);
    return json;
  }

  static ordered_json against_json(const SearchCandidate& cure, const SearchCandidate& best) {
    const auto ratio = [](double part, double whole) {
      return whole > 0 ? ordered_json(part / whole) : ordered_json(nullptr);
    };
    const bool asked = cure.score.count > 0;
    return {{"name", cure.configuration.name},
            {"accuracy", asked ? ordered_json(cure.score.accuracy()) : ordered_json(nullptr)},
            {"count", cure.score.count},
            {"score_bytes", cure.memory.scores},
            {"peak_bytes", cure.memory.peak()},
            {"seconds", asked ? ordered_json(cure.score.seconds) : ordered_json(nullptr)},
            {"score_bytes_ratio",
             ratio(static_cast<double>(best.memory.scores), static_cast<double>(cure.memory.scores))},
            {"seconds_ratio", ratio(best.score.seconds, cure.score.seconds)}};
  }

  // Without a search: the cheapest of those compared that is safe.
  ordered_json recommended_of(std::span<const Compared> list) {
    const Compared* best = nullptr;
    for (const Compared& c : list) {
      if (&c == &list.front() || c.answered.empty()) continue;
      if (verdict_of(list.front(), c, tolerated_loss(options_.target)) != Verdict::safe) continue;
      if (best == nullptr ||
          std::pair(c.memory.scores, c.memory.peak()) < std::pair(best->memory.scores, best->memory.peak())) {
        best = &c;
      }
    }
    if (best == nullptr) return nullptr;
    SearchCandidate candidate{*best->configuration,     best->memory, SearchCandidate::Status::reached,
                              score_of(best->answered), "",           false};
    ordered_json json = candidate_json(candidate, score_of(list.front().answered).accuracy());
    json.erase("status");
    json["why"] = "the cheapest of those compared that was shown to be safe";
    json["description"] = described(*best->configuration);
    json["against"] = nullptr;
    return json;
  }

  // `chosen`: under which name the candidate `best` stands in it.
  static ordered_json search_json(const SearchResult& found, const char* chosen,
                                  const SearchCandidate* best) {
    ordered_json candidates = ordered_json::array();
    for (const SearchCandidate& c : found.candidates) candidates.push_back(candidate_json(c, found.target));
    return {{"target", found.target},
            {chosen, best ? ordered_json(best->configuration.name) : ordered_json(nullptr)},
            {"candidates", candidates}};
  }

  // How many right answers of the reference there are, and how many could show that few are lost.
  ordered_json safety_json(const Compared& reference) const {
    const double tolerated = tolerated_loss(options_.target);
    const std::optional<int64_t> needed = right_answers_needed(0, tolerated);
    return {{"tolerated_loss", tolerated},
            {"right_answers", score_of(reference.answered).correct},
            {"right_answers_needed", needed ? ordered_json(*needed) : ordered_json(nullptr)}};
  }

  ordered_json report(const std::optional<Attribution>& attribution, const std::optional<SearchResult>& found,
                      const std::optional<SearchResult>& stored) {
    const std::vector<Compared> list = compared();
    ordered_json json = {{"format", "fovea-audit"}, {"version", kAuditJson.version}, {"complete", complete_}};
    json["model"] = model_json(engine_);
    json["machine"] = {{"kernels", engine_.kernel_variant()}, {"threads", threads()}};
    json["suite"] = suite_json();
    json["warnings"] = warnings();
    json["reference"] = reference() ? ordered_json(reference()->name) : ordered_json(nullptr);
    json["configurations"] = ordered_json::array();
    for (const Compared& c : list) {
      json["configurations"].push_back(configuration_json(*c.configuration, c.configuration == reference(),
                                                          c.answered, c.memory, options_.evaluation.drift,
                                                          *c.precision));
    }
    json["questions"] = reference() ? asked_questions(engine_, options_.media, list) : ordered_json::array();
    json["attribution_of"] = nullptr;
    if (attribution) {
      json["attribution_of"] = {{"configuration", attribution->configuration},
                                {"items", attribution->items},
                                {"guilty", attribution->guilty},
                                {"verdict", attribution->verdict}};
    }
    json["attribution"] = attribution ? attribution->entries : ordered_json::array();
    json["recommended"] = found                    ? recommended_by_search(*found)
                          : reference() == nullptr ? ordered_json(nullptr)
                                                   : recommended_of(list);
    json["search"] = nullptr;
    if (found) json["search"] = search_json(*found, "cheapest_eager", found->cheapest_eager());
    json["storage_search"] = nullptr;
    if (stored) json["storage_search"] = search_json(*stored, "smallest", stored->cheapest());
    json["safety"] = reference() ? safety_json(list.front()) : ordered_json(nullptr);
    json["conclusion"] =
        conclude(reference() ? &list.front() : nullptr, list, attribution ? &*attribution : nullptr,
                 found ? &*found : nullptr, tolerated_loss(options_.target));
    if (!found && json["recommended"].is_object()) {
      json["conclusion"].push_back(fmt::format("Use: {}.", json["recommended"]["flags"].get<std::string>()));
    }
    if (stored) json["conclusion"].push_back(say_storage(*stored));
    return json;
  }

  const Engine& engine_;
  const Suite& suite_;
  const AuditOptions& options_;
  const AuditFollower& follower_;
  ResultStore store_;
  std::filesystem::path state_file_;  // empty for none of this rank's
  Evaluator evaluator_;
  std::vector<const SuiteItem*> items_;
  std::vector<Configuration> configurations_;  // the reference, if any, first
  const Configuration* failing_ = nullptr;
  bool complete_ = true;
};

std::filesystem::path state_of_budget(const AuditOptions& options, int64_t budget) {
  if (options.state_file.empty()) return {};
  return options.state_file.string() + fmt::format(".{}", budget);
}

// The same questions and configurations, judged only, with their images in `budget` tokens.
AuditOutcome run_budget(const Engine& engine, const Suite& suite, AuditOptions options, int64_t budget,
                        const AuditFollower& follower) {
  if (options.reference) options.compare.insert(options.compare.begin(), *options.reference);
  options.reference.reset();
  options.attribute = options.search = options.search_storage = options.resume = false;
  options.attribute_configuration.clear();
  options.evaluation.drift = options.evaluation.examine = false;
  options.media.max_total_image_tokens = budget;
  options.state_file = state_of_budget(options, budget);
  options.keep_state = true;
  return Audit(engine, suite, options, follower).run();
}

void add_budget(ordered_json& json, const ordered_json& asked, int64_t budget) {
  for (ordered_json& configuration : json["configurations"]) {
    for (const ordered_json& other : asked["configurations"]) {
      if (other["name"] != configuration["name"]) continue;
      ordered_json entry = {{"budget", budget}};
      for (const char* field : {"count", "correct", "accuracy", "interval"}) entry[field] = other[field];
      configuration["by_image_budget"].push_back(std::move(entry));
    }
  }
}

}  // namespace

AuditOutcome run_audit(const Engine& engine, const Suite& suite, const AuditOptions& given,
                       const AuditFollower& follower) {
  AuditOptions options = given;
  options.keep_state |= !options.image_budgets.empty();
  AuditOutcome outcome = Audit(engine, suite, options, follower).run();
  for (const int64_t budget : options.image_budgets) {
    if (!outcome.complete) return outcome;
    const AuditOutcome asked = run_budget(engine, suite, options, budget, follower);
    outcome.complete = asked.complete;
    outcome.json["complete"] = asked.complete;
    if (asked.complete) add_budget(outcome.json, asked.json, budget);
  }
  if (!outcome.complete || given.keep_state || options.sharing.rank != 0) return outcome;
  std::error_code ignored;
  if (!options.image_budgets.empty()) std::filesystem::remove(options.state_file, ignored);
  for (const int64_t budget : options.image_budgets)
    std::filesystem::remove(state_of_budget(options, budget), ignored);
  return outcome;
}

}  // namespace fovea
