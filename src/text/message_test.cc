// Goal: OpenAI and Qwen message lists mean what their authors state, and errors name the message and the
// field. Method: small lists with their expected parts, and a table of bad lists with the words their errors
// must hold.
#include "text/message.h"

#include <gtest/gtest.h>

#include <tuple>

#include "base/field_error.h"

namespace fovea {
namespace {

using Type = ContentPart::Type;

TEST(ParseMessages, ReadsTextAsStringOrParts) {
  const auto messages = parse_messages(R"([{"role": "system", "content": "S"},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}]}, {"role": "assistant", "content": []}])");
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_EQ(messages[0].role, "system");
  ASSERT_EQ(messages[0].content.size(), 1u);
  EXPECT_EQ(messages[0].content[0].text, "S");
  ASSERT_EQ(messages[1].content.size(), 2u);
  EXPECT_EQ(messages[1].content[1].text, "b");
  EXPECT_TRUE(messages[2].content.empty());
}

TEST(ParseMessages, ReadsTheOpenAiForms) {
  const auto messages = parse_messages(R"({"messages": [{"role": "user", "content": [
      {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "auto"}},
      {"type": "image_url", "image_url": "file:///a.jpg"}, {"type": "video_url", "video_url": {"url": "/v.mp4"}}]}]})");
  const auto& parts = messages.at(0).content;
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].type, Type::image);
  EXPECT_EQ(parts[0].source, "data:image/png;base64,AA==");
  EXPECT_EQ(parts[1].source, "file:///a.jpg");
  EXPECT_EQ(parts[2].type, Type::video);
  EXPECT_EQ(parts[2].source, "/v.mp4");
}

TEST(ParseMessages, ReadsTheQwenForms) {
  const auto messages = parse_messages(R"([{"role": "user", "content": [
      {"type": "image", "image": "a.jpg", "min_pixels": 3136, "max_pixels": 12845056, "max_image_tokens": 300},
      {"type": "video", "video": ["1.png", "file:///2.png"], "fps": 2.5, "max_pixels": 50176},
      {"video": "v.mp4", "fps": 1, "min_pixels": null}, {"type": "image", "path": "p"}, {"type": "image", "url": "u"}]}])");
  const auto& parts = messages.at(0).content;
  ASSERT_EQ(parts.size(), 5u);
  EXPECT_EQ(parts[0].source, "a.jpg");
  EXPECT_EQ(parts[0].min_pixels, 3136);
  EXPECT_EQ(parts[0].max_pixels, 12845056);
  EXPECT_EQ(parts[0].max_image_tokens, 300);
  EXPECT_FALSE(parts[0].fps);
  EXPECT_EQ(parts[1].type, Type::video);
  EXPECT_TRUE(parts[1].source.empty());
  EXPECT_EQ(parts[1].frames, (std::vector<std::string>{"1.png", "file:///2.png"}));
  EXPECT_EQ(parts[1].fps, 2.5);
  EXPECT_EQ(parts[2].source, "v.mp4");
  EXPECT_EQ(parts[2].fps, 1.0);
  EXPECT_FALSE(parts[2].min_pixels);
  EXPECT_EQ(parts[3].source, "p");
  EXPECT_EQ(parts[4].source, "u");
}

TEST(ParseMessages, ReadsTheFieldsOfQwensReadme) {
  const auto messages = parse_messages(R"([{"role": "user", "content": [
      {"type": "image", "image": "a.jpg", "resized_height": 280, "resized_width": 420},
      {"type": "video", "video": "v.mp4", "nframes": 8, "total_pixels": 16056320, "video_start": 1, "video_end": 7.5},
      {"type": "video", "video": "v.mp4", "fps": "0.5", "min_frames": 6, "max_frames": 60, "resized_height": 28, "resized_width": 56},
      {"type": "video", "video": ["1.png", "2.png", "3.png"], "sample_fps": "1.0", "raw_fps": 24, "nframes": 3},
      {"type": "video", "video": ["1.png"], "sample_fps": 2, "fps": 2.0, "nframes": 2, "min_frames": 2}]}])");
  const auto& parts = messages.at(0).content;
  ASSERT_EQ(parts.size(), 5u);
  EXPECT_EQ(parts[0].resized_height, 280);
  EXPECT_EQ(parts[0].resized_width, 420);
  EXPECT_EQ(parts[1].nframes, 8);
  EXPECT_EQ(parts[1].total_pixels, 16056320);
  EXPECT_EQ(parts[1].video_start, 1.0);
  EXPECT_EQ(parts[1].video_end, 7.5);
  EXPECT_EQ(parts[2].fps, 0.5);
  EXPECT_EQ(parts[2].min_frames, 6);
  EXPECT_EQ(parts[2].max_frames, 60);
  EXPECT_EQ(parts[2].resized_width, 56);
  EXPECT_EQ(parts[3].fps, 1.0);
  EXPECT_FALSE(parts[3].nframes);  // says how many are listed anyway
  EXPECT_EQ(parts[4].fps, 2.0);
  EXPECT_FALSE(parts[4].min_frames);
}

TEST(ParseMessages, ReadsWhatToolsAndTheirResultsLookLike) {
  const auto messages = parse_messages(R"([
      {"role": "user", "content": "?"},
      {"role": "assistant", "content": null, "tool_calls": [{"id": "c"}]},
      {"role": "assistant", "tool_calls": []},
      {"role": "tool", "tool_call_id": "c", "name": "weather", "content": "4 degrees"},
      {"role": "assistant", "content": "Cold.", "tool_calls": null}])");
  ASSERT_EQ(messages.size(), 5u);
  EXPECT_TRUE(messages[1].content.empty());
  ASSERT_EQ(messages[1].notes.size(), 1u);
  EXPECT_NE(messages[1].notes[0].find("messages[1].tool_calls is not shown to the model"), std::string::npos);
  EXPECT_TRUE(messages[2].content.empty());
  EXPECT_EQ(messages[3].role, "tool");
  EXPECT_EQ(messages[3].content.at(0).text, "4 degrees");
  EXPECT_TRUE(messages[4].notes.empty());
}

TEST(ParseMessages, DetailIsReadAndLowIsSaidToChangeNothing) {
  const auto notes = [](const std::string& detail) {
    return parse_messages(
               R"([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a", "detail": ")" +
               detail + R"("}}]}])")
        .at(0)
        .notes;
  };
  EXPECT_TRUE(notes("auto").empty());
  EXPECT_TRUE(notes("high").empty());
  ASSERT_EQ(notes("low").size(), 1u);
  EXPECT_NE(notes("low")[0].find("messages[0].content[0].image_url.detail"), std::string::npos);
}

TEST(ParseMessages, SourcesAreShownWithTheirPlaceAndMayBeReplaced) {
  auto messages = parse_messages(R"([{"role": "system", "content": "S"}, {"role": "user", "content": [
      {"text": "t"}, {"image_url": {"url": "a"}}, {"image": "b"}, {"video": ["c", "d"]}]}])");
  std::vector<std::string> seen;
  for_each_source(messages, [&](std::string& source, const std::string& where) {
    seen.push_back(where + '=' + source);
    source += "!";
  });
  EXPECT_EQ(seen, (std::vector<std::string>{
                      "messages[1].content[1].image_url=a", "messages[1].content[2].image=b",
                      "messages[1].content[3].video[0]=c", "messages[1].content[3].video[1]=d"}));
  EXPECT_EQ(messages[1].content[1].source, "a!");
  EXPECT_EQ(messages[1].content[3].frames[1], "d!");
}

TEST(ParseMessages, ErrorsCarryTheFieldsPath) {
  const auto field_of = [](const std::string& list) {
    try {
      parse_messages(list);
    } catch (const FieldError& error) {
      return error.field();
    }
    return std::string("accepted");
  };
  EXPECT_EQ(field_of("7"), "messages");
  EXPECT_EQ(field_of("{"), "");
  EXPECT_EQ(field_of(R"([{"role": "king"}])"), "messages[0].role");
  EXPECT_EQ(field_of(R"([{"role": "user", "content": [{"image": "a", "min_pixels": 9, "max_pixels": 8}]}])"),
            "messages[0].content[0].min_pixels");
  EXPECT_EQ(field_of(R"([{"role": "user", "content": [{"image_url": {"url": ""}}]}])"),
            "messages[0].content[0].image_url.url");
}

std::string error_of(const std::string& list, ErrorKind& kind) {
  try {
    parse_messages(list);
  } catch (const Error& error) {
    kind = error.kind();
    EXPECT_FALSE(error.remedy().empty());
    return error.message();
  }
  return "accepted";
}

struct BadList {
  const char* json;
  const char* words;
  ErrorKind kind = ErrorKind::invalid_argument;
};

class BadMessages : public testing::TestWithParam<BadList> {};

TEST_P(BadMessages, NamesTheField) {
  ErrorKind kind{};
  const std::string message = error_of(GetParam().json, kind);
  EXPECT_NE(message.find(GetParam().words), std::string::npos) << message;
  EXPECT_EQ(kind, GetParam().kind) << message;
}

INSTANTIATE_TEST_SUITE_P(
    Lists, BadMessages,
    testing::ValuesIn(std::vector<BadList>{
        {"", "not valid JSON"},
        {"[", "not valid JSON"},
        {"7", "not a list"},
        {"[]", "not a list of at least one"},
        {"{}", "no field \"messages\""},
        {R"({"messages": {}})", "not a list"},
        {R"({"messages": [{"role": "user", "content": "x"}], "model": "m"})", "model",
         ErrorKind::unsupported},
        {"[7]", "messages[0] is not an object"},
        {R"([{"content": "x"}])", "messages[0] has no field \"role\""},
        {R"([{"role": 1, "content": "x"}])", "messages[0].role"},
        {R"([{"role": "developer", "content": "x"}])", "messages[0].role = \"developer\"",
         ErrorKind::unsupported},
        {R"([{"role": "assistant"}])", "messages[0].content"},
        {R"([{"role": "assistant", "tool_calls": null}])", "messages[0].content"},
        {R"([{"role": "user", "content": null, "tool_calls": [{}]}])", "messages[0].tool_calls",
         ErrorKind::unsupported},
        {R"([{"role": "tool"}])", "messages[0].content"},
        {R"([{"role": "assistant", "content": "x", "tool_calls": {}}])", "messages[0].tool_calls"},
        {R"([{"role": "assistant", "content": "x", "audio": {}}])", "messages[0].audio",
         ErrorKind::unsupported},
        {R"([{"role": "user", "content": "x"}, {"role": "user"}])", "messages[1].content"},
        {R"([{"role": "user", "content": 1}])", "messages[0].content"},
        {R"([{"role": "user", "content": {}}])", "messages[0].content"},
        {R"([{"role": "user", "content": "x", "audio": {}}])", "messages[0].audio", ErrorKind::unsupported},
        {R"([{"role": "user", "content": ["x"]}])", "messages[0].content[0] is not an object"},
        {R"([{"role": "user", "content": [{}]}])", "messages[0].content[0] has no field \"type\""},
        {R"([{"role": "user", "content": [{"type": "audio"}]}])", "content[0].type = \"audio\"",
         ErrorKind::unsupported},
        {R"([{"role": "user", "content": [{"type": "text"}]}])", "content[0] has no field \"text\""},
        {R"([{"role": "user", "content": [{"type": "text", "text": 5}]}])", "content[0].text"},
        {R"([{"role": "user", "content": [{"text": "x", "colour": 5}]}])", "content[0].colour",
         ErrorKind::unsupported},
        {R"([{"role": "user", "content": [{"text": "x"}, {"type": "image"}]}])",
         "content[1] has no field \"image\""},
        {R"([{"role": "user", "content": [{"image": ""}]}])", "content[0].image"},
        {R"([{"role": "user", "content": [{"image": ["a"]}]}])", "content[0].image"},
        {R"([{"role": "user", "content": [{"image": "a", "image_url": "b"}]}])",
         "both \"image\" and \"image_url\""},
        {R"([{"role": "user", "content": [{"image": "http://x/y.jpg"}]}])", "network address",
         ErrorKind::unsupported},
        {R"([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}])",
         "content[0].image_url.url is a network address", ErrorKind::unsupported},
        {R"([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])",
         "image_url has no field \"url\""},
        {R"([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a", "detail": "tiny"}}]}])",
         "image_url.detail", ErrorKind::unsupported},
        {R"([{"role": "user", "content": [{"image": "a", "min_pixels": -1}]}])", "content[0].min_pixels"},
        {R"([{"role": "user", "content": [{"image": "a", "min_pixels": 1.5}]}])", "content[0].min_pixels"},
        {R"([{"role": "user", "content": [{"image": "a", "max_pixels": 0}]}])", "content[0].max_pixels"},
        {R"([{"role": "user", "content": [{"image": "a", "max_pixels": 18446744073709551615}]}])",
         "content[0].max_pixels"},
        {R"([{"role": "user", "content": [{"image": "a", "max_image_tokens": 0}]}])",
         "content[0].max_image_tokens is not a positive number of tokens"},
        {R"([{"role": "user", "content": [{"image": "a", "min_pixels": 9, "max_pixels": 8}]}])",
         "greater than max_pixels"},
        {R"([{"role": "user", "content": [{"image": "a", "resized_height": 28}]}])", "only one of"},
        {R"([{"role": "user", "content": [{"image": "a", "resized_height": 0, "resized_width": 5}]}])",
         "content[0].resized_height is not a positive number of pixels"},
        {R"([{"role": "user", "content": [{"image": "a", "resized_height": 2e6, "resized_width": 5}]}])",
         "content[0].resized_height"},
        {R"([{"role": "user", "content": [{"image": "a", "nframes": 2}]}])", "content[0].nframes",
         ErrorKind::unsupported},
        {R"([{"role": "user", "content": [{"image": "a", "fps": 2}]}])", "content[0].fps",
         ErrorKind::unsupported},
        {R"([{"role": "user", "content": [{"video": []}]}])", "content[0].video is an empty list"},
        {R"([{"role": "user", "content": [{"video": ["a", 2]}]}])", "content[0].video[1]"},
        {R"([{"role": "user", "content": [{"video": "a", "fps": 0}]}])", "content[0].fps"},
        {R"([{"role": "user", "content": [{"video": "a", "fps": 1e999}]}])", "not valid JSON"},
        {R"([{"role": "user", "content": [{"video": ["a", "b"], "fps": 1e-20}]}])",
         "content[0].fps is not a number from"},
        {R"([{"role": "user", "content": [{"video": ["a", "b"], "sample_fps": "1e-20"}]}])",
         "content[0].sample_fps"},
        {R"([{"role": "user", "content": [{"video": ["a", "b"], "sample_fps": "fast"}]}])",
         "content[0].sample_fps"},
        {R"([{"role": "user", "content": [{"video": ["a", "b"], "sample_fps": "NaN"}]}])",
         "content[0].sample_fps"},
        {R"([{"role": "user", "content": [{"video": ["a", "b"], "sample_fps": 1, "fps": 2}]}])",
         "fps 2 and sample_fps 1"},
        {R"([{"role": "user", "content": [{"video": "a", "sample_fps": 1}]}])", "content[0].sample_fps",
         ErrorKind::unsupported},
        {R"([{"role": "user", "content": [{"video": "a", "nframes": 8, "fps": 1}]}])",
         "both \"fps\" and \"nframes\""},
        {R"([{"role": "user", "content": [{"video": "a", "nframes": 0}]}])", "content[0].nframes"},
        {R"([{"role": "user", "content": [{"video": ["a"], "nframes": 3}]}])",
         "content[0].nframes does not fit a list of 1 frames"},
        {R"([{"role": "user", "content": [{"video": ["a"], "video_start": 1}]}])",
         "content[0].video_start does not fit"},
        {R"([{"role": "user", "content": [{"video": "a", "video_end": -1}]}])", "content[0].video_end"},
        {R"([{"role": "user", "content": [{"video": "a", "min_frames": 9, "max_frames": 8}]}])",
         "min_frames is greater"},
        {R"([{"role": "user", "content": [{"video": "a", "total_pixels": "many"}]}])",
         "content[0].total_pixels"},
        {"[{\"role\": \"user\", \"content\": \"\xff\"}]", "not valid JSON"}}));

TEST(ParseMessages, DeepNestingIsAnErrorNotACrash) {
  ErrorKind kind{};
  EXPECT_NE(error_of(std::string(2'000'000, '['), kind), "accepted");
  std::string closed =
      R"([{"role": "user", "content": )" + std::string(500'000, '[') + std::string(500'000, ']') + "}]";
  EXPECT_NE(error_of(closed, kind), "accepted");
}

std::string outline(const std::vector<Message>& messages) {
  std::string text;
  for (const Message& message : messages) {
    text += message.role + ":";
    for (const ContentPart& part : message.content) {
      text += part.type == Type::text    ? " \"" + part.text + "\""
              : part.type == Type::image ? " i(" + part.source + ")"
                                         : " v(" + part.source + ")";
    }
    text += ";";
  }
  return text;
}

TEST(MessagesFromPrompt, PutsItemsWhereThePromptSays) {
  EXPECT_EQ(outline(messages_from_prompt("x", {}, {}, {})), "user: \"x\";");
  EXPECT_EQ(outline(messages_from_prompt("", {}, {}, {})), "user:;");
  EXPECT_EQ(outline(messages_from_prompt("x", {}, {}, "be")), "system: \"be\";user: \"x\";");
  EXPECT_EQ(outline(messages_from_prompt("x", {}, {}, "")), "system:;user: \"x\";");
  EXPECT_EQ(outline(messages_from_prompt("x", {"a", "b"}, {"v"}, {})), "user: i(a) i(b) v(v) \"x\";");
  EXPECT_EQ(outline(messages_from_prompt("a <image> b<video><image>", {"1", "2"}, {"v"}, {})),
            "user: \"a \" i(1) \" b\" v(v) i(2);");
  EXPECT_EQ(outline(messages_from_prompt("<video>!", {"1", "2"}, {"v"}, {})), "user: i(1) i(2) v(v) \"!\";");
  EXPECT_EQ(outline(messages_from_prompt("<image <images>", {}, {}, {})), "user: \"<image <images>\";");
}

TEST(MessagesFromPrompt, APlaceholderWithoutAnItemIsRefused) {
  EXPECT_THROW(messages_from_prompt("<image>", {}, {"v"}, {}), Error);
  EXPECT_THROW(messages_from_prompt("<image><image>", {"a"}, {}, {}), Error);
  EXPECT_THROW(messages_from_prompt("<video>", {"a"}, {}, {}), Error);
}

TEST(MessagesFromPrompt, FewerPlaceholdersThanItemsAreRefused) {
  for (const auto& [images, videos, words] :
       {std::tuple(2, 0, "fewer <image> placeholders (1) than there are files (2)"),
        std::tuple(1, 3, "fewer <video> placeholders (1) than there are files (3)")}) {
    try {
      messages_from_prompt("a <image> b" + std::string(videos > 0 ? "<video>" : ""),
                           std::vector<std::string>(static_cast<size_t>(images), "i"),
                           std::vector<std::string>(static_cast<size_t>(videos), "v"), {});
      ADD_FAILURE() << "accepted: " << words;
    } catch (const Error& error) {
      EXPECT_NE(error.message().find(words), std::string::npos) << error.message();
      EXPECT_FALSE(error.remedy().empty());
    }
  }
}

}  // namespace
}  // namespace fovea
