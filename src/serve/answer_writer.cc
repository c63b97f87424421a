#include "serve/answer_writer.h"

#include "runtime/logprobs.h"
#include "serve/http_problem.h"

namespace fovea {

AnswerWriter::AnswerWriter(std::shared_ptr<Exchange> exchange, AnswerPlan form, const Tokenizer& tokenizer,
                           Metrics& metrics, std::vector<Seat> seats)
    : exchange_(std::move(exchange)),
      plan_(std::move(form)),
      tokenizer_(tokenizer),
      metrics_(metrics),
      seats_(std::move(seats)),
      chat_(plan_.head, plan_.include_usage),
      completion_(plan_.head, plan_.include_usage),
      choices_(plan_.choices) {
  usage_.prompt_tokens = plan_.prompt_tokens;
  if (plan_.stream && plan_.calls_tools) {
    for (size_t i = 0; i < choices_.size(); ++i) read_calls(choices_[i], i);
  }
  if (!plan_.logprobs) return;
  for (Choice& choice : choices_) choice.answer.logprobs.emplace();
}

AnswerWriter::~AnswerWriter() {
  if (!over_) metrics_.add_answer("cancelled", {});
}

void AnswerWriter::begin() {
  if (!plan_.stream || begun_) return;
  begun_ = true;
  exchange_->begin_stream();
}

// Of several choices the first computes what they have in common.
void AnswerWriter::on_start(size_t choice, int64_t cached_tokens) {
  choices_[choice].started = exchange_->seconds();
  if (choice != 0) return;
  usage_.cached_tokens = cached_tokens;
  metrics_.add_prompt(plan_.prompt_tokens, cached_tokens);
}

TokenProbability AnswerWriter::named(int32_t id, double logprob) const {
  return {std::string(tokenizer_.token_bytes(id)), logprob};
}

void AnswerWriter::on_token(size_t index, int32_t id, std::span<const float> logits) {
  Choice& choice = choices_[index];
  const double now = exchange_->seconds();
  metrics_.add_tokens(1);
  if (choice.first_token < 0) {
    choice.first_token = now;
  } else {
    metrics_.add_gap(now - choice.last_token);
  }
  choice.last_token = now;
  if (!plan_.logprobs) return;
  const Logprobs logprobs = logprobs_of(logits, id, plan_.top_logprobs);
  ChoiceToken token{named(id, logprobs.chosen.logprob), {}};
  for (const TokenLogprob& other : logprobs.top) token.top.push_back(named(other.id, other.logprob));
  (plan_.stream ? choice.unsent : *choice.answer.logprobs).push_back(std::move(token));
}

void AnswerWriter::read_calls(Choice& choice, size_t index) {
  const auto number = static_cast<int64_t>(index);
  choice.calls.emplace(ToolCallReader::Events{
      [this, &choice, index](std::string_view words) { send(choice, index, std::string(words)); },
      [this, &choice, index, number](int64_t call, const std::string& name) {
        send_role(choice, index);
        send_event(chat_.tool_call(number, call, name));
      },
      [this, number](int64_t call, std::string_view piece) {
        send_event(chat_.tool_arguments(number, call, std::string(piece)));
      }});
}

void AnswerWriter::on_text(size_t index, std::string_view text) {
  Choice& choice = choices_[index];
  if (choice.calls) return choice.calls->push(text);
  if (plan_.stream) send(choice, index, std::string(text));
}

void AnswerWriter::send_role(Choice& choice, size_t index) {
  begin();
  if (choice.role_sent) return;
  choice.role_sent = true;
  if (plan_.chat) send_event(chat_.role(static_cast<int64_t>(index)));
}

void AnswerWriter::send(Choice& choice, size_t index, const std::string& text) {
  send_role(choice, index);
  const auto* logprobs = plan_.logprobs ? &choice.unsent : nullptr;
  const auto number = static_cast<int64_t>(index);
  send_event(plan_.chat ? chat_.delta(number, text, logprobs)
                        : completion_.delta(number, text, logprobs, choice.characters));
  choice.characters += characters_in(text);
  choice.unsent.clear();
}

void AnswerWriter::on_answer(size_t index, Answer answer) {
  Choice& choice = choices_[index];
  usage_.completion_tokens += answer.timings.generated_tokens;
  choice.answer.finish_reason = answer.finish_reason;
  if (choice.calls) {
    choice.calls->finish();
    if (choice.calls->calls() > 0 && answer.finish_reason == "stop") answer.finish_reason = "tool_calls";
    choice.answer.finish_reason = answer.finish_reason;
  }
  if (plan_.stream) {
    send_role(choice, index);
    if (!choice.unsent.empty()) send(choice, index, "");
    const auto number = static_cast<int64_t>(index);
    send_event(plan_.chat ? chat_.finish(number, answer.finish_reason)
                          : completion_.finish(number, answer.finish_reason));
  } else {
    choice.answer.content = std::move(answer.text);
    if (plan_.calls_tools) take_tool_calls(plan_.head, static_cast<int64_t>(index), choice.answer);
  }
  note_ending(choice);
}

void AnswerWriter::note_ending(const Choice& choice) {
  AnswerTimes times;
  times.whole = exchange_->seconds();
  times.queue = choice.started;
  times.first_token = choice.first_token;
  if (choice.started >= 0 && choice.first_token >= 0) times.prefill = choice.first_token - choice.started;
  if (choice.first_token >= 0) times.decode = choice.last_token - choice.first_token;
  metrics_.add_answer(choice.answer.finish_reason, times);
  exchange_->note("finish_reason", choice.answer.finish_reason);
  if (choice.first_token >= 0) exchange_->note("first_token_seconds", choice.first_token);
}

void AnswerWriter::on_failure(const std::exception_ptr& failure) {
  over_ = true;
  seats_.clear();
  metrics_.add_answer("error", {});
  const ProblemText problem = problem_text(failure);
  if (!begun_) return exchange_->respond(problem_response(failure));
  exchange_->event(problem.json);
  exchange_->end_stream(problem.status);
}

void AnswerWriter::on_end() {
  over_ = true;
  seats_.clear();  // before the client knows, who may ask again at once
  exchange_->note("prompt_tokens", usage_.prompt_tokens);
  exchange_->note("completion_tokens", usage_.completion_tokens);
  exchange_->note("cached_tokens", usage_.cached_tokens);
  if (plan_.stream) {
    if (plan_.include_usage) send_event(plan_.chat ? chat_.usage(usage_) : completion_.usage(usage_));
    return exchange_->end_stream();
  }
  std::vector<ChatChoice> answers;
  for (Choice& choice : choices_) answers.push_back(std::move(choice.answer));
  auto json = plan_.chat ? chat_completion(plan_.head, answers, usage_)
                         : text_completion(plan_.head, answers, usage_);
  if (!plan_.warnings.empty()) json["warnings"] = plan_.warnings;
  exchange_->respond(json);
}

}  // namespace fovea
