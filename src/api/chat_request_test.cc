// Goal: every field of a chat request is read, accepted or refused as the table says, errors name the field's
// path, and hostile text is refused in few words. Method: small bodies; tables of bad ones with the path and
// words of their errors; the table of fields itself, field by field.
#include "api/chat_request.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "api/error_object.h"
#include "api/media_address.h"
#include "api/request_field_table.h"
#include "base/field_error.h"
#include "base/temporary_folder_testing.h"

namespace fovea {
namespace {

using nlohmann::json;
using Use = RequestField::Use;

const SourceRules kDataUrls = {};

// A body with a question and these fields beside it: R"("n": 2)".
std::string body(const std::string& fields) {
  return R"({"messages": [{"role": "user", "content": "Hi"}])" + (fields.empty() ? "" : ", " + fields) + "}";
}

ChatRequest read(const std::string& fields) { return parse_chat_request(body(fields), kDataUrls); }

TEST(ChatRequest, StatesNothingOfWhatIsNotSent) {
  const ChatRequest request = read("");
  EXPECT_EQ(request.model, "");
  ASSERT_EQ(request.messages.size(), 1u);
  EXPECT_EQ(request.messages[0].content.at(0).text, "Hi");
  EXPECT_FALSE(request.max_tokens || request.temperature || request.top_p || request.top_k || request.seed ||
               request.repetition_penalty);
  EXPECT_TRUE(request.stop.empty() && request.tools.empty() && request.warnings.empty());
  EXPECT_FALSE(request.ignore_eos || request.logprobs || request.stream || request.include_usage);
  EXPECT_EQ(request.n, 1);
  EXPECT_EQ(request.top_logprobs, 0);
  EXPECT_EQ(request.cache_salt, "");
}

TEST(ChatRequest, ReadsEveryField) {
  const ChatRequest request = read(R"("model": "m", "max_tokens": 7, "max_completion_tokens": 7.0,
      "temperature": 0.5, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.05, "seed": -1, "stop": ["a", "b"],
      "min_p": 0.1, "presence_penalty": -2, "frequency_penalty": 0.25, "logit_bias": {"7": -100, "0": 1.5},
      "ignore_eos": true, "n": 3, "logprobs": true, "top_logprobs": 20, "stream": true,
      "stream_options": {"include_usage": true, "include_obfuscation": false}, "cache_salt": "s")");
  EXPECT_EQ(request.model, "m");
  EXPECT_EQ(request.max_tokens, 7);
  EXPECT_EQ(request.temperature, 0.5);
  EXPECT_EQ(request.top_p, 0.9);
  EXPECT_EQ(request.top_k, 40);
  EXPECT_EQ(request.repetition_penalty, 1.05);
  EXPECT_EQ(request.min_p, 0.1);
  EXPECT_EQ(request.presence_penalty, -2);
  EXPECT_EQ(request.frequency_penalty, 0.25);
  EXPECT_EQ(request.logit_bias, (std::map<int32_t, double>{{0, 1.5}, {7, -100}}));
  EXPECT_EQ(request.seed, ~uint64_t{0});
  EXPECT_EQ(request.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(request.ignore_eos && request.logprobs && request.stream && request.include_usage);
  EXPECT_EQ(request.n, 3);
  EXPECT_EQ(request.top_logprobs, 20);
  EXPECT_EQ(request.cache_salt, "s");
  EXPECT_TRUE(request.warnings.empty());
}

TEST(ChatRequest, TakesTheOtherFormsOfFields) {
  EXPECT_EQ(read(R"("stop": "x")").stop, std::vector<std::string>{"x"});
  EXPECT_TRUE(read(R"("stop": [])").stop.empty());
  EXPECT_EQ(read(R"("top_k": -1)").top_k, 0);
  EXPECT_EQ(read(R"("max_tokens": 5)").max_tokens, 5);
  EXPECT_EQ(read(R"("max_completion_tokens": 6, "max_tokens": null)").max_tokens, 6);
  EXPECT_EQ(read(R"("seed": 18446744073709551615)").seed, ~uint64_t{0});
  EXPECT_FALSE(read(R"("temperature": null, "logprobs": null, "stream_options": null)").temperature);
}

TEST(ChatRequest, ToolsAreShownAsQwensTemplateShowsThem) {
  const std::string tools =
      R"("tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"z": {}, "a": {}}}}}])";
  const ChatRequest request = read(tools + R"(, "tool_choice": "auto")");
  ASSERT_EQ(request.tools.size(), 1u);
  EXPECT_EQ(request.tools[0].name, "f");
  // In the order in which they were sent.
  EXPECT_EQ(request.tools[0].parameters, R"({"type":"object","properties":{"z":{},"a":{}}})");
  EXPECT_EQ(
      request.tools[0].json,
      R"({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"z": {}, "a": {}}}}})");
  EXPECT_TRUE(request.warnings.empty());
  EXPECT_EQ(request.form.kind, AnswerForm::Kind::text);
  ASSERT_EQ(request.messages.front().role, "system");
  EXPECT_NE(request.messages.front().content.back().text.find(request.tools[0].json), std::string::npos);
  const ChatRequest none = read(tools + R"(, "tool_choice": "none")");
  EXPECT_TRUE(none.tools.empty() && none.warnings.empty());
  EXPECT_EQ(none.messages.front().role, "user");
}

TEST(ChatRequest, UnknownFieldsAreNamedInAWarning) {
  const ChatRequest request = read(R"("colour\u001b": 5, "absent": null, "reasoning_effort": "low")");
  ASSERT_EQ(request.warnings.size(), 2u);
  EXPECT_EQ(request.warnings[0].find("reasoning_effort has no effect"), 0u);
  EXPECT_NE(request.warnings[1].find(R"("colour\u001b")"), std::string::npos) << request.warnings[1];
  EXPECT_EQ(request.warnings[1].find("absent"), std::string::npos);
  std::string many = R"("f0": 0)";
  for (int i = 1; i < 100; ++i) many += ", \"f" + std::to_string(i) + "\": 0";
  EXPECT_NE(read(many).warnings.at(0).find("88 more"), std::string::npos);
}

TEST(ChatRequest, NotesOfMessagesAreWarnings) {
  const auto request = parse_chat_request(
      R"({"messages": [{"role": "user", "content": [{"type": "image_url",
          "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}]}]})",
      kDataUrls);
  ASSERT_EQ(request.warnings.size(), 1u);
  EXPECT_EQ(request.messages[0].content.at(0).source, "data:image/png;base64,AA==");
}

// The table is what the reader does.
TEST(RequestFieldTable, EveryFieldIsTreatedAsItSays) {
  std::set<std::string> names;
  for (const RequestField& field : request_fields()) {
    SCOPED_TRACE(field.name);
    EXPECT_TRUE(names.insert(field.name).second) << "stands twice";
    EXPECT_NE(std::string(field.what), "");
    const auto stated = [&](const std::string& value) {
      return read("\"" + std::string(field.name) + "\": " + value);
    };
    if (field.use == Use::neutral) {
      EXPECT_TRUE(stated(R"({"any": [1, "x"]})").warnings.empty());
    } else if (field.use == Use::hint) {
      EXPECT_EQ(stated("\"low\"").warnings.size(), 1u);
    } else if (field.use == Use::only) {
      const json nothing = json::parse(field.nothing);
      ASSERT_TRUE(nothing.is_array());
      for (const json& value : nothing) EXPECT_TRUE(stated(value.dump()).warnings.empty());
      try {
        stated(R"({"some": "thing"})");
        ADD_FAILURE() << "accepted";
      } catch (const FieldError& error) {
        EXPECT_EQ(error.kind(), ErrorKind::unsupported);
        EXPECT_EQ(error.field(), field.name);
      }
    } else {
      // An unread field would pass whatever it holds.
      const std::string bad = std::string(field.name) == "messages" ? "[]" : "[{}, 1]";
      const std::string other = std::string(field.name) == "messages" ? "" : body("").substr(1);
      EXPECT_THROW(parse_chat_request(
                       "{\"" + std::string(field.name) + "\": " + bad + (other.empty() ? "}" : ", " + other),
                       kDataUrls),
                   FieldError);
    }
  }
}

struct Bad {
  std::string fields, param, words;
  ErrorKind kind = ErrorKind::invalid_argument;
};

void expect_refused(const std::string& text, const Bad& bad) {
  SCOPED_TRACE(text.substr(0, 300));
  try {
    parse_chat_request(text, kDataUrls);
    ADD_FAILURE() << "accepted";
  } catch (const FieldError& error) {
    EXPECT_EQ(error.field(), bad.param) << error.what();
    EXPECT_NE(error.message().find(bad.words), std::string::npos) << error.message();
    EXPECT_EQ(error.kind(), bad.kind) << error.message();
    EXPECT_LT(error.message().size(), 1000u);
    EXPECT_FALSE(error.remedy().empty());
  }
}

TEST(ChatRequest, RefusesFieldsOutOfBounds) {
  constexpr auto kUnsupported = ErrorKind::unsupported;
  const Bad cases[] = {
      {R"("model": 5)", "model", "not a string"},
      {"\"model\": \"" + std::string(2000, 'm') + "\"", "model", "has 2000 bytes"},
      {R"("max_tokens": 0)", "max_tokens", "whole number from 1"},
      {R"("max_tokens": 1.5)", "max_tokens", "whole number"},
      {R"("max_tokens": 1e300)", "max_tokens", "whole number"},
      {R"("max_tokens": 99999999999999999999)", "max_tokens", "whole number"},
      {R"("max_tokens": "5")", "max_tokens", "whole number"},
      {R"("max_tokens": true)", "max_tokens", "whole number"},
      {R"("max_completion_tokens": -1)", "max_completion_tokens", "is -1"},
      {R"("max_completion_tokens": 5, "max_tokens": 6)", "max_completion_tokens", "max_tokens is 6"},
      {R"("temperature": -0.1)", "temperature", "number from 0"},
      {R"("temperature": 101)", "temperature", "number from 0"},
      {R"("temperature": "hot")", "temperature", "is \"hot\""},
      {R"("top_p": 1.01)", "top_p", "from 0 to 1"},
      {R"("top_k": -2)", "top_k", "from -1"},
      {R"("repetition_penalty": 0)", "repetition_penalty", "from 0.01"},
      {R"("seed": 0.5)", "seed", "whole number"},
      {R"("seed": 1e30)", "seed", "whole number"},
      {R"("stop": 5)", "stop", "not a string or a list"},
      {R"("stop": ["a", 5])", "stop", "not a string or a list"},
      {R"("stop": "")", "stop", "empty string"},
      {"\"stop\": " + json(std::vector<std::string>(65, "x")).dump(), "stop", "has 65 entries"},
      {R"("ignore_eos": 1)", "ignore_eos", "true or false"},
      {R"("n": 0)", "n", "from 1 to 128"},
      {R"("n": 129)", "n", "from 1 to 128"},
      {R"("logprobs": 5)", "logprobs", "true or false"},
      {R"("top_logprobs": 1)", "top_logprobs", "wants logprobs"},
      {R"("logprobs": true, "top_logprobs": 21)", "top_logprobs", "from 0 to 20"},
      {R"("stream": "yes")", "stream", "true or false"},
      {R"("stream_options": {})", "stream_options", "wants stream"},
      {R"("stream": true, "stream_options": [])", "stream_options", "not an object"},
      {R"("stream": true, "stream_options": {"include_usage": 1})", "stream_options.include_usage",
       "true or false"},
      {R"("stream": true, "stream_options": {"continuous_usage_stats": true})",
       "stream_options.continuous_usage_stats", "not supported", kUnsupported},
      {R"("tools": {})", "tools", "not a list"},
      {"\"tools\": " + json(std::vector<json>(129, json::object())).dump(), "tools", "at most 128"},
      {R"("tools": [5])", "tools[0]", "not an object"},
      {R"("tools": [{}])", "tools[0].type", "is missing"},
      {R"("tools": [{"type": "mcp"}])", "tools[0].type", "is \"mcp\"", kUnsupported},
      {R"("tools": [{"type": "function"}])", "tools[0].function", "is missing"},
      {R"("tools": [{"type": "function", "function": {"name": ""}}])", "tools[0].function.name",
       "is missing"},
      {R"("tool_choice": "required")", "tool_choice", "there are no tools"},
      {R"("tool_choice": {"type": "function", "function": {"name": "f"}})", "tool_choice",
       "none of the tools"},
      {R"("tool_choice": {"type": "function"})", "tool_choice.function", "is missing"},
      {R"("tool_choice": "some")", "tool_choice", "is \"some\""},
      {R"("response_format": {})", "response_format.type", "is missing"},
      {R"("response_format": {"type": "xml"})", "response_format.type", "is \"xml\"", kUnsupported},
      {R"("response_format": {"type": "json_schema"})", "response_format.json_schema", "is missing"},
      {R"("response_format": {"type": "json_object"}, "ignore_eos": true)", "ignore_eos",
       "exclude each other"},
      {R"("presence_penalty": 2.5)", "presence_penalty", "from -2 to 2"},
      {R"("frequency_penalty": "a")", "frequency_penalty", "from -2 to 2"},
      {R"("min_p": 1.5)", "min_p", "from 0 to 1"},
      {R"("logit_bias": [5])", "logit_bias", "no object"},
      {R"("logit_bias": {"five": 1})", "logit_bias", "no token id"},
      {R"("logit_bias": {"-5": 1})", "logit_bias", "no token id"},
      {R"("logit_bias": {"5 ": 1})", "logit_bias", "no token id"},
      {R"("logit_bias": {"99999999999": 1})", "logit_bias", "no token id"},
      {R"("logit_bias": {"5": 101})", "logit_bias.5", "from -100 to 100"},
      {R"("cache_salt": 5)", "cache_salt", "not a string"},
  };
  for (const Bad& bad : cases) expect_refused(body(bad.fields), bad);
}

TEST(ChatRequest, RefusesMessagesByTheirPath) {
  const auto content = [](const std::string& part) {
    return R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": [)" + part +
           "]}]}";
  };
  expect_refused("{}", {"", "messages", "is missing"});
  expect_refused(R"({"messages": []})", {"", "messages", "at least one message"});
  expect_refused(R"({"messages": [{"role": "king", "content": ""}]})",
                 {"", "messages[0].role", "is not supported", ErrorKind::unsupported});
  expect_refused(content(R"({"type": "image_url"})"), {"", "messages[1].content[0]", "no field"});
  expect_refused(content(R"({"type": "image_url", "image_url": {"url": 5}})"),
                 {"", "messages[1].content[0].image_url.url", "not a path or URL"});
  expect_refused(content(R"({"type": "image_url", "image_url": {"url": "https://x/y.png"}})"),
                 {"", "messages[1].content[0].image_url", "address of the scheme", ErrorKind::unsupported});
  expect_refused(content(R"({"type": "image_url", "image_url": {"url": "/etc/passwd"}})"),
                 {"", "messages[1].content[0].image_url", "local file"});
  expect_refused(content(R"({"text": "x"}, {"video": ["data:,", "file:///f.png"]})"),
                 {"", "messages[1].content[1].video[1]", "local file"});
}

TEST(ChatRequest, RefusesHostileText) {
  expect_refused("", {"", "", "not valid JSON"});
  expect_refused("[]", {"", "", "no JSON object"});
  expect_refused(std::string(100000, '['), {"", "", "nests deeper"});
  std::string deep = R"({"a":)";
  for (int i = 0; i < 40; ++i) deep += R"({"a":)";
  expect_refused(deep, {"", "", "nests deeper"});
  expect_refused(R"({"n": 1, "n": 1})", {"", "", "the key \"n\" twice"});
  expect_refused("{\"" + std::string(5000, 'k') + "\": 1, \"" + std::string(5000, 'k') + "\": 1}",
                 {"", "", "states the key"});
  expect_refused(body("\"model\": \"\xff\""), {"", "", "ill-formed UTF-8"});
  expect_refused("{\"model\": \"" + std::string(100000, 'a') + "\xc3\"}", {"", "", "ill-formed UTF-8"});
  expect_refused(std::string("{\"a\0\": 1}", 9), {"", "", "not valid JSON"});
  expect_refused(body("\"temperature\": 1e999"), {"", "", "not valid JSON"});
  expect_refused(body("\"temperature\": NaN"), {"", "", "not valid JSON"});
  expect_refused(body("") + "x", {"", "", "not valid JSON"});
  expect_refused(std::string(static_cast<size_t>(kMaxRequestBytes) + 1, ' '),
                 {"", "", "the limit is 67108864", ErrorKind::exhausted});
  // Text itself may hold anything.
  EXPECT_EQ(parse_chat_request(R"({"messages": [{"role": "user", "content": "a\u0000b"}]})", kDataUrls)
                .messages[0]
                .content[0]
                .text,
            std::string("a\0b", 3));
}

std::string source_error(const std::string& source, const SourceRules& rules) {
  try {
    admitted_source(source, rules, "field");
  } catch (const FieldError& error) {
    EXPECT_EQ(error.field(), "field");
    return error.message();
  }
  return "admitted";
}

TEST(SourceRules, FoldersHoldWhatIsInThemAndNothingElse) {
  const TemporaryFolder folder;
  folder.write("open/a b.png", "x");
  folder.write("open/deep/c.png", "x");
  folder.write("open-too/d.png", "x");
  folder.write("secret.png", "x");
  const auto root = std::filesystem::canonical(folder.path());
  std::filesystem::create_symlink(root / "secret.png", root / "open/link.png");
  std::filesystem::create_symlink(root / "open/deep", root / "open/inner");
  const SourceRules rules{SourceRules::Kind::folders, {root / "open/", "/no/such/folder"}, {}};
  const std::string file = (root / "open/a b.png").string();
  EXPECT_EQ(admitted_source(file, rules, ""), file);
  EXPECT_EQ(admitted_source("file://" + (root / "open/a%20b.png").string(), rules, ""), file);
  EXPECT_EQ(admitted_source((root / "open/inner/c.png").string(), rules, ""),
            (root / "open/deep/c.png").string());
  EXPECT_EQ(admitted_source("data:,", rules, ""), "data:,");
  const std::string outside = "field names no file within the folders that are allowed";
  for (const char* name : {"secret.png", "open/link.png", "open/../secret.png", "open-too/d.png",
                           "absent.png", "open/absent.png", "open/%2e%2e/secret.png"}) {
    EXPECT_EQ(source_error("file://" + (root / name).string(), rules), outside) << name;
  }
  EXPECT_NE(source_error("deep/c.png", rules).find("no absolute path"), std::string::npos);
  EXPECT_NE(source_error("file:///a%00b", rules).find("NUL"), std::string::npos);
  const SourceRules relative{SourceRules::Kind::folders, {root / "open"}, root / "open"};
  EXPECT_EQ(admitted_source("deep/c.png", relative, ""), (root / "open/deep/c.png").string());
  EXPECT_EQ(source_error("../secret.png", relative), outside);
}

TEST(SourceRules, AddressesOnlyOfDomainsThatAreAllowed) {
  SourceRules rules;
  rules.domains = {"pictures.example", "Other.Example:8443"};
  for (const char* source : {"https://pictures.example/a.png", "HTTPS://Pictures.Example:443/a?b#c",
                             "https://other.example:8443", "https://pictures.example./a"}) {
    EXPECT_EQ(admitted_source(source, rules, ""), source);
  }
  for (const char* source :
       {"https://pictures.example:444/a", "https://other.example/a", "https://x.pictures.example/a",
        "https://pictures.example.attacker.example/", "https://pictures.example@attacker.example/"}) {
    EXPECT_NE(source_error(source, rules), "admitted") << source;
  }
  EXPECT_NE(source_error("http://pictures.example/a", rules).find("no https"), std::string::npos);
  EXPECT_NE(source_error("/etc/passwd", rules).find("local file"), std::string::npos);
}

TEST(MediaAddress, IsReadOrRefused) {
  const MediaAddress address = parse_media_address("https://A.example:8443?q=1#x", "");
  EXPECT_EQ(address.host, "a.example");
  EXPECT_EQ(address.port, 8443);
  EXPECT_EQ(address.target, "/?q=1");
  for (const std::string& url :
       {std::string("https://"), std::string("https:///a"), std::string("https://[::1]/a"),
        std::string("https://a:0/"), std::string("https://a:65536/"), std::string("https://a:80x/"),
        std::string("https://a b/"), std::string("https://a/b c"), std::string("https://a/\r\nHost: b"),
        std::string("https://a\\@b/"), std::string("https://u:p@a/"), std::string("https://a/\0b", 12),
        std::string("ftp://a/"), std::string("https:/a"), std::string("https://\xc3\xa4/"),
        "https://a/" + std::string(kLongestMediaAddress, 'x')}) {
    EXPECT_THROW(parse_media_address(url, "field"), FieldError) << url.substr(0, 60);
  }
}

TEST(SourceRules, AnyFileAndNoFile) {
  const SourceRules any{SourceRules::Kind::any_file, {}, "/batch/folder"};
  EXPECT_EQ(admitted_source("a.png", any, ""), "/batch/folder/a.png");
  EXPECT_EQ(admitted_source("../a.png", any, ""), "/batch/a.png");
  EXPECT_EQ(admitted_source("/x/a.png", any, ""), "/x/a.png");
  EXPECT_EQ(admitted_source("file:///x/a%20b.png", any, ""), "file:///x/a%20b.png");
  for (const char* source : {"http://x", "HTTPS://x", "ftp://x", "rtsp://x"}) {
    EXPECT_NE(source_error(source, any).find("address of the scheme"), std::string::npos) << source;
  }
  for (const char* source : {"a.png", "/x/a.png", "file:///x/a.png", "File:///x"}) {
    EXPECT_NE(source_error(source, kDataUrls).find("local file"), std::string::npos) << source;
  }
}

TEST(ErrorObject, HasOpenAisForm) {
  const auto refused =
      error_object(FieldError(ErrorKind::unsupported, "messages[0].role", "is \x1b no", "do this"));
  EXPECT_EQ(refused.dump(),
            R"({"error":{"message":"messages[0].role is \\x1b no. do this","type":"invalid_request_error",)"
            R"("param":"messages[0].role","code":"unsupported"}})");
  const Error numeric(ErrorKind::numeric, "not finite \xff" + std::string(10000, 'x'), "use fp32");
  const auto failed = error_object(numeric);
  EXPECT_EQ(failed["error"]["type"], "server_error");
  EXPECT_TRUE(failed["error"]["param"].is_null());
  EXPECT_LT(failed.dump().size(), 2200u);  // would throw on malformed UTF-8
  EXPECT_EQ(http_status(numeric), 500);
  EXPECT_EQ(http_status(Error(ErrorKind::exhausted, "too long", "less")), 400);
}

}  // namespace
}  // namespace fovea
