// Goal: no command needs more stack than a thread of 256 KB has, be it the program's own or a worker's (which
// have that by default). Method: the commands under `ulimit -s 256`, on every kernel variant that this
// machine runs; the emulated ones by the tests of kernels likewise (src/kernels/CMakeLists.txt).
#include <nlohmann/json.hpp>

#include "command_line_testing.h"
#include "kernels/kernels.h"

namespace fovea {
namespace {

using nlohmann::json;

class Stacks : public CommandLineTest, public testing::WithParamInterface<const Kernels*> {
 protected:
  static constexpr const char* kDemo = FOVEA_SOURCE_DIR "/models/fovea-demo";
  static constexpr const char* kVideo = FOVEA_SOURCE_DIR "/tests/data/media/video_short.mp4";

  Outcome on_a_small_stack(const std::string& arguments, const std::string& redirections = "") const {
    return run(arguments, fmt::format("ulimit -S -s 256; FOVEA_ISA={}", GetParam()->name), redirections);
  }
  void expect_success(const std::string& arguments, const std::string& redirections = "") const {
    const Outcome outcome = on_a_small_stack(arguments, redirections);
    EXPECT_EQ(outcome.exit_code, 0) << arguments << "\n" << outcome.err;
  }
};
INSTANTIATE_TEST_SUITE_P(Variants, Stacks, testing::ValuesIn(available_kernels()),
                         [](const auto& instance) { return std::string(instance.param->name); });

TEST_P(Stacks, RunInEveryDtypeAndAttention) {
  for (const char* flags :
       {"--dtype fp32 --attn eager", "--dtype bf16 --attn flash_attention_2", "--dtype fp16 --attn sdpa",
        "--preset balanced", "--preset fast", "--kv-cache-dtype int8", "--kv-offload", "--ram 1G",
        "--preset flash-bf16-bias-split"}) {
    expect_success(
        fmt::format("run -m {} --greedy -n 6 {} --image {} 'What is <image>?'", kDemo, flags, kPicture));
  }
  expect_success(fmt::format("run -m {} --greedy -n 2 --video {} 'What happens?'", kDemo, kVideo));
}

TEST_P(Stacks, EveryOtherCommand) {
  const std::string folder = folder_.string();
  expect_success(fmt::format("suite make --kind easy --out {}/suite --count 4", folder));
  expect_success(fmt::format("eval -m {} --suite {}/suite --max-new-tokens 2", kDemo, folder));
  expect_success(
      fmt::format("audit -m {} --suite {}/suite --compare eager-fp16 --max-new-tokens 2", kDemo, folder));
  expect_success(fmt::format("plan -m {} --context 600", kDemo));
  expect_success(fmt::format("bench -m {} --only 'decode.512.*' --repetitions 1", kDemo));
  const json body = {{"messages", {{{"role", "user"}, {"content", "What is it?"}}}}, {"max_tokens", 4}};
  std::string lines;
  for (const char* id : {"a", "b", "c", "d", "e", "f"}) {
    lines += json({{"custom_id", id}, {"method", "POST"}, {"url", "/v1/chat/completions"}, {"body", body}})
                 .dump() +
             "\n";
  }
  write(folder_ / "in.jsonl", lines);
  expect_success(fmt::format("batch -m {0} -i {1}/in.jsonl -o {1}/out.jsonl", kDemo, folder));
  write(folder_ / "talk", fmt::format("/image {}\nWhat is it?\nAnd now?\n", kPicture));
  expect_success(fmt::format("chat -m {} --greedy -n 4", kDemo), fmt::format("< {}/talk", folder));
}

}  // namespace
}  // namespace fovea
