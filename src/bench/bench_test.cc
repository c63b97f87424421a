// Goal: the benchmark measures what it says it measures. Method: one small part of every kind is run (each
// checks its own result before it is timed), and the figures must fit each other; shares are shares.
#include "bench/bench.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/error.h"

namespace fovea::bench {
namespace {

TEST(Bench, PatternsSelectByTextAndByWildcard) {
  EXPECT_TRUE(selects("", "linear.bf16.down"));
  EXPECT_TRUE(selects("bf16", "linear.bf16.down"));
  EXPECT_TRUE(selects("attention.causal.*", "attention.causal.8192"));
  EXPECT_TRUE(selects("*.down", "linear.bf16.down"));
  EXPECT_FALSE(selects("*.down", "linear.bf16.downward"));
  EXPECT_FALSE(selects("prefill", "decode.512.bf16"));
}

TEST(Bench, NamesAreUnique) {
  const std::vector<std::string> names = bench_names();
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  for (const char* name :
       {"linear.bf16", "linear.decode.8.int4", "attention.causal.8192", "attention.vision.window",
        "prefill.512.bf16", "vision.1344.bf16", "decode.512.bf16"}) {
    EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
  }
}

TEST(Bench, ASmallPartOfEveryKind) {
  for (const char* name : {"linear.bf16.attention_o", "attention.causal.256", "attention.decode.2048",
                           "rms_norm", "preprocess.12mp"}) {
    BenchOptions options;
    options.only = name;
    options.repetitions = 2;
    int64_t reported = 0;
    options.progress = [&](std::string_view, int64_t done, int64_t) { reported = done; };
    const BenchReport report = run_bench(options);
    ASSERT_FALSE(report.results.empty()) << name;
    EXPECT_TRUE(report.complete);
    EXPECT_EQ(reported, std::ssize(report.results));
    const Result& result = report.results.front();
    EXPECT_EQ(result.name, name);
    EXPECT_GT(result.median_s, 0);
    EXPECT_GT(result.rate, 0);
    EXPECT_GE(result.spread, 0);
    EXPECT_GT(result.share, 0) << name;
    const Limits& l = report.limits;
    EXPECT_GT(l.read_gbps, 0);
    EXPECT_GT(l.int8_gops, 0);
    // A multiplication rate is a limit: the largest probe of the run is not surpassed by more than its own
    // noise.
    if (result.unit != "GFLOP/s") continue;
    EXPECT_LT(result.rate, 1.2 * std::max(l.bf16_gflops, l.fp32_gflops)) << name;
  }
}

TEST(Bench, WhatSelectsNothingIsRefused) {
  BenchOptions options;
  options.only = "no such name";
  EXPECT_THROW(run_bench(options), Error);
  options.only = "prefill";  // needs a model
  EXPECT_THROW(run_bench(options), Error);
}

TEST(Bench, CancelEndsIt) {
  const std::atomic<bool> cancel = true;
  BenchOptions options;
  options.only = "rms_norm";
  options.cancel = &cancel;
  const BenchReport report = run_bench(options);
  EXPECT_FALSE(report.complete);
  EXPECT_TRUE(report.results.empty());
}

}  // namespace
}  // namespace fovea::bench
