// Goal: routes, refusals and the whole life of a request are as OpenAI's clients expect, and company changes
// nothing. Method: the service on the small model with its engine's thread, and writers that keep what they
// are given in place of sockets.
#include "serve/service.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <random>
#include <sstream>
#include <thread>

#include "base/temporary_folder_testing.h"
#include "serve/kept_answer_testing.h"

namespace fovea {
namespace {

using nlohmann::json;

const std::filesystem::path kSource = FOVEA_SOURCE_DIR;
const std::filesystem::path kPicture = kSource / "tests/golden/one_image/inputs/image0.png";

const Engine& demo() {
  static const Engine engine = Engine::open(kSource / "models/fovea-demo", {}, {});
  return engine;
}

class ServiceTest : public testing::Test {
 protected:
  ServiceTest() {
    options.model = "demo";
    options.version = {{"version", "1.2.3"}};
    options.access.host = "127.0.0.1";
    limits.max_num_seqs = 4;
    limits.kv_cache_bytes = 64 * BatchEngine::block_bytes(demo());
  }
  ~ServiceTest() override { stop(); }

  void open() { service = std::make_unique<Service>(options); }
  void start() {
    if (!service) open();
    loop = std::make_unique<EngineLoop>(demo(), limits, nullptr);
    service->serve(demo(), *loop);
    thread = std::thread([this] { loop->run([this] { return !stopped; }); });
  }
  void stop() {
    stopped = true;
    if (thread.joinable()) thread.join();
    if (service) service->stop();
    if (loop) loop->fail_all(std::make_exception_ptr(unavailable("shutting_down", "the end")));
  }

  // As the HTTP server asks: first the head, then the whole.
  std::shared_ptr<KeptAnswer> send(const std::string& method, const std::string& target,
                                   const std::string& body = "", HttpHeaders headers = {}) {
    HttpRequest request;
    request.head.method = method;
    request.head.target = target;
    request.head.headers = {{"Host", "localhost:1"}};
    if (!body.empty()) request.head.headers.emplace_back("Content-Type", "application/json");
    request.head.headers.insert(request.head.headers.end(), headers.begin(), headers.end());
    request.body = std::make_shared<const std::string>(body);
    const auto answer = std::make_shared<KeptAnswer>();
    if (auto early = service->answer_early(request.head)) {
      answer->respond(std::move(*early));
    } else {
      service->handle(std::move(request), answer);
    }
    return answer;
  }
  HttpResponse ask(const std::string& method, const std::string& target, const json& body = nullptr,
                   HttpHeaders headers = {}) {
    return send(method, target, body.is_null() ? "" : body.dump(), std::move(headers))->wait();
  }
  HttpResponse chat(const json& body, HttpHeaders headers = {}) {
    return ask("POST", "/v1/chat/completions", body, std::move(headers));
  }
  static json question(const json& content, const json& more = json::object()) {
    json body = {{"messages", {{{"role", "user"}, {"content", content}}}}, {"max_tokens", 12}, {"seed", 1}};
    body.update(more);
    return body;
  }
  // Goes on until it is cancelled, or for 1,500 tokens.
  static json endless_question() {
    return question("go on", {{"ignore_eos", true}, {"max_tokens", 1500}, {"stream", true}});
  }
  static std::string picture_url(const std::filesystem::path& path = kPicture) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text = "data:image/png;base64,";
    for (size_t i = 0; i < bytes.size(); i += 3) {
      uint32_t bits = 0;
      for (size_t k = 0; k < 3; ++k)
        bits = bits << 8 | (i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0);
      for (size_t k = 0; k < 4; ++k) text += i + k > bytes.size() ? '=' : kDigits[bits >> (18 - 6 * k) & 63];
    }
    return text;
  }
  static json with_picture(const std::string& text, const std::string& url) {
    return {{{"type", "image_url"}, {"image_url", {{"url", url}}}}, {{"type", "text"}, {"text", text}}};
  }
  static std::vector<json> events(const HttpResponse& response) {
    std::vector<json> found;
    std::istringstream lines(response.body);
    bool done = false;
    for (std::string line; std::getline(lines, line);) {
      if (line.empty()) continue;
      EXPECT_FALSE(done) << line;
      EXPECT_TRUE(line.starts_with("data: ")) << line;
      if (line == "data: [DONE]") {
        done = true;
      } else {
        found.push_back(json::parse(line.substr(6)));
      }
    }
    EXPECT_TRUE(done);
    return found;
  }
  static std::string code(const HttpResponse& response) {
    return json::parse(response.body).at("error").at("code").get<std::string>();
  }

  ServiceOptions options;
  BatchLimits limits;
  std::unique_ptr<Service> service;
  std::unique_ptr<EngineLoop> loop;
  std::thread thread;
  std::atomic<bool> stopped{false};
};

TEST_F(ServiceTest, RoutesAndRefusals) {
  options.access.keys = ApiKeys::parse("secret");
  const HttpHeaders key = {{"Authorization", "Bearer secret"}};
  open();
  EXPECT_EQ(ask("GET", "/health").status, 503);
  EXPECT_EQ(code(ask("POST", "/v1/chat/completions", question("x"), key)), "loading");
  EXPECT_EQ(ask("GET", "/v1/models", nullptr, key).status, 200);
  EXPECT_EQ(ask("GET", "/metrics", nullptr, key).status, 200);
  start();
  EXPECT_EQ(ask("GET", "/health").status, 200);
  EXPECT_EQ(ask("HEAD", "/health").status, 200);
  EXPECT_EQ(json::parse(ask("GET", "/version").body)["version"], "1.2.3");
  EXPECT_EQ(code(ask("GET", "/v1/models")), "invalid_api_key");
  EXPECT_EQ(code(ask("GET", "/nowhere")), "invalid_api_key");
  EXPECT_EQ(code(ask("GET", "/nowhere", nullptr, key)), "not_found");
  EXPECT_EQ(ask("GET", "/v1/chat/completions", nullptr, key).status, 405);
  EXPECT_EQ(ask("POST", "/v1/models", question("x"), key).status, 405);
  EXPECT_EQ(ask("POST", "/v1/chat/completions", nullptr, key).status, 415);
  EXPECT_EQ(ask("OPTIONS", "/v1/chat/completions").status, 204);
  const json models = json::parse(ask("GET", "/v1/models?x=y", nullptr, key).body);
  EXPECT_EQ(models["data"][0]["id"], "demo");
  EXPECT_GT(models["data"][0]["max_model_len"], 100);
  EXPECT_EQ(json::parse(ask("GET", "/v1/models/demo", nullptr, key).body)["object"], "model");
  EXPECT_EQ(ask("GET", "/v1/models/other", nullptr, key).status, 404);
  service->drain();
  EXPECT_EQ(code(ask("GET", "/health")), "shutting_down");
  EXPECT_EQ(code(ask("POST", "/v1/chat/completions", question("x"), key)), "shutting_down");
  const HttpResponse refused = chat(question("x"), key);
  EXPECT_NE(std::ranges::find(refused.headers, std::pair<std::string, std::string>("Retry-After", "2")),
            refused.headers.end());
}

TEST_F(ServiceTest, EveryAnswerHasTheNameOfItsRequest) {
  start();
  const auto name = [](const HttpResponse& response) {
    for (const auto& [header, value] : response.headers) {
      if (header == "x-request-id") return value;
    }
    return std::string();
  };
  const HttpResponse named = chat(question("hello"), {{"X-Request-Id", "my-1"}});
  EXPECT_EQ(name(named), "my-1");
  EXPECT_EQ(json::parse(named.body)["id"], "chatcmpl-my-1");
  EXPECT_EQ(name(ask("GET", "/nowhere", nullptr, {{"X-Request-Id", "my-2"}})), "my-2");
  const std::string made = name(ask("GET", "/health", nullptr, {{"X-Request-Id", "bad name\r\nx: y"}}));
  EXPECT_EQ(made.size(), 32u);
  EXPECT_NE(made, name(ask("GET", "/health")));
}

TEST_F(ServiceTest, AnswersAsTheEngineDoesAlone) {
  start();
  const json answer = json::parse(chat(question("What is it?", {{"temperature", 0}})).body);
  Message message{"user", {ContentPart{}}, {}};
  message.content[0].text = "What is it?";
  GenerationOptions greedy = demo().default_generation();
  greedy.max_new_tokens = 12;
  greedy.choose_greedy();
  const Answer alone = demo().generate(demo().prepare({message}, {}, false), greedy, {});
  EXPECT_EQ(answer["choices"][0]["message"]["content"], alone.text);
  EXPECT_EQ(answer["choices"][0]["finish_reason"], alone.finish_reason);
  EXPECT_EQ(answer["usage"]["completion_tokens"], alone.token_ids.size());
  EXPECT_EQ(answer["usage"]["prompt_tokens"], alone.timings.prompt_tokens);
  EXPECT_EQ(answer["model"], "demo");
  EXPECT_EQ(chat(question("x", {{"model", "gpt-4"}})).status, 404);
  EXPECT_EQ(chat(question("x", {{"model", "demo"}})).status, 200);
}

TEST_F(ServiceTest, AStreamIsTheSameAnswerInPieces) {
  start();
  const json sampled = {{"temperature", 6}, {"top_k", 0},        {"top_p", 1},       {"n", 2},
                        {"logprobs", true}, {"top_logprobs", 2}, {"max_tokens", 20}, {"ignore_eos", true}};
  const json whole = json::parse(chat(question("Which colour?", sampled)).body);
  json streamed = sampled;
  streamed["stream"] = true;
  streamed["stream_options"] = {{"include_usage", true}};
  const HttpResponse response = chat(question("Which colour?", streamed));
  EXPECT_EQ(response.content_type, "text/event-stream; charset=utf-8");
  std::map<int, std::string> content, reason;
  std::map<int, json> logprobs;
  std::map<int, bool> role;
  std::vector<json> chunks = events(response);
  const json usage = chunks.back();
  chunks.pop_back();
  EXPECT_TRUE(usage["choices"].empty());
  EXPECT_EQ(usage["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
  for (const json& chunk : chunks) {
    ASSERT_EQ(chunk["choices"].size(), 1u) << chunk;
    EXPECT_TRUE(chunk.at("usage").is_null());
    EXPECT_EQ(chunk["object"], "chat.completion.chunk");
    const json& choice = chunk["choices"][0];
    const int index = choice["index"];
    EXPECT_EQ(reason.count(index), 0u) << "behind its end: " << chunk;
    if (!role[index]) {
      EXPECT_EQ(choice["delta"]["role"], "assistant");
      role[index] = true;
    }
    content[index] += choice["delta"].value("content", "");
    if (choice["logprobs"].is_object()) {
      for (const json& token : choice["logprobs"]["content"]) logprobs[index].push_back(token);
    }
    if (choice["finish_reason"].is_string()) reason[index] = choice["finish_reason"];
  }
  for (const json& choice : whole["choices"]) {
    const int index = choice["index"];
    EXPECT_EQ(content[index], choice["message"]["content"]);
    EXPECT_EQ(reason[index], choice["finish_reason"]);
    EXPECT_EQ(logprobs[index], choice["logprobs"]["content"]);
  }
  EXPECT_NE(content[0], content[1]);
  streamed.erase("stream_options");
  for (const json& chunk : events(chat(question("Which colour?", streamed)))) {
    EXPECT_EQ(chunk["choices"].size(), 1u);
    EXPECT_FALSE(chunk.contains("usage"));
  }
}

std::string comparable(const HttpResponse& response) {
  json body = json::parse(response.body);
  for (const char* name : {"id", "created"}) body.erase(name);
  if (body.contains("usage")) body["usage"].erase("prompt_tokens_details");
  return std::to_string(response.status) + body.dump();
}

TEST_F(ServiceTest, CompanyChangesNothing) {
  limits.max_num_seqs = 8;
  options.max_requests = 100;
  start();
  const std::string url = picture_url();
  std::vector<json> mix;
  for (int i = 0; i < 16; ++i) {
    const std::string text =
        "Count to " + std::to_string(i % 5) + " please. " + std::string(static_cast<size_t>(i) * 7, 'a');
    json body = i % 3 == 0 ? question(with_picture(text, url)) : question(text);
    if (i % 4 == 1)
      body.update({{"temperature", 1.3}, {"top_k", 0}, {"top_p", 0.95}, {"min_p", 0.01}, {"seed", i}});
    if (i % 5 == 2)
      body.update({{"frequency_penalty", 0.7}, {"presence_penalty", 0.3}, {"logit_bias", {{"5", -3}}}});
    if (i % 6 == 3) body.update({{"logprobs", true}, {"top_logprobs", 3}});
    if (i == 7) body["max_tokens"] = 100000;  // refused
    mix.push_back(std::move(body));
  }
  std::vector<std::string> alone;
  for (const json& body : mix) alone.push_back(comparable(chat(body)));
  EXPECT_TRUE(alone[7].starts_with("400"));
  std::mt19937 random(5);
  for (int round = 0; round < 2; ++round) {
    std::vector<size_t> order(mix.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    std::map<size_t, std::shared_ptr<KeptAnswer>> answers;
    std::vector<std::shared_ptr<KeptAnswer>> leaving;
    for (const size_t i : order) {
      answers[i] = send("POST", "/v1/chat/completions", mix[i].dump());
      if (i % 4 == 0) {
        json long_one = mix[i];
        long_one.update({{"ignore_eos", true}, {"max_tokens", 400}});
        leaving.push_back(send("POST", "/v1/chat/completions", long_one.dump()));
      }
    }
    for (const auto& one : leaving) one->go();
    for (const size_t i : order) EXPECT_EQ(comparable(answers[i]->wait()), alone[i]) << i;
  }
  for (int i = 0; i < 6000 && service->requests() > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(service->requests(), 0);
}

// vllm#20261, sglang#5455, hermes-agent#62574 and others: whose picture is it? llama.cpp#13424: small ones;
// gpustack#2083: one that is broken.
TEST_F(ServiceTest, OneBadPictureIsNobodyElsesAffair) {
  options.max_requests = 100;
  start();
  const std::string good = picture_url(), broken = good.substr(0, good.size() / 2 / 4 * 4);
  constexpr const char* kOnePixel =
      "data:image/"
      "png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5Erk"
      "Jggg==";
  const std::string alone = comparable(chat(question(with_picture("What?", good))));
  std::vector<std::shared_ptr<KeptAnswer>> fine, bad;
  for (int i = 0; i < 4; ++i) {
    fine.push_back(send("POST", "/v1/chat/completions", question(with_picture("What?", good)).dump()));
    bad.push_back(send("POST", "/v1/chat/completions", question(with_picture("What?", broken)).dump()));
    bad.push_back(send("POST", "/v1/chat/completions",
                       question(with_picture("What?", "data:image/png;base64,AAAA")).dump()));
  }
  EXPECT_EQ(chat(question(with_picture("What?", kOnePixel))).status, 200);
  for (const auto& answer : bad) EXPECT_EQ(answer->wait().status, 400);
  for (const auto& answer : fine) EXPECT_EQ(comparable(answer->wait()), alone);
}

TEST_F(ServiceTest, WhatIsKnownIsSharedWithinAKeyAndASalt) {
  options.access.keys = ApiKeys::parse("one\ntwo");
  start();
  const std::string text(600, 'b');
  const auto cached = [&](const char* key, const json& more) {
    const json body =
        json::parse(chat(question(text, more), {{"Authorization", std::string("Bearer ") + key}}).body);
    return body["usage"]["prompt_tokens_details"]["cached_tokens"].get<int>();
  };
  const json nothing = json::object();
  EXPECT_EQ(cached("one", nothing), 0);
  EXPECT_GT(cached("one", nothing), 0);
  EXPECT_EQ(cached("two", nothing), 0);
  EXPECT_EQ(cached("one", {{"cache_salt", "s"}}), 0);
  EXPECT_GT(cached("one", {{"cache_salt", "s"}}), 0);
}

TEST_F(ServiceTest, ACancelledRequestIsGoneWhereverItWas) {
  limits.max_num_seqs = 1;
  start();
  const json endless = endless_question();
  const auto running = send("POST", "/v1/chat/completions", endless.dump());
  running->wait_for_piece();
  const auto queued = send("POST", "/v1/chat/completions", endless.dump());
  const auto good = send("POST", "/v1/chat/completions", question("hello").dump());
  queued->go();
  running->go();
  EXPECT_EQ(good->wait().status, 200);
  for (int i = 0; i < 6000 && service->requests() > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(service->requests(), 0);
  EXPECT_EQ(loop->metrics().schedule.in(RequestState::done), 1);
}

TEST_F(ServiceTest, WhatFindsNoRoomIsRefused) {
  limits.max_num_seqs = 1;
  options.max_requests = 2;
  start();
  const json endless = endless_question();
  const auto first = send("POST", "/v1/chat/completions", endless.dump());
  first->wait_for_piece();
  const auto second = send("POST", "/v1/chat/completions", endless.dump());
  const HttpResponse third = chat(question("hello"));
  EXPECT_EQ(third.status, 503);
  EXPECT_EQ(code(third), "queue_full");
  first->go();
  second->go();
  for (int i = 0; i < 6000 && service->requests() > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(code(chat(question("hello", {{"n", 3}}))), "queue_full");
  EXPECT_EQ(chat(question("hello", {{"n", 2}})).status, 200);
  const HttpResponse never = chat(question("hello", {{"max_tokens", 5000}}));
  EXPECT_EQ(never.status, 400);
  EXPECT_NE(never.body.find("do not fit into a KV cache of 4096 tokens"), std::string::npos) << never.body;
  const HttpResponse picture = chat(question(with_picture("hello", picture_url()), {{"max_tokens", 5000}}));
  EXPECT_NE(picture.body.find("do not fit into a KV cache"), std::string::npos) << picture.body;
}

TEST_F(ServiceTest, FilesAndNetworkOnlyAsAllowed) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder.path() / "open");
  std::filesystem::copy(kPicture, folder.path() / "open/a.png");
  std::filesystem::copy(kPicture, folder.path() / "secret.png");
  options.sources.kind = SourceRules::Kind::folders;
  options.sources.folders = {folder.path() / "open"};
  options.sources.domains = {"localhost", "pictures.example"};
  options.limit_images = 2;
  start();
  const auto status = [&](const std::string& source) {
    const HttpResponse response = chat(question(with_picture("What?", source)));
    EXPECT_EQ(response.body.find("No such"), std::string::npos);
    return response.status;
  };
  EXPECT_EQ(status("file://" + (folder.path() / "open/a.png").string()), 200);
  EXPECT_EQ(status("file://" + (folder.path() / "secret.png").string()), 400);
  EXPECT_EQ(status("http://pictures.example/a.png"), 400);
  EXPECT_EQ(status("https://elsewhere.example/a.png"), 400);
  const HttpResponse inside = chat(question(with_picture("What?", "https://localhost/a.png")));
  EXPECT_NE(inside.body.find("not on the open internet"), std::string::npos) << inside.body;
  json three = json::array();
  for (int i = 0; i < 3; ++i)
    three.push_back({{"type", "image_url"}, {"image_url", {{"url", picture_url()}}}});
  const HttpResponse many = chat(question(three));
  EXPECT_NE(many.body.find("more than the 2 pictures"), std::string::npos) << many.body;
}

TEST_F(ServiceTest, CompletionsTokensAndCounts) {
  start();
  const json one = json::parse(
      ask("POST", "/v1/completions", {{"prompt", "one two"}, {"max_tokens", 5}, {"seed", 3}, {"logprobs", 2}})
          .body);
  EXPECT_EQ(one["object"], "text_completion");
  const json& logprobs = one["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"].size(), one["usage"]["completion_tokens"]);
  EXPECT_EQ(logprobs["text_offset"][0], 0);
  const json tokens =
      json::parse(ask("POST", "/tokenize", {{"prompt", "one two"}, {"return_token_strs", true}}).body);
  EXPECT_EQ(tokens["count"], tokens["tokens"].size());
  EXPECT_EQ(tokens["token_strs"].size(), tokens["tokens"].size());
  EXPECT_EQ(json::parse(ask("POST", "/detokenize", {{"tokens", tokens["tokens"]}}).body)["prompt"],
            "one two");
  const json by_ids = json::parse(
      ask("POST", "/v1/completions",
          {{"prompt", {tokens["tokens"], tokens["tokens"]}}, {"max_tokens", 5}, {"seed", 3}, {"logprobs", 2}})
          .body);
  ASSERT_EQ(by_ids["choices"].size(), 2u);
  for (const json& choice : by_ids["choices"]) EXPECT_EQ(choice["text"], one["choices"][0]["text"]);
  EXPECT_EQ(by_ids["usage"]["prompt_tokens"], 2 * one["usage"]["prompt_tokens"].get<int>());
  std::string text;
  for (const json& chunk :
       events(ask("POST", "/v1/completions",
                  {{"prompt", "one two"}, {"max_tokens", 5}, {"seed", 3}, {"stream", true}}))) {
    EXPECT_EQ(chunk["object"], "text_completion");
    text += chunk["choices"][0]["text"].get<std::string>();
  }
  EXPECT_EQ(text, one["choices"][0]["text"]);
  const json shown = question(with_picture("What?", picture_url()));
  const json counted = json::parse(ask("POST", "/v1/chat/completions/input_tokens", shown).body);
  EXPECT_EQ(counted["input_tokens"], json::parse(chat(shown).body)["usage"]["prompt_tokens"]);
  ASSERT_EQ(counted["pictures"].size(), 1u);
  const json& picture = counted["pictures"][0];
  EXPECT_EQ(picture["resized_width"].get<int>() * picture["resized_height"].get<int>(),
            picture["tokens"].get<int>() * 28 * 28);
  EXPECT_EQ(json::parse(ask("POST", "/tokenize", {{"messages", shown["messages"]}}).body)["count"],
            counted["input_tokens"]);
  EXPECT_EQ(ask("POST", "/v1/completions", {{"prompt", json::array()}}).status, 400);
  EXPECT_EQ(ask("POST", "/v1/completions", {{"prompt", {1, 99999999}}}).status, 400);
  EXPECT_EQ(ask("POST", "/detokenize", {{"tokens", {-1}}}).status, 400);
}

TEST_F(ServiceTest, AFormIsHeldToAndCallsOfToolsAreTakenOut) {
  start();
  const json schema = {{"type", "object"},
                       {"properties", {{"shape", {{"enum", {"circle", "star"}}}}}},
                       {"required", {"shape"}},
                       {"additionalProperties", false}};
  const json form = {{"type", "json_schema"}, {"json_schema", {{"name", "s"}, {"schema", schema}}}};
  const json answer =
      json::parse(chat(question("What?", {{"response_format", form}, {"max_tokens", 400}})).body);
  const json found = json::parse(answer["choices"][0]["message"]["content"].get<std::string>());
  EXPECT_TRUE(found["shape"] == "circle" || found["shape"] == "star") << found;
  const HttpResponse refused = chat(question(
      "What?", {{"response_format",
                 {{"type", "json_schema"}, {"json_schema", {{"name", "s"}, {"schema", {{"type", 5}}}}}}}}));
  EXPECT_EQ(refused.status, 400) << refused.body;
  const json tool = {{"type", "function"}, {"function", {{"name", "look"}, {"parameters", schema}}}};
  json calling = {
      {"tools", {tool}}, {"tool_choice", "required"}, {"max_tokens", 400}, {"parallel_tool_calls", false}};
  const json called = json::parse(chat(question("What?", calling)).body)["choices"][0];
  ASSERT_EQ(called["message"]["tool_calls"].size(), 1u) << called;
  EXPECT_EQ(called["finish_reason"], "tool_calls");
  calling["stream"] = true;
  std::string name, arguments, reason, content;
  for (const json& chunk : events(chat(question("What?", calling)))) {
    const json& choice = chunk["choices"][0];
    if (choice["finish_reason"].is_string()) reason = choice["finish_reason"];
    if (choice["delta"].contains("content") && choice["delta"]["content"].is_string()) {
      content += choice["delta"]["content"].get<std::string>();
    }
    if (!choice["delta"].contains("tool_calls")) continue;
    const json& function = choice["delta"]["tool_calls"][0]["function"];
    name += function.value("name", "");
    arguments += function.value("arguments", "");
  }
  EXPECT_EQ(name, "look");
  EXPECT_EQ(arguments, called["message"]["tool_calls"][0]["function"]["arguments"]);
  EXPECT_EQ(reason, "tool_calls");
  EXPECT_EQ(content, "");
}

TEST_F(ServiceTest, ThePageNeedsNoKey) {
  options.access.keys = ApiKeys::parse("secret");
  open();
  EXPECT_EQ(ask("GET", "/").content_type, "text/html; charset=utf-8");
  EXPECT_EQ(ask("GET", "/page.js").status, 200);
  EXPECT_EQ(code(ask("GET", "/page.html")), "invalid_api_key");
}

TEST_F(ServiceTest, TheLogSaysWhatHappenedAndNotWhatWasSaid) {
  std::mutex mutex;
  std::vector<json> lines;
  options.log_requests = true;
  options.log = [&](const std::string& line) {
    const std::lock_guard lock(mutex);
    EXPECT_EQ(line.find("secret words"), line.npos);
    lines.push_back(json::parse(line));
  };
  start();
  chat(question("secret words", {{"temperature", 0}}), {{"x-request-id", "r1"}});
  ask("GET", "/nowhere");
  const std::lock_guard lock(mutex);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["event"], "request");
  EXPECT_EQ(lines[0]["request_id"], "r1");
  EXPECT_EQ(lines[0]["status"], 200);
  EXPECT_GT(lines[0]["completion_tokens"], 0);
  EXPECT_EQ(lines[1]["event"], "refused");
}

}  // namespace
}  // namespace fovea
