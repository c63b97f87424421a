// The public library, include/fovea, by its headers alone: answers, many threads, errors, events that throw.
#include <fovea/engine.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <thread>

namespace fovea {
namespace {

const std::filesystem::path kDemo = FOVEA_SOURCE_DIR "/models/fovea-demo";

const std::string& card(int number) {
  static const auto read = [](int which) {
    std::ifstream file(FOVEA_SOURCE_DIR "/demo/card" + std::to_string(which) + ".png", std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  static const std::string cards[] = {read(1), read(2), read(3)};
  return cards[number];
}

Request asking(const std::string& words, int number = -1) {
  Message message{"user", {}};
  if (number >= 0) message.content.push_back(Part::of_image(card(number)));
  message.content.push_back(Part::of_text(words));
  Request request;
  request.messages = {message};
  request.max_tokens = 12;
  request.temperature = 0;
  return request;
}

EngineOptions small() {
  EngineOptions options;
  options.threads = 2;
  options.max_num_seqs = 4;
  return options;
}

Engine& demo() {
  static Engine engine(kDemo, small());
  return engine;
}

template <typename Call>
Error refusal(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was refused";
  return {ErrorCode::internal, "", ""};
}

TEST(Library, ManyThreadsGetWhatEachGetsAlone) {
  const std::vector<std::string> words = {"What is written here?", "Which digits?", "How many lines?"};
  std::vector<Answer> alone;
  for (int i = 0; i < 9; ++i) alone.push_back(demo().generate(asking(words[i % 3], i / 3)));
  EXPECT_FALSE(alone[0].text.empty());
  std::vector<Answer> together(alone.size());
  std::vector<std::thread> threads;
  for (int i = 0; i < 9; ++i) {
    threads.emplace_back([&, i] { together[i] = demo().generate(asking(words[i % 3], i / 3)); });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(together[i].token_ids, alone[i].token_ids);
    EXPECT_EQ(together[i].text, alone[i].text);
    EXPECT_GT(together[i].cached_tokens, 0);  // the picture came before
  }
}

TEST(Library, EventsTellTheAnswer) {
  Request request = asking("What is written here?", 1);
  request.top_logprobs = 2;
  std::string text;
  std::vector<int32_t> ids;
  int started = 0, answered = 0;
  Events events;
  events.on_start = [&](int64_t) { ++started; };
  events.on_text = [&](std::string_view piece) { text += piece; };
  events.on_token = [&](const Token& token) {
    ids.push_back(token.id);
    ASSERT_EQ(token.top.size(), 2u);
    EXPECT_EQ(token.top[0].id, token.id);  // greedy
    EXPECT_EQ(token.top[0].logprob, token.logprob);
    EXPECT_LE(token.top[1].logprob, token.logprob);
    EXPECT_LE(token.logprob, 0);
  };
  events.on_answer = [&](const Answer& answer) {
    ++answered;
    EXPECT_EQ(answer.text, text);
  };
  const Answer answer = demo().generate(request, events);
  EXPECT_EQ(started, 1);
  EXPECT_EQ(answered, 1);
  EXPECT_EQ(answer.text, text);
  EXPECT_EQ(answer.token_ids, ids);
  EXPECT_GT(answer.prompt_tokens, 20);
}

TEST(Library, EnginesOfTheirOwnThreadsAndOptions) {
  EngineOptions options = small();
  options.threads = 1;
  options.dtype = "fp32";
  options.attn_implementation = "eager";
  Engine other(kDemo, options);
  EXPECT_EQ(other.info().threads, 1);
  EXPECT_EQ(other.info().dtype, "fp32");
  EXPECT_EQ(other.info().attn_implementation, "eager");
  EXPECT_EQ(other.info().vision_attn_implementation, "eager");
  EXPECT_EQ(demo().info().threads, 2);
  const Answer first = other.generate(asking("What is written here?", 0)),
               before = demo().generate(asking("What is written here?", 0));
  Answer at_once;
  std::thread beside([&] { at_once = other.generate(asking("What is written here?", 0)); });
  EXPECT_EQ(demo().generate(asking("What is written here?", 0)).token_ids, before.token_ids);
  beside.join();
  EXPECT_EQ(at_once.token_ids, first.token_ids);
}

TEST(Library, NamesAreResolvedByTheCallerOrRefused) {
  Request request = asking("What is written here?", 2);
  const Answer from_bytes = demo().generate(request);
  request.messages[0].content[0].media = {"", FOVEA_SOURCE_DIR "/demo/card3.png"};
  const Error refused = refusal([&] { demo().generate(request); });
  EXPECT_EQ(refused.code(), ErrorCode::invalid_argument);
  EXPECT_EQ(refused.field(), "messages[0].content[0].image");
  EngineOptions options = small();
  std::string asked;
  options.resolve = [&](const std::string& name) {
    asked = name;
    return card(2);
  };
  Engine resolving(kDemo, options);
  EXPECT_EQ(resolving.generate(request).token_ids, from_bytes.token_ids);
  EXPECT_EQ(asked, FOVEA_SOURCE_DIR "/demo/card3.png");
}

TEST(Library, WhatIsWrongIsNamed) {
  const auto field_of = [](const Request& request) {
    return refusal([&] { demo().submit(request, {}); }).field();
  };
  Request request = asking("?");
  request.messages[0].role = "machine";
  EXPECT_EQ(field_of(request), "messages[0].role");
  request.messages.clear();
  EXPECT_EQ(field_of(request), "messages");
  request = asking("?");
  request.top_p = 1.5;
  EXPECT_EQ(field_of(request), "top_p");
  request = asking("?");
  request.temperature = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(field_of(request), "temperature");
  request = asking("?");
  request.stop = {""};
  EXPECT_EQ(field_of(request), "stop");
  request = asking("?");
  request.json_object = true;
  request.json_schema = "{}";
  EXPECT_EQ(field_of(request), "json_object");
  request = asking("?", 0);
  request.messages[0].content[0].media.bytes = "no picture at all";
  const Error unreadable = refusal([&] { demo().generate(request); });
  EXPECT_NE(unreadable.code(), ErrorCode::internal) << unreadable.what();

  EXPECT_EQ(refusal([] { Engine("/nowhere/at/all"); }).code(), ErrorCode::not_found);
  EngineOptions options;
  options.dtype = "fp33";
  EXPECT_EQ(refusal([&] { Engine(kDemo, options); }).code(), ErrorCode::invalid_argument);
  options = {};
  options.threads = -1;
  EXPECT_NE(refusal([&] { Engine(kDemo, options); }).message().find("threads"), std::string::npos);
  options = {};
  options.max_num_seqs = 0;
  EXPECT_NE(refusal([&] { Engine(kDemo, options); }).message().find("max_num_seqs"), std::string::npos);
}

TEST(Library, AFullQueueRefusesAndGoesOn) {
  EngineOptions options = small();
  options.max_num_seqs = 1;
  options.max_queue = 1;
  Engine engine(kDemo, options);
  int answers = 0;
  Events events;
  events.on_answer = [&](const Answer&) { ++answers; };
  engine.submit(asking("one"), events);
  engine.submit(asking("two"), events);
  EXPECT_EQ(refusal([&] { engine.submit(asking("three"), events); }).code(), ErrorCode::exhausted);
  engine.run();
  EXPECT_EQ(answers, 2);
  EXPECT_FALSE(engine.step());
  EXPECT_FALSE(engine.generate(asking("three")).finish_reason.empty());
}

TEST(Library, ACancelledRequestGivesWhatItHas) {
  Request request = asking("Tell me everything.");
  request.max_tokens = 200;
  request.ignore_eos = true;
  Answer answer;
  RequestId id = 0;
  Events events;
  events.on_text = [&](std::string_view) { demo().cancel(id); };
  events.on_answer = [&](const Answer& done) { answer = done; };
  id = demo().submit(request, events);
  demo().run();
  EXPECT_EQ(answer.finish_reason, "cancelled");
  EXPECT_FALSE(answer.token_ids.empty());
  EXPECT_LT(answer.token_ids.size(), 200u);
  demo().cancel(id);  // over: nothing happens
}

TEST(Library, AnEventThatThrowsEndsItsRequestAlone) {
  struct Own {};
  Request request = asking("What is written here?", 0);
  const Answer alone = demo().generate(request);
  Answer other;
  Events patient;
  patient.on_answer = [&](const Answer& done) { other = done; };
  demo().submit(request, patient);
  Events throwing;
  throwing.on_text = [](std::string_view) { throw Own(); };
  EXPECT_THROW(demo().generate(request, throwing), Own);
  demo().run();
  EXPECT_EQ(other.token_ids, alone.token_ids);
  demo().submit(request, throwing);
  EXPECT_THROW(demo().run(), Own);
  EXPECT_EQ(demo().generate(request).token_ids, alone.token_ids);
}

TEST(Library, AnEventMayAskAgain) {
  const Request request = asking("What is written here?", 0);
  Answer second;
  Events later, events;
  later.on_answer = [&](const Answer& answer) { second = answer; };
  events.on_answer = [&](const Answer&) { demo().submit(request, later); };
  const Answer first = demo().generate(request, events);
  demo().run();
  EXPECT_EQ(second.token_ids, first.token_ids);
}

TEST(Library, AnswersAreHeldToASchema) {
  Request request = asking("What is written here?", 0);
  request.json_schema = R"({"type": "object", "properties": {"digits": {"type": "integer"}},
                            "required": ["digits"], "additionalProperties": false})";
  request.max_tokens = 40;
  const std::string text = demo().generate(request).text;
  EXPECT_EQ(text.find("{"), 0u) << text;
  request.json_schema = R"({"type": "nonsense"})";
  EXPECT_EQ(refusal([&] { demo().generate(request); }).code(), ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace fovea
