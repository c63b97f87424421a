// Goal: with streamed weights every token, logit and embedding is what it is with mapped ones, bit for bit,
// whatever the budget; what cannot be streamed, and files that break meanwhile, are refused by name. Method:
// the golden checkpoints (tied and untied, several shards), budgets from the least to everything; equality.
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "command_line_testing.h"
#include "request_testing.h"
#include "runtime/session.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

const fs::path kGoldens = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden";
const fs::path kDemo = fs::path(FOVEA_SOURCE_DIR) / "models" / "fovea-demo";

std::vector<WeightLimit> limits(const fs::path& model) {
  const Checkpoint checkpoint = Checkpoint::open(model);
  const WeightGroups groups(checkpoint);
  const WeightLimit least{least_residency(groups, groups.vision()), least_residency(groups, groups.text())};
  const int64_t all = groups.total(groups.vision()) + groups.total(groups.text());
  return {least, {least.vision, (least.text + groups.total(groups.text())) / 2}, {all, all}};
}

Prompt ask(const Engine& engine, const fs::path& model) {
  return engine.prepare(
      messages_from_prompt(
          "Compare <image> with <image>, and say it twice: compare it.",
          {(model / "inputs" / "image0.png").string(), (model / "inputs" / "image1.png").string()}, {}, {}),
      {}, false);
}

GenerationOptions greedy(const Engine& engine, int64_t chunk) {
  GenerationOptions options = engine.default_generation();
  options.sampling.greedy = true;
  options.ignore_eos = true;
  options.max_new_tokens = 8;
  options.prefill_chunk = chunk;
  return options;
}

class Offload : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { model_ = kGoldens / GetParam(); }
  fs::path model_;
};

INSTANTIATE_TEST_SUITE_P(Checkpoints, Offload, testing::Values("two_images", "three_images"),
                         [](const auto& checkpoint) { return std::string(checkpoint.param); });

TEST_P(Offload, EveryNumberIsTheSame) {
  for (const std::optional<DType> dtype : {std::optional<DType>(), std::optional(DType::f16)}) {
    const Engine mapped = Engine::open(model_, {.dtype = dtype}, {});
    const Prompt prompt = ask(mapped, model_);
    const Evaluation expected = mapped.evaluate(prompt, 16, {});
    const Answer answer = mapped.generate(prompt, greedy(mapped, 16), {});
    for (const WeightLimit& limit : limits(model_)) {
      const Engine streamed = Engine::open(model_, {.dtype = dtype, .weight_limit = limit}, {});
      for (const int64_t chunk : {0, 7, 16}) {
        const Evaluation result = streamed.evaluate(prompt, chunk, {});
        expect_equal(result.logits, expected.logits);
        expect_equal(result.vision_embeddings, expected.vision_embeddings);
        EXPECT_EQ(streamed.generate(prompt, greedy(streamed, chunk), {}).token_ids, answer.token_ids);
      }
      const StreamState state = streamed.stream_state();
      EXPECT_LE(state.kept_bytes + state.buffer_bytes, limit.text);
      EXPECT_GT(state.fetched_bytes, 0);
    }
  }
}

TEST_P(Offload, ARequestMayChangeTheBudgetOfTheNext) {
  const Engine engine = Engine::open(model_, {}, {});
  const Prompt prompt = ask(engine, model_);
  const std::vector<int32_t> expected = engine.generate(prompt, greedy(engine, 16), {}).token_ids;
  EXPECT_FALSE(engine.streams_weights());
  for (const WeightLimit& limit : limits(model_)) {
    engine.limit_weights(limit);
    EXPECT_EQ(engine.generate(prompt, greedy(engine, 16), {}).token_ids, expected);
  }
  engine.limit_weights(limits(model_).front());
  const Answer answer = engine.generate(prompt, greedy(engine, 16), {});
  EXPECT_EQ(answer.token_ids, expected);
  EXPECT_GE(answer.timings.decode_fetched_bytes, 6 * engine.stream_state().streamed_bytes);
}

TEST_P(Offload, EnginesOfOneCheckpointShareTheStream) {
  const Engine exact =
      Engine::open(model_, {.dtype = DType::f32, .weight_limit = limits(model_).front()}, {});
  const Engine half = exact.with({.attention = AttentionKind::eager, .dtype = DType::f16});
  const Engine mapped = Engine::open(model_, {.attention = AttentionKind::eager, .dtype = DType::f16}, {});
  const Prompt prompt = ask(exact, model_);
  const std::vector<int32_t> expected = mapped.generate(prompt, greedy(mapped, 16), {}).token_ids;
  for (int i = 0; i < 2; ++i) {
    exact.generate(prompt, greedy(exact, 16), {});
    const Buffer<float> vision = half.encode(prompt, {});
    Session session(half, prompt, vision, greedy(half, 16), {});
    EXPECT_EQ(session.continue_greedily({}, {}), expected);
    expect_equal(vision, mapped.encode(prompt, {}));
  }
}

TEST_P(Offload, AnInterruptedRequestLeavesTheEngineUsable) {
  const Engine engine = Engine::open(model_, {.weight_limit = limits(model_).front()}, {});
  const Prompt prompt = ask(engine, model_);
  expect_usable_after_an_interrupt(engine, prompt, greedy(engine, 16));
}

TEST_P(Offload, QuantizedPoliciesAreRefused) {
  EngineOptions options{.policy = PrecisionPolicy::parse_text("text.quantization=w8a8")};
  const Engine quantized = Engine::open(model_, options, {});
  EXPECT_THROW(quantized.limit_weights(limits(model_).front()), Error);
  const Prompt prompt = ask(quantized, model_);
  EXPECT_EQ(quantized.generate(prompt, greedy(quantized, 16), {}).token_ids.size(), 8u);  // as before
  options.weight_limit = limits(model_).front();
  try {
    Engine::open(model_, options, {});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    EXPECT_NE(std::string(error.what()).find("--ram"), std::string::npos);
  }
}

class OffloadProgram : public CommandLineTest {
 protected:
  void SetUp() override {
    CommandLineTest::SetUp();
    model_ = folder_ / "model";
    fs::copy(kDemo, model_, fs::copy_options::recursive);
  }

  std::string read(const char* name) const { return CommandLineTest::read(folder_ / name); }
  // `fovea run` of a long answer, with output in the files out and err.
  pid_t start(const std::string& ram, const std::string& tokens) const {
    const pid_t child = fork();
    if (child != 0) return child;
    if (!std::freopen((folder_ / "out").c_str(), "w", stdout) ||
        !std::freopen((folder_ / "err").c_str(), "w", stderr)) {
      _exit(99);
    }
    std::vector<std::string> words = {FOVEA_PROGRAM,
                                      "run",
                                      "-m",
                                      model_.string(),
                                      "--ignore-eos",
                                      "--json",
                                      "--greedy",
                                      "--max-new-tokens",
                                      tokens,
                                      "hello",
                                      "--prompt-lookup-num-tokens",
                                      "0"};
    if (tokens.size() > 3) words.push_back("--no-kv-cache");  // slow, so that something can happen meanwhile
    if (!ram.empty()) words.insert(words.end(), {"--ram", ram});
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    execv(FOVEA_PROGRAM, arguments.data());
    _exit(98);
  }
  static int exit_code(pid_t child) {
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  // A --ram with which such a request is streamed: little more than what the planner lets pass.
  std::string little_ram(const std::string& tokens) const {
    const auto fits = [&](int64_t bytes) {
      const std::string command =
          fmt::format("{} plan -m {} --json --context {} --max-new-tokens {} --ram {} > {}", FOVEA_PROGRAM,
                      model_.string(), std::stoi(tokens) + 40, tokens, bytes, (folder_ / "plan").string());
      const int status = std::system(command.c_str());
      const bool fit = nlohmann::json::parse(read("plan"))["fits"];
      EXPECT_EQ(WEXITSTATUS(status), fit ? 0 : 1);
      return fit;
    };
    int64_t refused = 1 << 20, enough = int64_t{1} << 33;
    while (enough - refused > 100'000) {
      const int64_t middle = refused + (enough - refused) / 2;
      (fits(middle) ? enough : refused) = middle;
    }
    return std::to_string(enough + 700'000);
  }
  // Calls run(ram) for an answer of 4,000 tokens, with more again where it was refused: of the program's own
  // pages, up to 2 MB more are resident at one start than at another beside other processes.
  template <typename Run>
  void with_little_ram(Run run) {
    const int64_t least = std::stoll(little_ram("4000"));
    for (int64_t more = 0; more <= 3'000'000; more += 300'000) {
      run(std::to_string(least + more));
      if (read("err").find("at its peak") == std::string::npos) return;
    }
    FAIL() << read("err");
  }
  void shorten() const { fs::resize_file(model_ / "model.safetensors", 5000); }

  fs::path model_;
};

TEST_F(OffloadProgram, StreamsWhatDoesNotFitAndSaysSo) {
  ASSERT_EQ(exit_code(start("", "12")), 0);
  const auto mapped = nlohmann::json::parse(read("out"));
  EXPECT_EQ(mapped["weights"]["mapped"], true);
  // From the least on: another run of the process may itself take 0.3 MB more or less, and 1.6 MB above the
  // least nothing needs to be streamed any more.
  nlohmann::json streamed;
  for (int64_t ram = std::stoll(little_ram("12")) - 700'000; streamed.empty(); ram += 150'000) {
    ASSERT_LE(ram, int64_t{100} << 20) << read("err");
    if (exit_code(start(std::to_string(ram), "12")) == 0) streamed = nlohmann::json::parse(read("out"));
  }
  EXPECT_EQ(streamed["token_ids"], mapped["token_ids"]);
  EXPECT_EQ(streamed["weights"]["mapped"], false);
  EXPECT_EQ(streamed["weights"]["bytes"], mapped["weights"]["bytes"]);
  EXPECT_GT(streamed["weights"]["streamed_bytes_per_token"], 0);
  // Eleven steps; what is read ahead for the first of them, at most the buffers, may count as prefill.
  const auto bytes = [&](const char* name) { return streamed["weights"][name].get<int64_t>(); };
  EXPECT_GE(bytes("decode_read_bytes"), 11 * bytes("streamed_bytes_per_token") - bytes("buffer_bytes"));
  ASSERT_NE(exit_code(start("8M", "12")), 0);
  EXPECT_NE(read("err").find("--ram allows a resident set of 8.0 MB"), std::string::npos) << read("err");
}

TEST_F(OffloadProgram, AFileThatShrinksIsNamedStreamedOrMapped) {
  const auto shorten_a_run = [&](const std::string& ram) {
    const pid_t child = start(ram, "4000");
    usleep(700 * 1000);
    shorten();
    EXPECT_EQ(exit_code(child), 1);
    fs::remove_all(model_);
    fs::copy(kDemo, model_, fs::copy_options::recursive);
  };
  for (const bool streamed : {false, true}) {
    if (streamed) {
      with_little_ram(shorten_a_run);
    } else {
      shorten_a_run("");
    }
    EXPECT_NE(read("err").find("model.safetensors"), std::string::npos) << read("err");
    EXPECT_NE(read("err").find("remedy"), std::string::npos) << read("err");
  }
}

TEST_F(OffloadProgram, AReadErrorIsNamed) {
  setenv("ASAN_OPTIONS", "verify_asan_link_order=0:detect_leaks=0", 1);  // what is preloaded comes first
  with_little_ram([&](const std::string& ram) {
    setenv("LD_PRELOAD", FOVEA_FAILING_READ, 1);
    setenv("FOVEA_TEST_GOOD_READS", "20", 1);
    const pid_t child = start(ram, "4000");
    for (const char* name : {"LD_PRELOAD", "FOVEA_TEST_GOOD_READS"}) unsetenv(name);
    EXPECT_EQ(exit_code(child), 1);
  });
  const std::string said = read("err");
  for (const char* words :
       {"cannot read", "model.safetensors at byte", "Input/output error", "remedy: check the disk"}) {
    EXPECT_NE(said.find(words), std::string::npos) << said;
  }
}

TEST_F(OffloadProgram, AnInterruptEndsAStreamedAnswer) {
  int code = 0;
  with_little_ram([&](const std::string& ram) {
    const pid_t child = start(ram, "4000");
    usleep(700 * 1000);
    kill(child, SIGINT);
    code = exit_code(child);
  });
  EXPECT_EQ(code, 130);
  EXPECT_EQ(nlohmann::json::parse(read("out"))["finish_reason"], "cancelled");
}

TEST(OffloadFiles, AFileThatShrinksWhileItIsReadIsNamed) {
  std::string pattern = (fs::temp_directory_path() / "fovea-test-XXXXXX").string();
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  const fs::path model = fs::path(pattern) / "model";
  fs::copy(kGoldens / "two_images", model, fs::copy_options::recursive);
  const Engine engine = Engine::open(model, {.weight_limit = limits(model).front()}, {});
  const Prompt prompt = ask(engine, model);
  EXPECT_EQ(engine.generate(prompt, greedy(engine, 16), {}).token_ids.size(), 8u);
  fs::resize_file(model / "model-00001-of-00002.safetensors", 9000);
  fs::resize_file(model / "model-00002-of-00002.safetensors", 9000);
  try {
    engine.generate(prompt, greedy(engine, 16), {});
    ADD_FAILURE() << "answered";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::io);
    EXPECT_NE(error.message().find("of-00002.safetensors has 9000 bytes"), std::string::npos) << error.what();
  }
  fs::remove_all(pattern);
}

}  // namespace
}  // namespace fovea
