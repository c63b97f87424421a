#include "api/answer_form.h"

#include <algorithm>

#include "api/raw_json.h"
#include "base/field_error.h"
#include "text/ordered_json.h"

namespace fovea {

namespace {

using nlohmann::json;

constexpr size_t kLongestName = 1024;
constexpr const char* kChoices =
    R"(send "none", "auto", "required" or {"type": "function", "function": {"name": "..."}})";

std::string text_of(const json& value, const std::optional<std::string_view>& raw) {
  return raw ? std::string(*raw) : value.dump(-1, ' ', false, json::error_handler_t::replace);
}

ChatTool tool_of(const json& value, const std::string& text, const std::string& where) {
  const RequestFields tool(value, where);
  const auto type = tool.string("type", kLongestName);
  if (!type) tool.refuse("type", "is missing", "send \"function\"");
  if (*type != "function") {
    tool.not_supported("type", "is " + shown_value(*type) + ", which is not supported", "send \"function\"");
  }
  const json* function = tool.get("function");
  if (function == nullptr)
    tool.refuse("function", "is missing", R"(send {"name": "...", "parameters": {...}})");
  const RequestFields fields(*function, where + ".function");
  const auto name = fields.string("name", kLongestName);
  if (!name || name->empty()) fields.refuse("name", "is missing", "send the function's name");
  const json* parameters = fields.get("parameters");
  if (parameters != nullptr && !parameters->is_object()) {
    fields.refuse("parameters", "is " + shown_value(*parameters) + ", not an object", "send a JSON schema");
  }
  const OrderedJson ordered = parse_ordered_json(text, where);
  const bool states_parameters = parameters != nullptr && !parameters->empty();
  return {*name, python_json(ordered),
          states_parameters ? ordered.at("function").at("parameters").dump() : std::string()};
}

AnswerForm form_of_calls(const RequestFields& body, const json& choice, const std::vector<ChatTool>& tools) {
  AnswerForm form{AnswerForm::Kind::tool_calls, {}, {}, false};
  std::optional<std::string> only;
  if (choice.is_object()) {
    const RequestFields named(choice, "tool_choice");
    if (named.string("type", kLongestName) != "function")
      named.refuse("type", "is not \"function\"", kChoices);
    const json* function = named.get("function");
    if (function == nullptr) named.refuse("function", "is missing", kChoices);
    only = RequestFields(*function, "tool_choice.function").string("name", kLongestName);
    if (!only) named.refuse("function.name", "is missing", kChoices);
  }
  for (size_t i = 0; i < tools.size(); ++i) {
    if (only && tools[i].name != *only) continue;
    form.tools.push_back(
        {tools[i].name, tools[i].parameters, fmt::format("tools[{}].function.parameters", i)});
  }
  if (form.tools.empty()) {
    body.refuse("tool_choice",
                only ? fmt::format("names {}, which is none of the tools", shown_value(*only))
                     : "is \"required\", but there are no tools",
                "send the tool in tools");
  }
  form.several_calls = !only && body.boolean("parallel_tool_calls").value_or(true);
  return form;
}

AnswerForm form_of_format(const RequestFields& body, std::string_view text) {
  const json* format = body.get("response_format");
  if (format == nullptr) return {};
  const RequestFields fields(*format, "response_format");
  const auto type = fields.string("type", kLongestName);
  constexpr const char* kTypes = R"(send "text", "json_object" or "json_schema")";
  if (!type) fields.refuse("type", "is missing", kTypes);
  if (*type == "text") return {};
  const bool object = *type == "json_object";
  if (!object && *type != "json_schema") {
    fields.not_supported("type", "is " + shown_value(*type) + ", which is not supported", kTypes);
  }
  const OrderedJson ordered =
      parse_ordered_json(text_of(*format, raw_member(text, "response_format")), "response_format");
  const json* schema = nullptr;
  std::string ordered_schema;
  if (object) {
    schema = fields.get("schema");  // llama.cpp's server
    if (schema != nullptr) ordered_schema = ordered.at("schema").dump();
  } else {
    const json* stated = fields.get("json_schema");
    if (stated == nullptr)
      fields.refuse("json_schema", "is missing", R"(send {"name": "...", "schema": {...}})");
    const RequestFields inside(*stated, "response_format.json_schema");
    inside.boolean("strict");  // every schema is held to
    schema = inside.get("schema");
    if (schema != nullptr) ordered_schema = ordered.at("json_schema").at("schema").dump();
  }
  if (schema == nullptr) return {AnswerForm::Kind::json_object, {}, {}, false};
  return {AnswerForm::Kind::json_schema, std::move(ordered_schema), {}, false};
}

}  // namespace

std::vector<ChatTool> read_tools(const RequestFields& body, std::string_view text) {
  const json* choice = body.get("tool_choice");
  if (choice != nullptr && !choice->is_object() && *choice != "none" && *choice != "auto" &&
      *choice != "required") {
    body.refuse("tool_choice", fmt::format("is {}", shown_value(*choice)), kChoices);
  }
  const json* stated = body.get("tools");
  if (stated == nullptr) return {};
  if (!stated->is_array() || stated->size() > kMostTools) {
    body.refuse("tools", fmt::format("is not a list of at most {} tools", kMostTools), "send such a list");
  }
  const auto raw = raw_member(text, "tools");
  const std::vector<std::string_view> elements = raw ? raw_elements(*raw) : std::vector<std::string_view>();
  if (raw && raw->size() > kMaxToolBytes) {
    body.refuse("tools", fmt::format("has {} bytes, the limit is {}", raw->size(), kMaxToolBytes),
                "send fewer or smaller tools");
  }
  std::vector<ChatTool> tools;
  for (size_t i = 0; i < stated->size(); ++i) {
    const json& one = (*stated)[i];
    const auto own = i < elements.size() ? std::optional(elements[i]) : std::nullopt;
    tools.push_back(tool_of(one, text_of(one, own), fmt::format("tools[{}]", i)));
  }
  if (choice != nullptr && *choice == "none") tools.clear();
  return tools;
}

AnswerForm read_answer_form(const RequestFields& body, std::string_view text,
                            const std::vector<ChatTool>& tools) {
  AnswerForm form = form_of_format(body, text);
  body.boolean("parallel_tool_calls");
  const json* choice = body.get("tool_choice");
  const bool must_call = choice != nullptr && (*choice == "required" || choice->is_object());
  if (form.kind != AnswerForm::Kind::text && !tools.empty()) {
    body.not_supported("response_format",
                       "and tools at once are not supported: an answer of that form calls none",
                       R"(leave one of them out, or send "tool_choice": "none")");
  }
  return must_call ? form_of_calls(body, *choice, tools) : form;
}

std::shared_ptr<const Grammar> grammar_of(const AnswerForm& form, GrammarCompiler& compiler) {
  switch (form.kind) {
    case AnswerForm::Kind::text:
      return nullptr;
    case AnswerForm::Kind::json_object:
      return compiler.json_object();
    case AnswerForm::Kind::json_schema:
      return compiler.json_schema(form.schema, "response_format.json_schema.schema");
    case AnswerForm::Kind::tool_calls:
      return compiler.tool_calls(form.tools, form.several_calls);
  }
  return nullptr;
}

}  // namespace fovea
