// Goal: advice fits where it says so, obeys what is preferred, and is a command that fovea takes. Method:
// machines that are made up, with the 3B shape as a sparse file; the program on the demo model, whose printed
// commands are run.
#include "advise/advise.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "checkpoint/synth_configs.h"
#include "checkpoint/tensor_names.h"
#include "media/geometry.h"
#include "model/kv_cache.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kGB = 1'000'000'000;
const fs::path kDemo = fs::path(FOVEA_SOURCE_DIR) / "models" / "fovea-demo";

class Advising : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string pattern = (fs::temp_directory_path() / "fovea-advise-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    make_3b(folder_ / "3b");
  }
  static void TearDownTestSuite() { fs::remove_all(folder_); }

  static void write(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

  // A checkpoint of the 3B shape whose weights are a hole: planning reads none.
  static void make_3b(const fs::path& dir) {
    fs::create_directories(dir);
    write(dir / "config.json", synthetic_config_json("3b"));
    const ModelConfig config = parse_config(synthetic_config_json("3b"), "config.json");
    write(dir / "preprocessor_config.json", synthetic_preprocessor_json(config.vision));
    write(dir / "generation_config.json", synthetic_generation_json());
    nlohmann::ordered_json header;
    int64_t at = 0;
    for (const ExpectedTensor& tensor : expected_tensors(config)) {
      int64_t bytes = 2;
      for (const int64_t side : tensor.shape) bytes *= side;
      header[older_tensor_name(tensor.name)] = {
          {"dtype", "BF16"}, {"shape", tensor.shape}, {"data_offsets", {at, at + bytes}}};
      at += bytes;
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    std::string size(8, '\0');
    for (size_t i = 0; i < 8; ++i) size[i] = static_cast<char>(text.size() >> (8 * i));
    write(dir / "model.safetensors", size + text);
    fs::resize_file(dir / "model.safetensors", 8 + text.size() + static_cast<uintmax_t>(at));
  }

  // The machine of docs/measurements/speed.md.
  static Machine machine() {
    Machine m;
    m.cpu = "made up";
    m.kernels = "avx512_bf16";
    m.threads = 2;
    m.native_bf16 = true;
    m.measured.limits = {40, 470, 234, 940};
    m.disk_gbps = 1.5;
    return m;
  }

  // Three pages of 980 x 980 pixels (1225 tokens each), 500 tokens of text, 100 of the answer.
  static AdviceRequest request(const Checkpoint& checkpoint, int64_t budget, Preference prefer,
                               int64_t pages = 3) {
    const ModelConfig& config = checkpoint.config();
    AdviceRequest r;
    r.prefer = prefer;
    r.budget = budget;
    r.ram_given = true;
    r.setup.target.model_dtype = config.dtype;
    r.setup.target.text_layers = config.text.num_hidden_layers;
    r.setup.target.vision_layers = config.vision.depth;
    r.setup.request.text_tokens = 500;
    r.setup.request.answer_tokens = 100;
    r.setup.request.vision_budget_bytes = int64_t{256} << 20;
    r.setup.request.process_bytes = 50'000'000;
    for (int64_t i = 0; i < pages; ++i) {
      Picture picture;
      picture.source = "page";
      picture.original_height = picture.original_width = 980;
      r.setup.request.pictures.push_back({with_geometry(picture, {}), {}});
    }
    return r;
  }

  static Advice advice(int64_t budget, Preference prefer, int64_t pages = 3) {
    const Checkpoint checkpoint = Checkpoint::open(folder_ / "3b");
    Advice a = advise(checkpoint, request(checkpoint, budget, prefer, pages), machine());
    EXPECT_LE(a.memory.peak(), budget);
    return a;
  }
  static std::string value_of(const Advice& a, const std::string& flag) {
    for (size_t i = 0; i + 1 < a.run.size(); ++i) {
      if (a.run[i] == flag) return a.run[i + 1];
    }
    return "";
  }
  static bool mentions(const Advice& a, const std::string& what) {
    for (const Rejected& r : a.rejected) {
      if (r.what.find(what) != std::string::npos && !r.reason.empty()) return true;
    }
    return false;
  }

  static fs::path folder_;
};
fs::path Advising::folder_;

// Every way that fits is listed with its figures, the chosen one among them with those of the advice.
TEST_F(Advising, ListsAllWaysThatFit) {
  const Advice a = advice(64 * kGB, Preference::throughput);
  std::set<std::string> names;
  for (const Way& way : a.ways) {
    EXPECT_LE(way.peak_bytes, 64 * kGB) << way.name;
    EXPECT_TRUE(names.insert(way.name).second) << way.name;
  }
  EXPECT_EQ(names, (std::set<std::string>{"weights as stored", "fovea quantize int8", "preset balanced",
                                          "fovea quantize int4", "preset fast"}));
  EXPECT_EQ(1, std::count_if(a.ways.begin(), a.ways.end(), [&](const Way& way) {
              return way.peak_bytes == a.memory.peak() && way.time.token_s == a.time.token_s &&
                     way.time.first_token_s() == a.time.first_token_s();
            }));
}

TEST_F(Advising, WithPlentyOfMemoryAccuracyKeepsTheWeights) {
  const Advice a = advice(64 * kGB, Preference::accuracy);
  EXPECT_FALSE(a.memory.streamed);
  EXPECT_TRUE(a.prepare.empty());
  EXPECT_EQ(value_of(a, "--attn"), "flash_attention_2");
  EXPECT_EQ(value_of(a, "--preset"), "");
  EXPECT_EQ(value_of(a, "--max-total-image-tokens"), "");
  EXPECT_EQ(value_of(a, "--kv-cache-dtype"), "auto");
  EXPECT_EQ(value_of(a, "--threads"), "2");
  EXPECT_EQ(a.memory.image_tokens, 3 * 35 * 35);
  for (const char* what : {"eager", "sdpa", "int4", "int8", "balanced", "fast"})
    EXPECT_TRUE(mentions(a, what)) << what;
  for (const Choice& choice : a.choices) EXPECT_FALSE(choice.reason.empty()) << choice.what;
}

// Figures of docs/measurements/speed.md, computed anew: 3.09e9 weights of the decoder and its head, two bytes
// each, at 80 % of 40 GB/s, and the cache of 4,225 tokens, 36 KiB each.
TEST_F(Advising, TimesAreAmountsOverTheSharesOfTheLimits) {
  const Advice a = advice(64 * kGB, Preference::accuracy);
  const double cache = 36.0 * 1024 * (3 * 35 * 35 + 500 + 50);
  const double weights = 36 * (2048.0 * 128 * (2 * 16 + 2 * 2) + 3 * 2048.0 * 11008) + 151936.0 * 2048;
  EXPECT_NEAR(a.time.token_s, (2 * weights + cache) / (0.80 * 40e9), 1e-9);
  // 4,175 tokens: projections at 82 % and causal attention at 75 % of 470 GFLOP/s; the head of one token is
  // less than a thousandth.
  const double tokens = 3 * 35 * 35 + 500, projections = 2 * tokens * (weights - 151936.0 * 2048),
               scores = 4 * tokens * (tokens + 1) / 2 * 16 * 128 * 36;
  EXPECT_NEAR(a.time.prefill_s, projections / (0.82 * 470e9) + scores / (0.75 * 470e9),
              0.002 * a.time.prefill_s);
  EXPECT_GT(a.time.vision_s, 0);
}

TEST_F(Advising, SpeedTakesFewerBitsWhereAccuracyDoesNot) {
  const Advice exact = advice(64 * kGB, Preference::accuracy), first = advice(64 * kGB, Preference::latency),
               rate = advice(64 * kGB, Preference::throughput);
  EXPECT_LT(first.time.first_token_s(), exact.time.first_token_s() / 1.1);
  EXPECT_LT(rate.time.token_s, exact.time.token_s / 1.1);
  EXPECT_LT(rate.time.token_s, first.time.token_s);  // 4 bits are read quicker, 8 multiplied quicker
  EXPECT_EQ(value_of(first, "--preset"), "balanced");
  ASSERT_FALSE(rate.prepare.empty() && value_of(rate, "--preset").empty());
}

TEST_F(Advising, In4GBAccuracyStreamsAndSpeedTakes4Bits) {
  const Advice a = advice(4 * kGB, Preference::accuracy);
  EXPECT_TRUE(a.memory.streamed);
  EXPECT_EQ(value_of(a, "--ram"), "4000000000");
  EXPECT_EQ(a.memory.image_tokens, 3 * 35 * 35);
  const Advice rate = advice(4 * kGB, Preference::throughput);
  EXPECT_FALSE(rate.memory.streamed);
  ASSERT_FALSE(rate.prepare.empty());
  EXPECT_EQ(rate.prepare.back(), "int4");
  EXPECT_EQ(rate.run[2], (folder_ / "3b-int4").string());
}

TEST_F(Advising, In2500MBOnlyStreamingIsLeft) {
  for (const Preference prefer : {Preference::accuracy, Preference::latency, Preference::throughput}) {
    const Advice a = advice(2'500'000'000, prefer);
    EXPECT_TRUE(a.memory.streamed);
    EXPECT_EQ(value_of(a, "--preset"), "");
  }
}

TEST_F(Advising, AccuracyNeverTakes4Bits) {
  for (int64_t budget = kGB; budget < 16 * kGB; budget += kGB / 2) {
    try {
      const Advice a = advice(budget, Preference::accuracy);
      EXPECT_NE(value_of(a, "--preset"), "fast");
      EXPECT_TRUE(a.prepare.empty() || a.prepare.back() != "int4");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::exhausted);
    }
  }
}

TEST_F(Advising, ImagesLoseTokensOnlyWhereNothingElseFits) {
  const Checkpoint checkpoint = Checkpoint::open(folder_ / "3b");
  PlanSetup setup = request(checkpoint, 0, Preference::accuracy, 40).setup;
  setup.request.ram = 1;
  setup.request.prefill_chunk = 32;
  const Plan least = make_plan(checkpoint, setup.policy.resolve(setup.target).precision, setup.request);
  // Even a cache of no bytes would not be enough.
  const Advice a = advice(least.peak() - least.kv_cache, Preference::accuracy, 40);
  EXPECT_LT(a.memory.image_tokens, least.image_tokens);
  EXPECT_EQ(value_of(a, "--max-total-image-tokens"), std::to_string(a.memory.image_tokens));
}

TEST_F(Advising, WhatCannotFitIsRefusedInThePlannersWords) {
  try {
    advice(400'000'000, Preference::latency);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::exhausted);
    EXPECT_NE(std::string(error.what()).find("at its peak"), std::string::npos) << error.what();
  }
}

TEST(AdviceText, ArgumentsAreQuotedForAShell) {
  EXPECT_EQ(command_text({"run", "-m", "my model", "it's"}), "fovea run -m 'my model' 'it'\\''s'");
}

// The program: what it prints is run.
class AdviceProgram : public Advising {
 protected:
  static std::pair<int, std::string> run(const std::string& command) {
    const fs::path out = folder_ / "out";
    const int status = std::system(fmt::format("XDG_CACHE_HOME={0} {1} >{2} 2>&1 </dev/null",
                                               (folder_ / "cache").string(), command, out.string())
                                       .c_str());
    std::ifstream file(out);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, {std::istreambuf_iterator<char>(file), {}}};
  }
  static std::string with_program(std::string command) { return command.replace(0, 5, FOVEA_PROGRAM); }
};

TEST_F(AdviceProgram, ItsCommandsRunAndFit) {
  fs::create_directory_symlink(kDemo, folder_ / "demo");
  const std::string model = (folder_ / "demo").string();
  for (const char* flags : {"--ram 1G", "--ram 60M", "--ram 1G --prefer throughput"}) {
    const auto [code, text] = run(fmt::format(
        "{} advise -m {} --images 2@560x560 --max-new-tokens 4 --json {}", FOVEA_PROGRAM, model, flags));
    ASSERT_EQ(code, 0) << text;
    const auto json = nlohmann::json::parse(text);
    if (!json["prepare"].is_null()) {
      const auto [prepared, said] = run(with_program(json["prepare"]));
      ASSERT_EQ(prepared, 0) << said;
    }
    const auto [planned, plan_text] = run(with_program(json["plan_command"]) + " --json");
    ASSERT_EQ(planned, 0) << plan_text;
    const auto plan = nlohmann::json::parse(plan_text);
    EXPECT_TRUE(plan["fits"]) << plan_text;
    // What the process occupies before differs by 2 MB from start to start, for which the advice leaves 2.5.
    EXPECT_NEAR(plan["peak_bytes"].get<double>(), json["peak_bytes"].get<double>(), 5e6) << text;
    std::string command = with_program(json["command"]);
    const fs::path image =
        fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden" / "one_image" / "inputs" / "image0.png";
    for (const char* name : {"IMAGE_1", "IMAGE_2"}) {
      ASSERT_NE(command.find(name), std::string::npos) << command;
      command.replace(command.find(name), 7, image.string());
    }
    const auto [ran, answer] = run(command);
    EXPECT_EQ(ran, 0) << command << "\n" << answer;
  }
}

TEST_F(AdviceProgram, WhatCannotFitEndsWithAnError) {
  const auto [code, text] = run(fmt::format("{} advise -m {} --ram 20M", FOVEA_PROGRAM, kDemo.string()));
  EXPECT_EQ(code, 1);
  EXPECT_NE(text.find("remedy: "), std::string::npos) << text;
}

TEST_F(AdviceProgram, LimitsAreMeasuredOnce) {
  const std::string command = fmt::format("{} advise -m {} --json --ram 1G", FOVEA_PROGRAM, kDemo.string());
  ASSERT_EQ(run(command).first, 0);
  const fs::path cache = folder_ / "cache" / "fovea" / "machine.json";
  std::ifstream file(cache);
  auto known = nlohmann::json::parse(file);
  ASSERT_EQ(known["machines"].size(), 1u);
  auto& entry = known["machines"].begin().value();
  entry["read_gbps"] = 12345;
  entry["load"] = 0;
  write(cache, known.dump());
  EXPECT_EQ(nlohmann::json::parse(run(command).second)["machine"]["read_gbps"], 12345);
  EXPECT_NE(nlohmann::json::parse(run(command + " --remeasure").second)["machine"]["read_gbps"], 12345);
  known["version"] = 99;
  write(cache, known.dump());
  const auto [code, text] = run(command);
  EXPECT_EQ(code, 0);  // a cache: measured again
  EXPECT_NE(nlohmann::json::parse(text)["machine"]["read_gbps"], 12345);
  write(cache, "{ broken");
  EXPECT_GT(nlohmann::json::parse(run(command).second)["machine"]["read_gbps"], 0);
}

}  // namespace
}  // namespace fovea
