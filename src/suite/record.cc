#include "suite/record.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fnv1a.h"

namespace fovea {

namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;

[[noreturn]] void refuse(std::string message, std::string remedy) {
  throw Error(ErrorKind::invalid_argument, std::move(message), std::move(remedy));
}

json parse_object(std::string_view text) {
  const auto depth_check = [](int depth, json::parse_event_t, const json&) {
    if (depth > kMaxDepth) refuse("the line is nested too deeply", "write one flat record a line");
    return true;
  };
  json record;
  try {
    record = json::parse(text, depth_check);
  } catch (const json::exception& error) {
    refuse(fmt::format("the line is not valid JSON: {}", error.what()), "write one JSON object a line");
  }
  if (!record.is_object()) {
    refuse(fmt::format("the line is a JSON {}, not an object", record.type_name()),
           R"(write {"id": ..., "messages": [...], "answer": ...})");
  }
  return record;
}

}  // namespace

std::string record_id(const json& record) {
  const auto found = record.find("id");
  if (found == record.end()) refuse("the record has no field \"id\"", "give every record an id of its own");
  if (found->is_number_integer()) return found->dump();
  if (!found->is_string() || found->get_ref<const std::string&>().empty()) {
    refuse("id is not a string", "give every record an id of its own");
  }
  return found->get<std::string>();
}

namespace {

std::vector<std::string> answers_of(const json& record) {
  constexpr auto kRemedy = R"(write "answer": "7", or a list of strings each of which is right)";
  const auto found = record.find("answer");
  if (found == record.end()) refuse("the record has no field \"answer\"", kRemedy);
  const json list = found->is_array() ? *found : json::array({*found});
  if (list.empty()) refuse("answer is an empty list", kRemedy);
  std::vector<std::string> answers;
  for (const json& answer : list) {
    if (!answer.is_string()) refuse(fmt::format("answer is a {}, not a string", answer.type_name()), kRemedy);
    answers.push_back(answer.get<std::string>());
  }
  return answers;
}

MatchRule match_of(const json& record) {
  const auto found = record.find("match");
  if (found == record.end() || found->is_null()) return MatchRule::normalized;
  if (!found->is_string()) {
    refuse(fmt::format("match is a {}, not a string", found->type_name()),
           "write exact, normalized, choice, number or substring");
  }
  return parse_match_rule(found->get_ref<const std::string&>());
}

std::vector<std::pair<std::string, std::string>> tags_of(const json& record) {
  std::vector<std::pair<std::string, std::string>> tags;
  const auto found = record.find("tags");
  if (found == record.end() || found->is_null()) return tags;
  if (found->is_object()) {
    for (const auto& [name, value] : found->items()) {
      tags.emplace_back(name, value.is_string() ? value.get<std::string>() : value.dump());
    }
  } else if (found->is_array()) {
    for (const json& tag : *found)
      tags.emplace_back(tag.is_string() ? tag.get<std::string>() : tag.dump(), "");
  } else {
    refuse(fmt::format("tags is a {}", found->type_name()), "write an object or a list");
  }
  return tags;
}

std::string located(const std::string& source, const std::filesystem::path& folder) {
  if (source.starts_with("data:")) return source;
  constexpr std::string_view kFileUrl = "file://";
  if (source.starts_with(kFileUrl)) return source;  // media reads these, escapes included
  const std::filesystem::path path = folder / source;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw Error(ErrorKind::not_found, fmt::format("cannot find {}", path.string()),
                "check the name; relative paths start at the folder of the suite");
  }
  return std::filesystem::absolute(path).lexically_normal().string();
}

std::vector<Message> conversation_of(const json& record, const std::filesystem::path& folder) {
  const auto found = record.find("messages");
  if (found == record.end()) {
    refuse("the record has no field \"messages\"",
           R"(write "messages": [{"role": "user", "content": [...]}])");
  }
  std::vector<Message> messages = messages_of(*found);
  for_each_source(messages,
                  [&](std::string& source, const std::string&) { source = located(source, folder); });
  return messages;
}

}  // namespace

void parse_suite_item(std::string_view text, const std::filesystem::path& folder, SuiteItem& item) {
  const json record = parse_object(text);
  item.record_hash = fnv1a(text);
  item.id = record_id(record);
  item.match = match_of(record);
  item.answers = answers_of(record);
  for (const std::string& answer : item.answers) check_expected(answer, item.match);
  item.tags = tags_of(record);
  item.messages = conversation_of(record, folder);
}

}  // namespace fovea
