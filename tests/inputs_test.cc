// Goal: what people hand over, files of pages, limits of the folder, messages with tools, reaches the model
// as docs/guide says, and what cannot is refused in words that fit a terminal. Method: a golden
// checkpoint's prompts, and the program run on copies of its folder.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/temporary_folder_testing.h"
#include "runtime/engine.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

const fs::path kModel = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden" / "one_image";
const std::string kPictures = std::string(FOVEA_SOURCE_DIR) + "/tests/data/media/";

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Outcome {
  int exit_code = -1;
  std::string out, err;
};

// Runs `fovea arguments` through the shell.
Outcome run(const TemporaryFolder& folder, const std::string& arguments) {
  const fs::path out = folder.path() / "out", err = folder.path() / "err";
  const int status = std::system(
      fmt::format("{} {} >{} 2>{} </dev/null", FOVEA_PROGRAM, arguments, out.string(), err.string()).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read(out), read(err)};
}

// A copy of the golden folder, the weights linked.
void copy_model(const fs::path& to) {
  fs::create_directories(to);
  for (const auto& entry : fs::directory_iterator(kModel)) {
    if (entry.is_regular_file()) fs::create_symlink(entry.path(), to / entry.path().filename());
  }
}

std::string listed_frames(const std::string& fields = "") {
  return R"([{"role": "user", "content": [{"type": "video", "video": [")" + kPictures +
         R"(frame_list_0.png", ")" + kPictures + R"(frame_list_1.png", ")" + kPictures +
         R"(frame_list_2.png"])" + fields + R"(}, {"type": "text", "text": "hi"}]}])";
}

class Inputs : public testing::Test {
 protected:
  Prompt prepare(const std::string& messages, const MediaLimits& limits = {}) const {
    return engine_.prepare(parse_messages(messages), limits, true);
  }
  Engine engine_ = Engine::open(kModel, {}, {});
  TemporaryFolder folder_;
};

TEST_F(Inputs, EachPageOfATiffFileIsAPictureOfThePrompt) {
  const std::string scan = kPictures + "tiff_pages.tif", single = kPictures + "png_rgb8.png";
  const Prompt prompt = engine_.prepare(
      messages_from_prompt("First <image> then <image>.", {scan, single}, {}, std::nullopt), {}, true);
  ASSERT_EQ(prompt.pictures.size(), 4u);
  EXPECT_EQ(prompt.pictures[1].source, scan + ", page 2 of 3");
  EXPECT_EQ(prompt.pictures[2].original_height, 30 + 2 * 9);
  EXPECT_EQ(prompt.pictures[3].source, single);
  EXPECT_NE(prompt.text.find("First Picture 1: "), std::string::npos) << prompt.text;
  EXPECT_NE(prompt.text.find(" then Picture 4: "), std::string::npos) << prompt.text;
  // Each of them counts in a limit of all: 6 tokens are the least that min_pixels leaves of a page.
  MediaLimits limits;
  limits.max_total_image_tokens = 3 * 6;
  const Prompt least = engine_.prepare(messages_from_prompt("?", {scan}, {}, std::nullopt), limits, false);
  EXPECT_EQ(least.pictures.size(), 3u);
  limits.max_total_image_tokens = 3 * 6 - 1;
  EXPECT_THROW(engine_.prepare(messages_from_prompt("?", {scan}, {}, std::nullopt), limits, false), Error);
}

TEST_F(Inputs, TheFoldersLimitsOfFramesHoldUnlessTheRequestStatesItsOwn) {
  const auto video_tokens = [&](const Engine& engine, const std::string& fields) {
    return engine.prepare(parse_messages(listed_frames(fields)), {}, false).pictures.at(0).tokens(2);
  };
  const int64_t own = video_tokens(engine_, "");
  EXPECT_EQ(own, 2 * 12 * 12);  // 50 x 70 frames become 56 x 56, then 336 x 336: at least 128 tokens
  const fs::path model = folder_.path() / "model";
  copy_model(model);
  folder_.write("model/video_preprocessor_config.json",
                R"({"size": {"shortest_edge": 3136, "longest_edge": 25088}})");
  const Engine limited = Engine::open(model, {}, {});
  EXPECT_EQ(video_tokens(limited, ""), 2 * 5 * 5);  // a side of sqrt(25088) = 158.4 at most
  EXPECT_EQ(video_tokens(limited, R"(, "max_pixels": 602112)"), own);
}

TEST_F(Inputs, TextAfterAVideoStandsWhereAskedFor) {
  const std::string messages = listed_frames(R"(, "sample_fps": "0.1")");  // 40 positions from pair to pair
  const Prompt ours = prepare(messages);
  MediaLimits limits;
  limits.video_positions = VideoPositions::transformers_5;
  const Prompt theirs = prepare(messages, limits);
  EXPECT_EQ(ours.ids, theirs.ids);
  const int64_t last_ours = ours.positions.axis[0].back(), last_theirs = theirs.positions.axis[0].back();
  EXPECT_EQ(ours.positions.next, last_ours + 1);
  EXPECT_EQ(last_ours - last_theirs, 41 - 12);  // largest + 1 against the longer side of 12 x 12
  EXPECT_GT(theirs.positions.next, last_theirs + 1);
}

TEST_F(Inputs, WhatTheModelIsNotShownIsWarnedOf) {
  const Prompt prompt = prepare(R"([{"role": "user", "content": "?"},
      {"role": "assistant", "content": null, "tool_calls": [{"id": "c"}]},
      {"role": "tool", "tool_call_id": "c", "content": "4 degrees"}])");
  ASSERT_EQ(prompt.warnings.size(), 1u);
  EXPECT_NE(prompt.warnings[0].find("messages[1].tool_calls"), std::string::npos) << prompt.warnings[0];
  EXPECT_NE(prompt.text.find("<|im_start|>assistant\n<|im_end|>\n<|im_start|>tool\n4 degrees<|im_end|>"),
            std::string::npos)
      << prompt.text;
}

TEST_F(Inputs, ErrorsOfMessagesNameTheFileAndStayWhole) {
  folder_.write("m.json",
                std::string(R"([{"role": "user", "content": [{"text": "x", "a\u0000b\u001b[31m\r": 1}]}])"));
  const std::string file = (folder_.path() / "m.json").string();
  const Outcome outcome = run(folder_, fmt::format("run -m {} --messages {}", kModel.string(), file));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find(file + R"(: messages[0].content[0].a\x00b\x1b[31m\x0d is not supported)"),
            std::string::npos)
      << outcome.err;
  EXPECT_NE(outcome.err.find("remedy: remove the field"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find('\x1b'), std::string::npos);
}

TEST_F(Inputs, DataUrlsAreShownByTheirHead) {
  const std::string bytes = read(kPictures + "png_rgb8.png");
  constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string url = "data:image/png;base64,";
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t j = i; j < i + 3; ++j)
      bits = bits << 8 | (j < bytes.size() ? static_cast<uint8_t>(bytes[j]) : 0u);
    for (size_t j = 0; j < 4; ++j) url += i + j <= bytes.size() ? kAlphabet[bits >> (18 - 6 * j) & 63] : '=';
  }
  folder_.write("m.json", R"([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": ")" +
                              url + R"("}}, {"type": "text", "text": "hi"}]}])");
  const std::string command =
      fmt::format("run -m {} --messages {}/m.json --max-new-tokens 1 --min-pixels 784 --max-image-tokens 1",
                  kModel.string(), folder_.path().string());
  const Outcome text = run(folder_, command);
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_LT(text.err.size(), 2000u) << text.err;
  const auto json = nlohmann::json::parse(run(folder_, command + " --json").out);
  EXPECT_EQ(json["images"][0]["source"], url.substr(0, 40) + fmt::format("... ({} characters)", url.size()));
  EXPECT_LT(json["warnings"].dump().size(), 500u);
}

TEST_F(Inputs, AnotherChatTemplateCanBeAskedFor) {
  const fs::path model = folder_.path() / "model";
  copy_model(model);
  for (const char* name : {"chat_template.json", "chat_template.jinja"}) fs::remove(model / name);
  folder_.write("model/chat_template.json", R"({"chat_template": "{{ messages[0].content }}"})");
  const std::string command = fmt::format("run -m {} hello --max-new-tokens 1", model.string());
  const Outcome refused = run(folder_, command);
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.err.find("--chat-template qwen2.5-vl"), std::string::npos) << refused.err;
  EXPECT_EQ(run(folder_, command + " --chat-template qwen2.5-vl").exit_code, 0);
  EXPECT_EQ(run(folder_,
                command + " --chat-template " FOVEA_SOURCE_DIR "/models/qwen-tokenizer/chat_template.jinja")
                .exit_code,
            0);
  const std::string plan = fmt::format("plan -m {} --context 64 --max-new-tokens 8", model.string());
  EXPECT_EQ(run(folder_, plan).exit_code, 1);
  EXPECT_EQ(run(folder_, plan + " --chat-template qwen2.5-vl").err, "");
}

}  // namespace
}  // namespace fovea
