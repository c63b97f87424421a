// Turns what the engine says of a request into OpenAI's answer: one object, or the events of a stream.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/chat_response.h"
#include "api/completion_response.h"
#include "serve/engine_loop.h"
#include "serve/exchange.h"
#include "text/tokenizer.h"
#include "text/tool_call_reader.h"

namespace fovea {

// A part of what may be under way at once; given back when nobody holds it any more.
using Seat = std::shared_ptr<void>;

struct AnswerPlan {
  ResponseHead head;
  bool chat = true;  // or a completion
  bool stream = false, include_usage = false, logprobs = false;
  bool calls_tools = false;  // calls are taken out of the words
  int64_t top_logprobs = 0;
  size_t choices = 1;
  int64_t prompt_tokens = 0;          // of all prompts
  std::vector<std::string> warnings;  // in an answer that comes whole
};

class AnswerWriter final : public AnswerSink {
 public:
  // Tokenizer and metrics are borrowed.
  AnswerWriter(std::shared_ptr<Exchange> exchange, AnswerPlan form, const Tokenizer& tokenizer,
               Metrics& metrics, std::vector<Seat> seats);
  ~AnswerWriter() override;

  bool wanted() const override { return !exchange_->gone(); }
  void accepted() override { begin(); }
  void on_start(size_t choice, int64_t cached_tokens) override;
  void on_token(size_t choice, int32_t id, std::span<const float> logits) override;
  void on_text(size_t choice, std::string_view text) override;
  void on_answer(size_t choice, Answer answer) override;
  void on_failure(const std::exception_ptr& failure) override;
  void on_end() override;

 private:
  struct Choice {
    ChatChoice answer;
    std::vector<ChoiceToken> unsent;      // log probabilities of tokens whose text has not come yet
    std::optional<ToolCallReader> calls;  // of a stream
    bool role_sent = false;
    int64_t characters = 0;  // sent
    double started = -1, first_token = -1, last_token = -1;
  };

  void begin();
  void read_calls(Choice& choice, size_t index);
  void send(Choice& choice, size_t index, const std::string& text);
  void send_role(Choice& choice, size_t index);
  void send_event(const nlohmann::ordered_json& json) { exchange_->event(json_line(json)); }
  void note_ending(const Choice& choice);
  TokenProbability named(int32_t id, double logprob) const;

  std::shared_ptr<Exchange> exchange_;
  AnswerPlan plan_;
  const Tokenizer& tokenizer_;
  Metrics& metrics_;
  std::vector<Seat> seats_;
  ChatStream chat_;
  CompletionStream completion_;
  std::vector<Choice> choices_;
  ChatUsage usage_;
  bool begun_ = false, over_ = false;
};

}  // namespace fovea
