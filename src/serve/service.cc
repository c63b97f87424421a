#include "serve/service.h"

#include <algorithm>
#include <chrono>

#include "api/chat_request.h"
#include "api/completion_request.h"
#include "api/generation.h"
#include "api/token_requests.h"
#include "base/error.h"
#include "base/parallel.h"
#include "runtime/constraint.h"
#include "serve/media_sources.h"
#include "serve/page.h"

namespace fovea {

namespace {

using nlohmann::ordered_json;

constexpr const char* kUnknownPath = "other";
constexpr size_t kLongestId = 128;

bool is_plain_id(const std::string& id) {
  return !id.empty() && id.size() <= kLongestId && std::ranges::all_of(id, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == ':';
  });
}

int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// How pictures were resized and what they cost, in the order of the messages. Boxes that an answer names are
// in pixels of the resized picture.
ordered_json geometry_of(const std::vector<Picture>& pictures, int64_t merge_size) {
  ordered_json list = ordered_json::array();
  for (const Picture& picture : pictures) {
    list.push_back({{"type", picture.is_video ? "video" : "image"},
                    {"width", picture.original_width},
                    {"height", picture.original_height},
                    {"resized_width", picture.resized_width},
                    {"resized_height", picture.resized_height},
                    {"grid_thw", {picture.grid.t, picture.grid.h, picture.grid.w}},
                    {"tokens", picture.tokens(merge_size)}});
  }
  return list;
}

// What /version adds once the model is there.
ordered_json computation_of(const Engine& engine) {
  const EngineOptions& options = engine.options();
  return {{"dtype", name_of(engine.dtype())},
          {"attn", name_of(options.attention)},
          {"vision_attn", name_of(options.vision_attention)},
          {"precision", options.policy ? options.policy->text() : ""},
          {"guard", name_of(options.guard.mode)},
          {"kernels", engine.kernel_variant()}};
}

}  // namespace

// A request whose body is being worked on.
struct Service::Job {
  ExchangePtr exchange;
  std::shared_ptr<const std::string> body;
  std::vector<Seat> seats;
};

struct Service::Route {
  const char *method, *path;
  bool is_public = false;                          // no key is asked for
  bool wants_model = false;                        // refused while there is none
  bool takes_a_seat = false;                       // refused when too many are under way
  void (Service::*work)(const JobPtr&) = nullptr;  // with the body; else it is answered at once

  static constexpr const char* kModel = "/v1/models/";
};

namespace {

constexpr const char* kPage = "/";  // and the files that it names (serve/page.h)
constexpr const char* kHealth = "/health";
constexpr const char* kVersion = "/version";
constexpr const char* kMetrics = "/metrics";
constexpr const char* kModels = "/v1/models";

}  // namespace

const Service::Route* Service::find_route(const HttpHead& head, bool& path_known) {
  static const Route kRoutes[] = {
      {"GET", kPage, true, false, false, nullptr},
      {"GET", kHealth, true, false, false, nullptr},
      {"GET", kVersion, true, false, false, nullptr},
      {"GET", kMetrics, false, false, false, nullptr},
      {"GET", kModels, false, false, false, nullptr},
      {"GET", Route::kModel, false, false, false, nullptr},
      {"POST", "/v1/chat/completions", false, true, true, &Service::chat},
      {"POST", "/v1/completions", false, true, true, &Service::complete},
      {"POST", "/v1/chat/completions/input_tokens", false, true, false, &Service::count_input},
      {"POST", "/tokenize", false, true, false, &Service::tokenize},
      {"POST", "/detokenize", false, true, false, &Service::detokenize},
  };
  const std::string path = head.path(), method = head.method == "HEAD" ? "GET" : head.method;
  path_known = false;
  for (const Route& route : kRoutes) {
    const bool below = (route.path == Route::kModel && path.starts_with(Route::kModel)) ||
                       (route.path == kPage && is_of_page(path));
    if (path != route.path && !below) continue;
    path_known = true;
    if (method == route.method) return &route;
  }
  return nullptr;
}

const Service::Route& Service::route_of(const HttpHead& head) const {
  bool path_known = false;
  const Route* route = find_route(head, path_known);
  if (route == nullptr || !route->is_public) access_.check_key(head);
  if (route != nullptr) return *route;
  if (path_known) {
    throw bad_request(405, "method_not_allowed", "this path takes another method than " + head.method);
  }
  throw HttpProblem(404, "not_found_error", "not_found",
                    "there is no " + head.path().substr(0, 200) + " here; the API begins with /v1");
}

Service::Service(ServiceOptions options)
    : options_(std::move(options)),
      access_(options_.access),
      metrics_(options_.model),
      created_(unix_seconds()) {}

Service::~Service() { stop(); }

void Service::serve(const Engine& engine, EngineLoop& loop) {
  engine_ = &engine;
  loop_ = &loop;
  computation_ = computation_of(engine);
  compute_threads_ = threads();
  grammars_ = std::make_unique<GrammarCompiler>(engine.tokenizer());
  loop.behind_each_step([this] { look_for_room(); });
  phase_ = Phase::serving;
}

void Service::stop() { work_.stop(); }

void Service::look_for_room() { work_.set_room(loop_->pixel_bytes() < options_.pixel_bytes); }

void Service::check_phase(const Route& route) const {
  if (!route.wants_model || phase_ == Phase::serving) return;
  if (phase_ == Phase::loading) throw unavailable("loading", "the model is being loaded");
  throw unavailable("shutting_down", "the server is shutting down");
}

ExchangeInfo Service::info_of(const HttpHead& head, const std::string& path) const {
  ExchangeInfo info;
  const std::string* sent = head.header("x-request-id");
  info.id = sent != nullptr && is_plain_id(*sent) ? *sent : random_name();
  info.path = path;
  info.key = Access::key_of(head);
  info.headers = access_.cors_headers(head);
  info.headers.emplace_back("x-request-id", info.id);
  info.log = options_.log_requests;
  return info;
}

std::optional<HttpResponse> Service::answer_early(const HttpHead& head) {
  std::string path = kUnknownPath;
  HttpResponse response;
  try {
    access_.check_origin(head);
    if (head.method == "OPTIONS") {
      response = access_.preflight(head);
    } else {
      const Route& route = route_of(head);
      path = route.path;
      if (head.method == "POST") Access::check_content_type(head);
      check_phase(route);
      if (!route.takes_a_seat || seats_taken_ < options_.max_requests) return std::nullopt;
      metrics_.count_rejection();
      throw unavailable("queue_full", "too many requests wait");
    }
  } catch (const HttpProblem& problem) {
    response = problem_response(problem);
  }
  const ExchangeInfo info = info_of(head, path);
  response.headers.insert(response.headers.end(), info.headers.begin(), info.headers.end());
  // Names that clients make up would be counted without end.
  const bool is_usual =
      head.method == "GET" || head.method == "POST" || head.method == "HEAD" || head.method == "OPTIONS";
  metrics_.count_response(is_usual ? head.method : kUnknownPath, path, response.status);
  if (options_.log_requests && options_.log) {
    options_.log(log_line("refused", {{"request_id", info.id},
                                      {"peer", head.peer},
                                      {"method", head.method},
                                      {"path", path},
                                      {"status", response.status}}));
  }
  return response;
}

HttpResponse Service::refusal(int status, const std::string& words) {
  metrics_.count_response("unread", kUnknownPath, status);
  if (status == 503) return problem_response(unavailable("busy", words));
  if (status == 500) return problem_response(HttpProblem(500, "server_error", "lost", words));
  return problem_response(bad_request(status, "bad_request", words));
}

Seat Service::take_seats(int64_t count) {
  int64_t taken = seats_taken_;
  do {
    if (taken + count > options_.max_requests) {
      metrics_.count_rejection();
      throw unavailable("queue_full", "too many requests wait");
    }
  } while (!seats_taken_.compare_exchange_weak(taken, taken + count));
  return {this, [this, count](void*) { seats_taken_ -= count; }};
}

void Service::handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer) {
  bool path_known = false;
  const Route* route = find_route(request.head, path_known);  // answer_early() knew it
  const auto exchange = std::make_shared<Exchange>(request.head, info_of(request.head, route->path),
                                                   std::move(writer), metrics_, options_.log);
  try {
    const std::string path = route->path;
    if (path == kHealth) return answer_health(exchange);
    if (path == kVersion) return answer_version(exchange);
    if (path == kPage) return exchange->respond(*page_response(request.head.path()));
    if (path == kMetrics) return answer_metrics(exchange);
    if (route->work == nullptr) return answer_models(exchange, request.head);
    const auto job = std::make_shared<Job>();
    job->exchange = exchange;
    job->body = std::move(request.body);
    if (route->takes_a_seat) job->seats.push_back(take_seats(1));
    exchange->watch([this] {
      if (loop_ != nullptr) loop_->wake();
    });
    run(job, WorkQueue::Kind::light, [this, job, work = route->work] { (this->*work)(job); });
  } catch (...) {
    exchange->respond(problem_response(std::current_exception()));
  }
}

void Service::answer_health(const ExchangePtr& exchange) const {
  if (phase_ == Phase::serving) return exchange->respond({{"status", "ok"}});
  const bool loading = phase_ == Phase::loading;
  exchange->respond(
      problem_response(unavailable(loading ? "loading" : "shutting_down",
                                   loading ? "the model is being loaded" : "the server is shutting down")));
}

void Service::answer_version(const ExchangePtr& exchange) const {
  ordered_json answer = options_.version;
  if (phase_ != Phase::loading) answer.update(computation_);
  exchange->respond(answer);
}

void Service::answer_models(const ExchangePtr& exchange, const HttpHead& head) const {
  ordered_json model = {
      {"id", options_.model}, {"object", "model"}, {"created", created_}, {"owned_by", "fovea"}};
  if (phase_ != Phase::loading) {
    model["max_model_len"] = engine_->checkpoint().config().text.max_position_embeddings;
  }
  const std::string path = head.path();
  if (path == kModels) {
    ordered_json list = ordered_json::array();
    list.push_back(std::move(model));
    return exchange->respond({{"object", "list"}, {"data", std::move(list)}});
  }
  const std::string name = path.substr(std::string(Route::kModel).size());
  if (name != options_.model) throw no_such_model(name);
  exchange->respond(model);
}

void Service::answer_metrics(const ExchangePtr& exchange) const {
  const bool loaded = phase_ != Phase::loading;
  const BatchMetrics batch = loaded ? loop_->metrics() : BatchMetrics();
  int64_t with_engine = 0;
  for (int state = 0; state < static_cast<int>(RequestState::done); ++state) {
    with_engine += batch.schedule.in_state[state];
  }
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = metrics_.text(batch, std::max<int64_t>(seats_taken_ - with_engine, 0),
                                connections_ ? connections_() : 0);
  exchange->respond(std::move(response));
}

// Work whose failure is the answer; none for a client that is gone.
void Service::run(const JobPtr& job, WorkQueue::Kind kind, std::function<void()> work) {
  work_.post(kind, [job, work = std::move(work)] {
    if (job->exchange->gone()) return;
    try {
      work();
    } catch (...) {
      job->exchange->respond(problem_response(std::current_exception()));
    }
  });
}

void Service::check_model(const std::string& model) const {
  if (!model.empty() && model != options_.model) throw no_such_model(model);
}

// What follows may decode the pictures of the messages, once they are here.
void Service::with_media(const JobPtr& job, std::shared_ptr<std::vector<Message>> messages,
                         std::function<void()> then) {
  limit_media(*messages, options_.limit_images);
  const MediaCount media = count_media(*messages);
  if (media.sources == 0) return then();
  const auto decode = [this, then = std::move(then)] {
    set_threads(compute_threads_);
    then();
  };
  if (media.network == 0) return run(job, WorkQueue::Kind::decoding, decode);
  run(job, WorkQueue::Kind::fetching, [this, job, messages, decode] {
    fetch_media(*messages, options_.fetch);
    run(job, WorkQueue::Kind::decoding, decode);
  });
}

void Service::tokenize(const JobPtr& job) {
  const auto request =
      std::make_shared<TokenizeRequest>(parse_tokenize_request(*job->body, options_.sources));
  job->body.reset();
  check_model(request->model);
  const auto messages = std::make_shared<std::vector<Message>>(std::move(request->messages));
  with_media(job, messages, [this, job, request, messages] {
    const std::vector<int32_t> ids =
        messages->empty() ? engine_->tokenizer().encode(request->text)
                          : engine_->measure(*messages, options_.pictures, options_.add_vision_id).ids;
    ordered_json answer = {{"count", ids.size()}};
    answer["max_model_len"] = engine_->checkpoint().config().text.max_position_embeddings;
    answer["tokens"] = ids;
    answer["token_strs"] = nullptr;
    if (request->with_pieces) {
      ordered_json pieces = ordered_json::array();
      for (const int32_t id : ids) pieces.push_back(std::string(engine_->tokenizer().token_bytes(id)));
      answer["token_strs"] = std::move(pieces);
    }
    job->exchange->respond(answer);
  });
}

void Service::detokenize(const JobPtr& job) {
  const DetokenizeRequest request = parse_detokenize_request(*job->body);
  check_model(request.model);
  const std::string text = engine_->tokenizer().decode(request.tokens, false);
  job->exchange->respond({{"prompt", text}, {"content", text}});
}

void Service::count_input(const JobPtr& job) {
  ChatRequest request = parse_chat_request(*job->body, options_.sources);
  job->body.reset();
  check_model(request.model);
  const auto messages = std::make_shared<std::vector<Message>>(std::move(request.messages));
  with_media(job, messages, [this, job, messages] {
    const MeasuredPrompt prompt = engine_->measure(*messages, options_.pictures, options_.add_vision_id);
    ordered_json answer = {{"object", "response.input_tokens"}, {"input_tokens", prompt.ids.size()}};
    answer["pictures"] =
        geometry_of(prompt.pictures, engine_->checkpoint().config().vision.spatial_merge_size);
    job->exchange->respond(answer);
  });
}

GenerationOptions Service::options_for(const AnswerFields& fields, uint64_t seed, int64_t choice) const {
  AnswerFields seeded;
  const AnswerFields* stated = &fields;
  if (!fields.seed) {
    seeded = fields;
    seeded.seed = seed;
    stated = &seeded;
  }
  return generation_options(*stated, engine_->default_generation(), choice);
}

void Service::chat(const JobPtr& job) {
  const auto request = std::make_shared<ChatRequest>(parse_chat_request(*job->body, options_.sources));
  job->body.reset();
  check_model(request->model);
  grammar_of(request->form, *grammars_);  // what is wrong with a schema is said before pictures are decoded
  if (request->n > 1) job->seats.push_back(take_seats(request->n - 1));
  const auto messages = std::make_shared<std::vector<Message>>(std::move(request->messages));
  with_media(job, messages, [this, job, request, messages] {
    const GenerationOptions options = options_for(*request, 0, 0);
    const bool media = count_media(*messages).sources > 0;
    // With pictures the room is looked at before they are made patches.
    const PromptCheck check = [&](int64_t tokens, std::span<const Picture>, std::span<const MediaOptions>) {
      loop_->require_room(tokens, options);
    };
    std::vector<Prompt> prompts;
    prompts.push_back(engine_->prepare(*messages, options_.pictures, options_.add_vision_id,
                                       media ? check : PromptCheck()));
    for (const std::string& warning : prompts.front().warnings) {
      if (std::ranges::find(request->warnings, warning) == request->warnings.end()) {
        request->warnings.push_back(warning);
      }
    }
    submit(job, *request, &*request, std::move(prompts));
  });
}

void Service::complete(const JobPtr& job) {
  const CompletionRequest request = parse_completion_request(*job->body);
  job->body.reset();
  check_model(request.model);
  const int64_t choices = request.n * std::ssize(request.prompts);
  if (choices > 1) job->seats.push_back(take_seats(choices - 1));
  std::vector<Prompt> prompts;
  for (const TextOrIds& prompt : request.prompts) {
    prompts.push_back(std::holds_alternative<std::string>(prompt)
                          ? engine_->prepare_text(std::get<std::string>(prompt))
                          : engine_->prepare_ids(std::get<std::vector<int32_t>>(prompt)));
  }
  submit(job, request, nullptr, std::move(prompts));
}

void Service::submit(const JobPtr& job, const AnswerFields& fields, const ChatRequest* chat,
                     std::vector<Prompt> prompts) {
  Generation generation;
  AnswerPlan form;
  form.head = {(chat != nullptr ? "chatcmpl-" : "cmpl-") + job->exchange->id(), unix_seconds(),
               options_.model};
  form.chat = chat != nullptr;
  form.calls_tools = chat != nullptr && !chat->tools.empty();
  form.stream = fields.stream;
  form.include_usage = fields.include_usage;
  form.logprobs = fields.logprobs;
  form.top_logprobs = fields.top_logprobs;
  form.choices = static_cast<size_t>(fields.n) * prompts.size();
  form.warnings = fields.warnings;
  const uint64_t seed = random_seed();
  for (int64_t choice = 0; choice < fields.n; ++choice) {
    generation.options.push_back(options_for(fields, seed, choice));
    if (chat != nullptr) constrain(generation.options.back(), grammar_of(chat->form, *grammars_));
  }
  for (const Prompt& prompt : prompts) {
    form.prompt_tokens += std::ssize(prompt.ids);
    loop_->require_room(std::ssize(prompt.ids), generation.options.front());
  }
  job->exchange->note("stream", fields.stream);
  job->exchange->note("answers", form.choices);
  generation.prompts = std::move(prompts);
  generation.cache_space = spaces_.of(job->exchange->key(), fields.cache_salt);
  generation.sink = std::make_shared<AnswerWriter>(job->exchange, std::move(form), engine_->tokenizer(),
                                                   metrics_, std::move(job->seats));
  loop_->submit(std::move(generation));
  look_for_room();
}

}  // namespace fovea
