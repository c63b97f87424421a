// Goal: with keys and values on disk every token and logit is what it is with those in memory, bit for bit,
// whatever part of them, chunk, attention and storage; the planner says what stays in memory, and a disk that
// cannot take them is named. Method: golden checkpoints and the demo model, equality.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/scratch_file_testing.h"
#include "plan/plan.h"
#include "request_testing.h"
#include "runtime/session.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

const fs::path kGoldens = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden";
const fs::path kDemo = fs::path(FOVEA_SOURCE_DIR) / "models" / "fovea-demo";

Prompt ask(const Engine& engine) {
  const fs::path inputs = kGoldens / "two_images" / "inputs";
  return engine.prepare(messages_from_prompt("Compare <image> with <image>, and say it twice: compare it.",
                                             {inputs / "image0.png", inputs / "image1.png"}, {}, {}),
                        {}, false);
}

GenerationOptions greedy(const Engine& engine, int64_t chunk) {
  GenerationOptions options = engine.default_generation();
  options.sampling.greedy = true;
  options.ignore_eos = true;
  options.max_new_tokens = 70;  // beyond a page
  options.prefill_chunk = chunk;
  return options;
}

TEST(KvOffload, EveryNumberIsTheSame) {
  if (!disk_here()) GTEST_SKIP() << "the working folder lies in memory";
  for (const auto& [model, policy] :
       {std::pair(kGoldens / "two_images", ""), std::pair(kGoldens / "two_images", "preset=eager-fp16"),
        std::pair(kDemo, "preset=sdpa"),
        std::pair(kDemo, "text.k_cache=int8,text.v_cache=int8,text.bias_split=on")}) {
    EngineOptions options{.policy = PrecisionPolicy::parse_text(policy)};
    const Engine memory = Engine::open(model, options, {});
    const Prompt prompt = ask(memory);
    const Evaluation expected = memory.evaluate(prompt, 16, {});
    const Answer answer = memory.generate(prompt, greedy(memory, 16), {});
    EXPECT_EQ(answer.kv_cache.layers_on_disk, 0);
    const int64_t all = answer.kv_cache.bytes;
    for (const int64_t limit : {int64_t{0}, all - 1, all}) {
      options.kv_offload = KvOffload{".", limit};
      const Engine disk = memory.with(options);
      for (const int64_t chunk : {0, 7, 100}) {
        expect_equal(disk.evaluate(prompt, chunk, {}).logits, expected.logits);
        const Answer same = disk.generate(prompt, greedy(disk, chunk), {});
        EXPECT_EQ(same.token_ids, answer.token_ids) << model << " " << policy << " " << limit << " " << chunk;
        EXPECT_EQ(same.kv_cache.layers_on_disk > 0, limit < all);
      }
      GenerationOptions uncached = greedy(disk, 16);
      uncached.use_kv_cache = false;
      uncached.max_new_tokens = 5;
      const std::vector<int32_t> five(answer.token_ids.begin(), answer.token_ids.begin() + 5);
      EXPECT_EQ(disk.generate(prompt, uncached, {}).token_ids, five);
    }
  }
}

TEST(KvOffload, SessionsMayGoBack) {
  if (!disk_here()) GTEST_SKIP() << "the working folder lies in memory";
  const Engine memory = Engine::open(kDemo, {}, {});
  EngineOptions options;
  options.kv_offload = KvOffload{".", 0};
  const Engine disk = memory.with(options);
  const Prompt prompt = ask(memory);
  const Buffer<float> vision = memory.encode(prompt, {});
  Session kept(memory, prompt, vision, greedy(memory, 16), {}),
      moved(disk, prompt, vision, greedy(disk, 16), {});
  const std::vector<int32_t> tokens = kept.continue_greedily({}, {});
  EXPECT_EQ(moved.continue_greedily({}, {}), tokens);
  for (const size_t count : {40, 3, 25}) {
    const auto forced = std::span(tokens).first(count);
    expect_equal(moved.forced_logits(forced), kept.forced_logits(forced));
  }
}

TEST(KvOffload, AnInterruptedRequestLeavesTheEngineUsable) {
  if (!disk_here()) GTEST_SKIP() << "the working folder lies in memory";
  const Engine engine = Engine::open(kDemo, {.kv_offload = KvOffload{".", 0}}, {});
  const Prompt prompt = ask(engine);
  expect_usable_after_an_interrupt(engine, prompt, greedy(engine, 16));
}

TEST(KvOffload, ThePlanSendsNoMoreToDiskThanMustBe) {
  const Engine engine = Engine::open(kDemo, {}, {});
  PlanRequest request;
  request.text_tokens = 8000;
  const auto planned = [&] { return make_plan(engine.checkpoint(), engine.precision(), request); };
  const Plan all = planned();
  EXPECT_FALSE(all.kv_limit);
  request.kv_offload = true;
  const Plan least = planned();  // two buffers of three layers
  EXPECT_EQ(least.kv_disk, all.kv_cache);
  EXPECT_EQ(least.kv_cache, all.kv_cache * 2 / 3);
  request.ram = all.peak();
  EXPECT_FALSE(planned().kv_limit);
  request.ram = all.peak() - 1;
  const Plan some = planned();
  EXPECT_TRUE(some.kv_limit);
  EXPECT_GT(some.kv_disk, 0);
}

struct Output {
  int code;
  std::string text;  // both streams
};

Output shell(const std::string& command) {
  Output output;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  for (int c = 0; (c = std::fgetc(pipe)) != EOF;) output.text.push_back(static_cast<char>(c));
  const int status = pclose(pipe);
  output.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return output;
}

const std::string kRun = fmt::format("{} run -m {} --greedy --ignore-eos --max-new-tokens 4 --json ",
                                     FOVEA_PROGRAM, kDemo.string());

TEST(KvOffloadProgram, SaysWhatLiesWhere) {
  if (!disk_here()) GTEST_SKIP() << "the working folder lies in memory";
  const auto plain = nlohmann::json::parse(shell(kRun + "hello").text),
             moved = nlohmann::json::parse(shell(kRun + "--kv-offload --kv-offload-dir . hello").text);
  EXPECT_EQ(plain["token_ids"], moved["token_ids"]);
  EXPECT_EQ(plain["kv_cache"]["layers_on_disk"], 0);
  EXPECT_EQ(moved["kv_cache"]["layers_on_disk"], 3);
  EXPECT_EQ(moved["kv_cache"]["disk_bytes"], plain["kv_cache"]["bytes"]);
  EXPECT_GT(moved["kv_cache"]["written_bytes"].get<int64_t>(), 0);
}

TEST(KvOffloadProgram, ADiskThatCannotTakeThemIsNamed) {
  if (!disk_here()) GTEST_SKIP() << "the working folder lies in memory";
  const auto expect_refused = [](const std::string& command, const std::vector<std::string>& words) {
    const Output output = shell(command);
    EXPECT_EQ(output.code, 1) << output.text;
    for (const std::string& word : words) {
      EXPECT_NE(output.text.find(word), std::string::npos) << word << " in: " << output.text;
    }
  };
  // Nothing may grow beyond 512 bytes.
  expect_refused("ulimit -f 1; " + kRun + "--kv-offload --kv-offload-dir . hello",
                 {"temporary file in .", "File too large", "remedy: free disk space"});
  expect_refused(kRun + "--kv-offload --kv-offload-dir no/where hello",
                 {"no/where", "No such file or directory", "remedy"});
  expect_refused(kRun + "--kv-offload --device-map auto hello", {"--device-map and --kv-offload", "remedy"});
}

}  // namespace
}  // namespace fovea
