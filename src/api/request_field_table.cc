#include "api/request_field_table.h"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <vector>

namespace fovea {
namespace {

using Use = RequestField::Use;

// "OpenAI", "vLLM" and so on say whose field it is where that helps; the others are OpenAI's.
constexpr RequestField kFields[] = {
    {"model", Use::read, "", "the name of the model, for whoever serves several"},
    {"messages", Use::read, "", "the conversation"},
    {"max_completion_tokens", Use::read, "", "the longest answer in tokens"},
    {"max_tokens", Use::read, "", "the older name of max_completion_tokens"},
    {"temperature", Use::read, "", "0 takes the most likely token, more is more random"},
    {"top_p", Use::read, "", "sample from the smallest set with this probability"},
    {"top_k", Use::read, "", "sample from so many tokens; 0 or -1: all (vLLM)"},
    {"min_p", Use::read, "", "sample only from tokens so likely, relative to the likeliest (vLLM)"},
    {"presence_penalty", Use::read, "", "taken from the logits of tokens that the answer has"},
    {"frequency_penalty", Use::read, "", "the same, for each time"},
    {"logit_bias", Use::read, "", "{\"token id\": what is added to its logit}"},
    {"repetition_penalty", Use::read, "", "divides the logits of tokens already seen (vLLM)"},
    {"seed", Use::read, "", "the first choice's seed, the next has the next"},
    {"stop", Use::read, "", "a string or a list of strings that end the answer"},
    {"ignore_eos", Use::read, "", "go on to the limit whatever the model says (vLLM)"},
    {"n", Use::read, "", "how many answers"},
    {"logprobs", Use::read, "", "whether to send log probabilities"},
    {"top_logprobs", Use::read, "", "of how many of the likeliest tokens"},
    {"stream", Use::read, "", "whether to send the answer as it comes"},
    {"stream_options", Use::read, "", "include_usage: whether the last chunk states the usage"},
    {"tools", Use::read, "", "functions that the model may call"},
    {"tool_choice", Use::read, "", "\"none\", \"auto\", \"required\" or one function by name"},
    {"parallel_tool_calls", Use::read, "", "whether \"required\" allows more than one call"},
    {"response_format", Use::read, "", "text, json_object or json_schema"},
    {"cache_salt", Use::read, "", "requests share cached prefixes only with those of the same salt (vLLM)"},

    // Who asks, what it is filed under, what it costs: the answer is the same.
    {"user", Use::neutral, "", "the end user"},
    {"safety_identifier", Use::neutral, "", "the end user"},
    {"metadata", Use::neutral, "", "labels for stored answers"},
    {"store", Use::neutral, "", "whether OpenAI keeps the answer; fovea keeps none"},
    {"service_tier", Use::neutral, "", "OpenAI's prices"},
    {"prompt_cache_key", Use::neutral, "", "a hint where OpenAI's cache may look"},
    {"prompt_cache_retention", Use::neutral, "", "how long OpenAI's cache keeps it"},
    {"prediction", Use::neutral, "", "a guess that makes OpenAI's answer faster, and no other"},
    {"request_id", Use::neutral, "", "a name for logs (vLLM)"},
    {"priority", Use::neutral, "", "who goes first (vLLM); what each gets is the same"},
    {"cache_prompt", Use::neutral, "", "whether to reuse the prefix (llama.cpp); no token depends on it"},
    {"id_slot", Use::neutral, "", "which slot computes it (llama.cpp)"},

    // Qwen2.5-VL was not taught them; an answer without them is still an answer.
    {"reasoning_effort", Use::hint, "", "how long a reasoning model thinks"},
    {"verbosity", Use::hint, "", "how long OpenAI's models write"},

    {"modalities", Use::only, "[[],[\"text\"]]", "an answer that is not text"},
    {"audio", Use::only, "[]", "a spoken answer"},
    {"web_search_options", Use::only, "[]", "a search of the web"},
    {"functions", Use::only, "[[]]", "the older form of tools"},
    {"function_call", Use::only, "[\"none\",\"auto\"]", "the older form of tool_choice"},
    {"moderation", Use::only, "[]", "a judgement of the answer"},

    // vLLM's, at the values that its clients send when nobody asked for anything.
    {"typical_p", Use::only, "[1]", "typical sampling"},
    {"min_tokens", Use::only, "[0]", "a least length"},
    {"best_of", Use::only, "[1]", "answers of which the best is sent"},
    {"use_beam_search", Use::only, "[false]", "beam search"},
    {"length_penalty", Use::only, "[1]", "beam search"},
    {"early_stopping", Use::only, "[false]", "beam search"},
    {"stop_token_ids", Use::only, "[[]]", "further tokens that end the answer"},
    {"bad_words", Use::only, "[[]]", "words that must not come"},
    {"allowed_token_ids", Use::only, "[]", "the only tokens that may come"},
    {"logits_processors", Use::only, "[[]]", "changed logits"},
    {"include_stop_str_in_output", Use::only, "[false]", "answers that show their stop string"},
    {"skip_special_tokens", Use::only, "[true]", "answers that show special tokens"},
    {"spaces_between_special_tokens", Use::only, "[true,false]", "answers that show special tokens"},
    {"truncate_prompt_tokens", Use::only, "[]", "a prompt without its beginning"},
    {"prompt_logprobs", Use::only, "[false]", "log probabilities of the prompt"},
    {"return_token_ids", Use::only, "[false]", "ids of tokens in the answer"},
    {"return_tokens_as_token_ids", Use::only, "[false]", "ids in place of tokens"},
    {"echo", Use::only, "[false]", "the last message in the answer"},
    {"add_generation_prompt", Use::only, "[true]", "a prompt that does not ask for an answer"},
    {"continue_final_message", Use::only, "[false]", "going on with the last message"},
    {"add_special_tokens", Use::only, "[false]", "tokens beside those of the chat template"},
    {"documents", Use::only, "[[]]", "documents in the chat template"},
    {"chat_template", Use::only, "[]", "another chat template"},
    {"chat_template_kwargs", Use::only, "[{}]", "arguments of another chat template"},
    {"mm_processor_kwargs", Use::only, "[{}]",
     "limits of all pictures; state min_pixels or max_pixels beside each picture"},
    {"structured_outputs", Use::only, "[]", "an answer of a given form"},
    {"guided_json", Use::only, "[]", "an answer of a given form"},
    {"guided_regex", Use::only, "[]", "an answer of a given form"},
    {"guided_choice", Use::only, "[]", "an answer of a given form"},
    {"guided_grammar", Use::only, "[]", "an answer of a given form"},
    {"grammar", Use::only, "[\"\"]", "an answer of a given form"},
    {"json_schema", Use::only, "[]", "an answer of a given form"},
    {"kv_transfer_params", Use::only, "[]", "keys and values of another server"},
    {"vllm_xargs", Use::only, "[{}]", "arguments of vLLM's extensions"},
};

// Of completions, those that chats do not have or have otherwise.
constexpr RequestField kCompletionFields[] = {
    {"prompt", Use::read, "", "a text, a list of them, a list of token ids, or a list of such lists"},
    {"logprobs", Use::read, "", "of how many of the likeliest tokens to send log probabilities"},
    {"suffix", Use::only, "[\"\"]", "text behind the answer"},
    {"response_format", Use::only, "[{\"type\":\"text\"}]", "an answer of a given form; chats have it"},
};
constexpr const char* kChatFields[] = {"messages", "max_completion_tokens", "top_logprobs",
                                       "tools",    "tool_choice",           "parallel_tool_calls"};

std::vector<RequestField> fields_of_completions() {
  std::vector<RequestField> fields(std::begin(kCompletionFields), std::end(kCompletionFields));
  for (const RequestField& field : kFields) {
    const std::string_view name = field.name;
    const auto is_name = [&](const auto& other) { return name == other; };
    const auto stands = [&](const RequestField& other) { return name == other.name; };
    if (std::ranges::any_of(kChatFields, is_name) || std::ranges::any_of(kCompletionFields, stands)) continue;
    fields.push_back(field);
  }
  return fields;
}

}  // namespace

std::span<const RequestField> request_fields() { return kFields; }

std::span<const RequestField> completion_fields() {
  static const std::vector<RequestField> fields = fields_of_completions();
  return fields;
}

}  // namespace fovea
