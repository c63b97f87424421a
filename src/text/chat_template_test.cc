// Goal: a conversation is rendered to the very bytes transformers renders, and no other template is taken for
// ours. Method: goldens of tools/make_chat_goldens.py, which also proved the published Qwen2.5-VL text equal
// to ours.
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/golden_files_testing.h"

namespace fovea {
namespace {

using nlohmann::json;

const ChatTemplate kTemplate{};

ErrorKind kind_of_open(const TemporaryFolder& folder) {
  try {
    ChatTemplate::open(folder.path());
  } catch (const Error& error) {
    return error.kind();
  }
  ADD_FAILURE() << "opened";
  return ErrorKind::io;
}

void expect_rendered_as_in(const char* file, size_t least) {
  const json goldens = json::parse(unpacked_repository_file(file));
  ASSERT_GE(goldens.size(), least);
  for (const json& golden : goldens) {
    const std::vector<Message> messages = parse_messages(golden["messages"].dump());
    const ChatTemplate::Options options{golden["add_generation_prompt"].get<bool>(),
                                        golden["add_vision_id"].get<bool>()};
    ASSERT_EQ(kTemplate.render(messages, options), golden["text"].get<std::string>()) << golden["messages"];
  }
}

TEST(ChatTemplate, EveryGoldenConversationIsRenderedAsTransformersDoes) {
  // The last ones have tool calls, results and null contents.
  expect_rendered_as_in("tests/data/chat_template/goldens.json.xz", 460);
}

// tools/make_tool_goldens.py; by transformers 5, which drops what is null.
TEST(ChatTemplate, ConversationsWithToolsAreRenderedAsTransformers5Does) {
  expect_rendered_as_in("tests/data/chat_template/tool_goldens.json.xz", 68);
}

TEST(ChatTemplate, NumbersPicturesAndVideosThroughTheConversation) {
  const auto messages =
      parse_messages(R"([{"role": "user", "content": [{"image": "a"}, {"video": "b"}, {"image": "c"}]},
                                           {"role": "user", "content": [{"image": "d"}, {"text": "?"}]}])");
  EXPECT_EQ(kTemplate.render(messages, {.add_generation_prompt = true, .add_vision_id = true}),
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\nPicture 1: <|vision_start|><|image_pad|><|vision_end|>"
            "Video 1: <|vision_start|><|video_pad|><|vision_end|>"
            "Picture 2: <|vision_start|><|image_pad|><|vision_end|><|im_end|>\n"
            "<|im_start|>user\nPicture 3: <|vision_start|><|image_pad|><|vision_end|>?<|im_end|>\n"
            "<|im_start|>assistant\n");
}

TEST(ChatTemplate, KnowsTheTextThatFoveaWrites) {
  const std::string jinja = repository_file("models/qwen-tokenizer/chat_template.jinja");
  TemporaryFolder bare, as_json, in_config;
  bare.write("chat_template.jinja", "\n" + jinja + "\n\n");
  as_json.write("chat_template.json", json{{"chat_template", jinja}}.dump());
  in_config.write("tokenizer_config.json",
                  json{{"chat_template", {{{"name", "default"}, {"template", jinja}}}}}.dump());
  EXPECT_NO_THROW(ChatTemplate::open(bare.path()));
  EXPECT_NO_THROW(ChatTemplate::open(as_json.path()));
  EXPECT_NO_THROW(ChatTemplate::open(in_config.path()));
}

TEST(ChatTemplate, RefusesAnyOtherText) {
  std::string jinja = repository_file("models/qwen-tokenizer/chat_template.jinja");
  jinja.replace(jinja.find("helpful"), 7, "playful");
  TemporaryFolder bare, as_json, in_config;
  bare.write("chat_template.jinja", jinja);
  as_json.write("chat_template.json", json{{"chat_template", jinja}}.dump());
  in_config.write("tokenizer_config.json", json{{"chat_template", jinja}}.dump());
  EXPECT_EQ(kind_of_open(bare), ErrorKind::unsupported);
  EXPECT_EQ(kind_of_open(as_json), ErrorKind::unsupported);
  EXPECT_EQ(kind_of_open(in_config), ErrorKind::unsupported);
}

// The order of transformers 4.57.6 and 5.24: each file added here goes before the ones already there.
TEST(ChatTemplate, TheFirstFileThatStatesOneCounts) {
  const std::string known = repository_file("models/qwen-tokenizer/chat_template.jinja");
  const std::string known_json = json{{"chat_template", known}}.dump();
  const std::string other_json = json{{"chat_template", "other"}}.dump();
  TemporaryFolder folder;
  folder.write("tokenizer_config.json", other_json);
  EXPECT_EQ(kind_of_open(folder), ErrorKind::unsupported);
  folder.write("chat_template.jinja", known);
  EXPECT_NO_THROW(ChatTemplate::open(folder.path()));
  folder.write("chat_template.json", other_json);
  EXPECT_EQ(kind_of_open(folder), ErrorKind::unsupported);
  folder.write("processor_config.json", R"({"processor_class": "Qwen2_5_VLProcessor"})");
  EXPECT_EQ(kind_of_open(folder), ErrorKind::unsupported);  // states none
  folder.write("processor_config.json", known_json);
  EXPECT_NO_THROW(ChatTemplate::open(folder.path()));
  folder.write("processor_config.json", other_json);
  folder.write("chat_template.json", known_json);
  EXPECT_EQ(kind_of_open(folder), ErrorKind::unsupported);
}

TEST(ChatTemplate, AnotherTakesThePlaceOfTheFoldersOwn) {
  const std::string known = repository_file("models/qwen-tokenizer/chat_template.jinja");
  TemporaryFolder folder, files;
  folder.write("chat_template.json", json{{"chat_template", "other"}}.dump());
  EXPECT_NO_THROW(ChatTemplate::open(folder.path(), "qwen2.5-vl"));
  files.write("mine.jinja", known);
  files.write("mine.json", json{{"chat_template", known}}.dump());
  files.write("empty.json", "{}");
  files.write("other.jinja", "other");
  const auto open_with = [&](const char* name) {
    ChatTemplate::open(folder.path(), (files.path() / name).string());
  };
  EXPECT_NO_THROW(open_with("mine.jinja"));
  EXPECT_NO_THROW(open_with("mine.json"));
  EXPECT_THROW(open_with("empty.json"), Error);
  EXPECT_THROW(open_with("nowhere.jinja"), Error);
  try {
    open_with("other.jinja");
    ADD_FAILURE() << "opened";
  } catch (const Error& error) {
    EXPECT_NE(error.message().find("other.jinja"), std::string::npos) << error.message();
    EXPECT_NE(error.remedy().find("--chat-template qwen2.5-vl"), std::string::npos) << error.remedy();
  }
}

TEST(ChatTemplate, AFolderWithoutAnyGetsTheNativeOne) {
  TemporaryFolder folder;
  EXPECT_NO_THROW(ChatTemplate::open(folder.path()));
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer", "chat_template": null})");
  EXPECT_NO_THROW(ChatTemplate::open(folder.path()));
}

TEST(ChatTemplate, BrokenFilesAreNamed) {
  for (const char* text : {"", "{", "[]", "7", R"({"chat_template": 7})", R"({"chat_template": [{}]})",
                           "{\"chat_template\": \"\xff\"}"}) {
    TemporaryFolder folder;
    folder.write("chat_template.json", text);
    EXPECT_EQ(kind_of_open(folder), ErrorKind::corrupt) << text;
  }
}

}  // namespace
}  // namespace fovea
