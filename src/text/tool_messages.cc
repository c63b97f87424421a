#include "text/tool_messages.h"

#include <fmt/format.h>

#include "base/field_error.h"
#include "text/ordered_json.h"

namespace fovea {

namespace {

constexpr const char* kDefaultSystem = "You are a helpful assistant.";
constexpr const char* kCallForm =
    R"(write {"type": "function", "function": {"name": "...", "arguments": "{...}"}})";

std::string tool_list(std::span<const std::string> tools) {
  std::string text =
      "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided "
      "with "
      "function signatures within <tools></tools> XML tags:\n<tools>";
  for (const std::string& tool : tools) text += '\n' + tool;
  return text +
         "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
         "<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": "
         "<args-json-object>}\n</tool_call>";
}

ContentPart text_part(std::string text) {
  ContentPart part;
  part.text = std::move(text);
  return part;
}

// OpenAI's clients send the arguments as a string that holds JSON, Hugging Face's as an object.
std::string call_text(const OrderedJson& call, const std::string& place) {
  const auto refuse = [&](const std::string& where, const std::string& words) {
    throw FieldError(ErrorKind::invalid_argument, where, words, kCallForm);
  };
  if (!call.is_object()) refuse(place, "is not an object");
  const OrderedJson& function = call.contains("function") ? call.at("function") : call;
  if (!function.is_object() || !function.contains("name") || !function.at("name").is_string()) {
    refuse(place + ".function.name", "is missing");
  }
  std::string arguments = "{}";
  if (function.contains("arguments") && !function.at("arguments").is_null()) {
    const OrderedJson& stated = function.at("arguments");
    const std::string here = place + ".function.arguments";
    const OrderedJson value =
        stated.is_string() ? parse_ordered_json(stated.get_ref<const std::string&>(), here) : stated;
    if (!value.is_object()) refuse(here, "is no JSON object");
    arguments = python_json(value);
  }
  return fmt::format("{}\n{{\"name\": \"{}\", \"arguments\": {}}}\n{}", kToolCallBegin,
                     function.at("name").get_ref<const std::string&>(), arguments, kToolCallEnd);
}

bool says_something(const Message& message) {
  for (const ContentPart& part : message.content) {
    if (part.type != ContentPart::Type::text || !part.text.empty()) return true;
  }
  return false;
}

void show_calls(Message& message, const std::string& place) {
  if (message.tool_calls.empty()) return;
  std::erase_if(message.notes, [&](const std::string& note) { return note.starts_with(place + ' '); });
  const OrderedJson calls = parse_ordered_json(message.tool_calls, place);
  bool first = !says_something(message);
  for (size_t i = 0; i < calls.size(); ++i) {
    const std::string text = call_text(calls[i], fmt::format("{}[{}]", place, i));
    message.content.push_back(text_part(first ? text : '\n' + text));
    first = false;
  }
}

void append_result(std::vector<ContentPart>& content, Message& result) {
  content.push_back(text_part(content.empty() ? "<tool_response>\n" : "\n<tool_response>\n"));
  for (ContentPart& part : result.content) content.push_back(std::move(part));
  content.push_back(text_part("\n</tool_response>"));
}

}  // namespace

std::vector<Message> with_tools(std::vector<Message> messages, std::span<const std::string> tools) {
  std::vector<Message> shown;
  if (messages.empty() || messages.front().role != "system") {
    Message system;
    system.role = "system";
    system.content.push_back(text_part(kDefaultSystem));
    shown.push_back(std::move(system));
  }
  bool behind_result = false;
  for (size_t i = 0; i < messages.size(); ++i) {
    Message& message = messages[i];
    const bool is_result = message.role == "tool";
    if (is_result && behind_result) {
      append_result(shown.back().content, message);
      shown.back().notes.insert(shown.back().notes.end(), message.notes.begin(), message.notes.end());
      continue;
    }
    behind_result = is_result;
    if (is_result) {
      Message user;
      user.role = "user";
      user.notes = message.notes;
      append_result(user.content, message);
      shown.push_back(std::move(user));
      continue;
    }
    show_calls(message, fmt::format("messages[{}].tool_calls", i));
    shown.push_back(std::move(message));
  }
  shown.front().content.push_back(text_part(tool_list(tools)));
  return shown;
}

}  // namespace fovea
