#include "serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>

namespace fovea {
namespace {

// vLLM's, with more of the long ones, for prompts with pictures take their time on CPUs.
constexpr double kFirstToken[] = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1,   2.5,
                                  5,    10,    20,   40,  80,   160, 320,  640, 1280};
constexpr double kGap[] = {0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,
                           0.3,   0.4,  0.5,   0.75, 1,     2.5, 5,    10};
constexpr double kRequest[] = {0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560};

std::string escaped(const std::string& value) {
  std::string text;
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    text += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return text;
}

class Page {
 public:
  explicit Page(const std::string& label) : label_(label) {}
  void gauge(const char* name, double value, const char* what) { one(name, "gauge", value, what); }
  void counter(const char* name, int64_t value, const char* what) {
    one(name, "counter", static_cast<double>(value), what);
  }
  void head(const std::string& name, const char* type, const char* what) {
    text += fmt::format("# HELP {0} {2}\n# TYPE {0} {1}\n", name, type, what);
  }
  void histogram(const char* name, const Histogram& histogram, const char* what) {
    const std::string whole = full(name);
    head(whole, "histogram", what);
    histogram.append_to(text, whole, label_);
  }
  static std::string full(const char* name) { return std::string("fovea:") + name; }

  std::string text;

 private:
  void one(const char* name, const char* type, double value, const char* what) {
    head(full(name), type, what);
    text += fmt::format("{}{{{}}} {}\n", full(name), label_, value);
  }
  const std::string& label_;
};

void add_if_known(Histogram& histogram, double seconds) {
  if (seconds >= 0) histogram.add(seconds);
}

}  // namespace

void Histogram::add(double value) {
  const auto bucket = std::ranges::lower_bound(bounds_, value) - bounds_.begin();
  ++counts_[static_cast<size_t>(bucket)];
  sum_ += value;
}

void Histogram::append_to(std::string& text, const std::string& name, const std::string& label) const {
  int64_t below = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    below += counts_[i];
    const std::string bound = i < bounds_.size() ? fmt::format("{}", bounds_[i]) : "+Inf";
    text += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", name, label, bound, below);
  }
  text += fmt::format("{0}_sum{{{1}}} {2}\n{0}_count{{{1}}} {3}\n", name, label, sum_, below);
}

Metrics::Metrics(const std::string& model)
    : label_(fmt::format("model_name=\"{}\"", escaped(model))),
      first_token_(kFirstToken),
      gap_(kGap),
      whole_(kRequest),
      queue_(kRequest),
      prefill_(kRequest),
      decode_(kRequest) {}

void Metrics::count_response(const std::string& method, const std::string& path, int status) {
  const std::lock_guard lock(mutex_);
  ++responses_[{method, path, status}];
}

void Metrics::count_rejection() {
  const std::lock_guard lock(mutex_);
  ++rejections_;
}

void Metrics::add_prompt(int64_t tokens, int64_t cached) {
  const std::lock_guard lock(mutex_);
  prompt_tokens_ += tokens;
  cached_tokens_ += cached;
}

void Metrics::add_tokens(int64_t count) {
  const std::lock_guard lock(mutex_);
  generated_tokens_ += count;
}

void Metrics::add_gap(double seconds) {
  const std::lock_guard lock(mutex_);
  gap_.add(seconds);
}

void Metrics::add_answer(const std::string& finish_reason, const AnswerTimes& times) {
  const std::lock_guard lock(mutex_);
  ++answers_[finish_reason];
  add_if_known(first_token_, times.first_token);
  add_if_known(queue_, times.queue);
  add_if_known(prefill_, times.prefill);
  add_if_known(decode_, times.decode);
  add_if_known(whole_, times.whole);
}

std::string Metrics::text(const BatchMetrics& batch, int64_t waiting, int64_t connections) const {
  const SchedulerMetrics& s = batch.schedule;
  const auto in = [&](std::initializer_list<RequestState> states) {
    int64_t count = 0;
    for (const RequestState state : states) count += s.in(state);
    return static_cast<double>(count);
  };
  const std::lock_guard lock(mutex_);
  Page page(label_);
  page.gauge("num_requests_running", in({RequestState::prefill, RequestState::decode}), "Requests that run");
  page.gauge("num_requests_waiting",
             static_cast<double>(waiting) + in({RequestState::queued, RequestState::vision,
                                                RequestState::twin, RequestState::preempted}),
             "Requests that wait");
  page.gauge("kv_cache_usage_perc",
             static_cast<double>(s.used_blocks) / std::max<double>(1, static_cast<double>(batch.blocks)),
             "Part of the blocks of keys and values that requests hold, 1: all");
  page.gauge("http_connections", static_cast<double>(connections), "Connections that are open");
  page.counter("prompt_tokens_total", prompt_tokens_, "Tokens of prompts");
  page.counter("prompt_tokens_cached_total", cached_tokens_, "Tokens of prompts that were known already");
  page.counter("prefix_cache_queries_total", prompt_tokens_,
               "Tokens that were looked for in the prefix cache");
  page.counter("prefix_cache_hits_total", cached_tokens_, "Tokens that were found in it");
  page.counter("mm_cache_queries_total", batch.pictures_encoded + batch.picture_hits,
               "Pictures that were looked for");
  page.counter("mm_cache_hits_total", batch.picture_hits, "Pictures whose embeddings were found");
  page.counter("generation_tokens_total", generated_tokens_, "Tokens of answers");
  page.counter("num_preemptions_total", s.preemptions, "Requests that gave their blocks to older ones");
  page.counter("iterations_total", batch.steps, "Steps of the engine");
  page.counter("iteration_tokens_total", batch.rows, "Rows that steps computed");
  page.counter("admission_rejections_total", rejections_, "Requests refused for want of room");
  page.head("fovea:request_success_total", "counter", "Answers by the reason for which they ended");
  for (const auto& [reason, count] : answers_) {
    page.text +=
        fmt::format("fovea:request_success_total{{{},finished_reason=\"{}\"}} {}\n", label_, reason, count);
  }
  page.head("fovea:http_responses_total", "counter", "Responses by path and status");
  for (const auto& [what, count] : responses_) {
    const auto& [method, path, status] = what;
    page.text += fmt::format("fovea:http_responses_total{{{},method=\"{}\",path=\"{}\",status=\"{}\"}} {}\n",
                             label_, method, path, status, count);
  }
  page.histogram("time_to_first_token_seconds", first_token_, "From a request's arrival to its first token");
  page.histogram("inter_token_latency_seconds", gap_, "Between two tokens of an answer");
  page.histogram("e2e_request_latency_seconds", whole_, "From a request's arrival to its answer's end");
  page.histogram("request_queue_time_seconds", queue_, "From a request's arrival to its first row");
  page.histogram("request_prefill_time_seconds", prefill_, "From its first row to its first token");
  page.histogram("request_decode_time_seconds", decode_, "From its first token to its last");
  return page.text;
}

}  // namespace fovea
