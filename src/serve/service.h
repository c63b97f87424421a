// What the server answers: routes, who may use them, and the life of a request from its head to its last
// token.
#pragma once

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "api/answer_fields.h"
#include "api/chat_request.h"
#include "api/source_rules.h"
#include "runtime/engine.h"
#include "serve/access.h"
#include "serve/answer_writer.h"
#include "serve/engine_loop.h"
#include "serve/exchange.h"
#include "serve/http_server.h"
#include "serve/https_fetch.h"
#include "serve/metrics.h"
#include "serve/work_queue.h"

namespace fovea {

struct ServiceOptions {
  std::string model;               // the name under which it is served
  nlohmann::ordered_json version;  // what /version answers
  AccessRules access;
  SourceRules sources;  // of pictures; its domains are fetched by `fetch`
  FetchRules fetch;
  int64_t limit_images = 999;  // pictures, videos and frames of a request
  MediaLimits pictures;
  bool add_vision_id = false;
  int64_t max_requests = 1040;               // answers under way, those that wait included; more are refused
  int64_t pixel_bytes = kVisionBudgetBytes;  // of pictures that wait to be encoded; then decoding waits
  bool log_requests = false;
  LogFn log;
};

class Service final : public HttpHandler {
 public:
  explicit Service(ServiceOptions options);
  ~Service() override;

  // Until then everything that wants the model is refused (503). Both are borrowed until stop(). Called by
  // the thread that computes; pictures are decoded on as many threads as it has.
  void serve(const Engine& engine, EngineLoop& loop);
  // From now on nothing new is taken.
  void drain() { phase_ = Phase::draining; }
  // Answers under way, and those that wait.
  int64_t requests() const { return seats_taken_; }
  const std::string& model() const { return options_.model; }
  // Ends the threads that prepare requests; those not begun get no answer but a 500.
  void stop();
  // How many connections are open, for /metrics.
  void count_connections(std::function<int64_t()> count) { connections_ = std::move(count); }

  std::optional<HttpResponse> answer_early(const HttpHead& head) override;
  void handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer) override;
  HttpResponse refusal(int status, const std::string& words) override;

 private:
  enum class Phase { loading, serving, draining };
  struct Route;
  struct Job;
  using JobPtr = std::shared_ptr<Job>;
  using ExchangePtr = std::shared_ptr<Exchange>;

  static const Route* find_route(const HttpHead& head, bool& path_known);
  const Route& route_of(const HttpHead& head) const;
  void check_phase(const Route& route) const;
  ExchangeInfo info_of(const HttpHead& head, const std::string& path) const;
  Seat take_seats(int64_t count);

  void answer_health(const ExchangePtr& exchange) const;
  void answer_version(const ExchangePtr& exchange) const;
  void answer_models(const ExchangePtr& exchange, const HttpHead& head) const;
  void answer_metrics(const ExchangePtr& exchange) const;
  void tokenize(const JobPtr& job);
  void detokenize(const JobPtr& job);
  void count_input(const JobPtr& job);
  void chat(const JobPtr& job);
  void complete(const JobPtr& job);

  void run(const JobPtr& job, WorkQueue::Kind kind, std::function<void()> work);
  void with_media(const JobPtr& job, std::shared_ptr<std::vector<Message>> messages,
                  std::function<void()> then);
  void look_for_room();
  void check_model(const std::string& model) const;
  GenerationOptions options_for(const AnswerFields& fields, uint64_t seed, int64_t choice) const;
  // `chat`: null for a completion.
  void submit(const JobPtr& job, const AnswerFields& fields, const ChatRequest* chat,
              std::vector<Prompt> prompts);

  ServiceOptions options_;
  Access access_;
  Metrics metrics_;
  CacheSpaces spaces_;
  int64_t created_;
  std::atomic<Phase> phase_{Phase::loading};
  std::atomic<int64_t> seats_taken_{0};
  int compute_threads_ = 1;
  nlohmann::ordered_json computation_;  // as are these: not looked at before the model is there
  const Engine* engine_ = nullptr;
  EngineLoop* loop_ = nullptr;
  std::unique_ptr<GrammarCompiler> grammars_;
  std::function<int64_t()> connections_;
  WorkQueue work_{4};
};

}  // namespace fovea
