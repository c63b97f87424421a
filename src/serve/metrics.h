// What happened so far, as Prometheus reads it (text format 0.0.4), in vLLM's names under "fovea:".
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "runtime/batch_engine.h"

namespace fovea {

class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}
  void add(double value);
  void append_to(std::string& text, const std::string& name, const std::string& label) const;

 private:
  std::span<const double> bounds_;
  std::vector<int64_t> counts_;
  double sum_ = 0;
};

// Of one answer, in seconds; -1: it did not come so far.
struct AnswerTimes {
  double queue = -1, prefill = -1, first_token = -1, decode = -1, whole = -1;
};

// From any thread.
class Metrics {
 public:
  explicit Metrics(const std::string& model);

  void count_response(const std::string& method, const std::string& path, int status);
  void count_rejection();  // for want of room
  void add_prompt(int64_t tokens, int64_t cached);
  void add_tokens(int64_t count);
  void add_gap(double seconds);  // between two tokens of an answer
  void add_answer(const std::string& finish_reason, const AnswerTimes& times);

  // `batch`: the engine's own counters; `waiting`: requests that are not with the engine yet.
  std::string text(const BatchMetrics& batch, int64_t waiting, int64_t connections) const;

 private:
  std::string label_;
  mutable std::mutex mutex_;
  std::map<std::tuple<std::string, std::string, int>, int64_t> responses_;
  std::map<std::string, int64_t> answers_;
  int64_t rejections_ = 0, prompt_tokens_ = 0, cached_tokens_ = 0, generated_tokens_ = 0;
  Histogram first_token_, gap_, whole_, queue_, prefill_, decode_;
};

}  // namespace fovea
