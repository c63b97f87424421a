// Goal: /metrics is what Prometheus reads: each name announced once, histograms that add up, values that are
// right. Method: known events; the text read back line by line.
#include "serve/metrics.h"

#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>
#include <sstream>

namespace fovea {
namespace {

std::map<std::string, double> values_in(const std::string& text) {
  static const std::regex kSample(R"((fovea:[a-z0-9_]+)\{(([a-z_]+="[^"\n]*",?)+)\} ([0-9.e+-]+))");
  static const std::regex kComment(R"(# (HELP|TYPE) (fovea:[a-z0-9_]+) .+)");
  std::map<std::string, double> values;
  std::set<std::string> announced;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_match(line, match, kComment)) {
      EXPECT_TRUE(announced.insert(match[1].str() + match[2].str()).second) << line;
    } else if (std::regex_match(line, match, kSample)) {
      EXPECT_TRUE(values.emplace(match[1].str() + "{" + match[2].str() + "}", std::stod(match[4])).second)
          << line;
      const std::string family = std::regex_replace(match[1].str(), std::regex("_(bucket|sum|count)$"), "");
      EXPECT_TRUE(announced.contains("TYPE" + family) || announced.contains("TYPE" + match[1].str())) << line;
    } else {
      ADD_FAILURE() << line;
    }
  }
  return values;
}

TEST(Metrics, SayWhatHappened) {
  Metrics metrics("model");
  metrics.count_response("POST", "/v1/chat/completions", 200);
  metrics.count_response("POST", "/v1/chat/completions", 200);
  metrics.count_rejection();
  metrics.add_prompt(100, 64);
  metrics.add_tokens(3);
  metrics.add_gap(0.25);
  metrics.add_gap(1000);
  metrics.add_answer("stop",
                     {.queue = 0.05, .prefill = 0.15, .first_token = 0.2, .decode = 1.25, .whole = 1.5});
  metrics.add_answer("cancelled", {});
  BatchMetrics batch;
  batch.schedule.in_state[static_cast<int>(RequestState::decode)] = 2;
  batch.schedule.in_state[static_cast<int>(RequestState::queued)] = 3;
  batch.schedule.used_blocks = 5;
  batch.blocks = 20;
  batch.pictures_encoded = 4;
  batch.picture_hits = 6;
  const auto values = values_in(metrics.text(batch, 1, 7));
  const auto value = [&](const std::string& name, const std::string& more = "") {
    for (const auto& [key, number] : values) {
      if (key.starts_with("fovea:" + name + "{") && key.find(more) != key.npos) return number;
    }
    return -1.0;
  };
  EXPECT_EQ(value("num_requests_running"), 2);
  EXPECT_EQ(value("num_requests_waiting"), 4);
  EXPECT_EQ(value("kv_cache_usage_perc"), 0.25);
  EXPECT_EQ(value("http_connections"), 7);
  EXPECT_EQ(value("prompt_tokens_total"), 100);
  EXPECT_EQ(value("prefix_cache_hits_total"), 64);
  EXPECT_EQ(value("mm_cache_queries_total"), 10);
  EXPECT_EQ(value("mm_cache_hits_total"), 6);
  EXPECT_EQ(value("generation_tokens_total"), 3);
  EXPECT_EQ(value("admission_rejections_total"), 1);
  EXPECT_EQ(value("http_responses_total", "status=\"200\""), 2);
  EXPECT_EQ(value("request_success_total", "finished_reason=\"stop\""), 1);
  EXPECT_EQ(value("inter_token_latency_seconds_bucket", "le=\"0.2\""), 0);
  EXPECT_EQ(value("inter_token_latency_seconds_bucket", "le=\"0.3\""), 1);
  EXPECT_EQ(value("inter_token_latency_seconds_bucket", "le=\"10\""), 1);
  EXPECT_EQ(value("inter_token_latency_seconds_bucket", "le=\"+Inf\""), 2);
  EXPECT_EQ(value("inter_token_latency_seconds_count"), 2);
  EXPECT_EQ(value("inter_token_latency_seconds_sum"), 1000.25);
  EXPECT_EQ(value("time_to_first_token_seconds_count"), 1);  // the cancelled one had none
  EXPECT_EQ(value("e2e_request_latency_seconds_sum"), 1.5);
}

}  // namespace
}  // namespace fovea
