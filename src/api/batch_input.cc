#include "api/batch_input.h"

#include <nlohmann/json.hpp>

#include "api/raw_json.h"
#include "api/request_fields.h"
#include "base/fnv1a.h"
#include "suite/record.h"

namespace fovea {
namespace {

using nlohmann::json;

constexpr const char* kLineForm =
    R"(write {"custom_id": "...", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [...]}} or {"id": "...", "messages": [...]})";

const std::filesystem::path& regular_file(const std::filesystem::path& path) {
  std::error_code failure;
  const auto kind = std::filesystem::status(path, failure).type();
  if (kind == std::filesystem::file_type::regular || kind == std::filesystem::file_type::not_found)
    return path;
  throw Error(ErrorKind::invalid_argument,
              path.string() + " is no regular file, which a batch must be read from",
              "write the lines into a file and give its name");
}

std::filesystem::path folder_of(const std::filesystem::path& file) {
  std::error_code failure;
  const std::filesystem::path absolute = std::filesystem::absolute(file, failure);
  return (failure ? file : absolute).parent_path();
}

void require_only(const RequestFields& line, const char* name, const char* wanted) {
  const json* value = line.get(name);
  if (value == nullptr) line.refuse(name, "is missing", fmt::format("write \"{}\"", wanted));
  if (*value != wanted) {
    line.not_supported(name, "is " + shown_value(*value) + ", which is not supported",
                       fmt::format("write \"{}\"", wanted));
  }
}

// The id stands alone in the output's lines, so it is read first: errors behind it can be told by it.
void read_custom_id(const RequestFields& fields, bool plain, BatchLine& line) {
  const char* name = plain ? "id" : "custom_id";
  std::string id;
  if (plain) {
    id = record_id(fields.object());
  } else {
    id = fields.string(name, kLongestCustomId).value_or("");
    if (id.empty()) fields.refuse(name, "is missing", "give every line a custom_id of its own");
  }
  if (id.size() > kLongestCustomId) {
    fields.refuse(name, fmt::format("has {} bytes, the limit is {}", id.size(), kLongestCustomId),
                  "give a shorter one");
  }
  line.custom_id = std::move(id);
}

}  // namespace

BatchInput::BatchInput(const std::filesystem::path& path, BatchRules rules)
    : lines_(regular_file(path), rules.max_line_bytes, "check the path of the batch file"),
      rules_(std::move(rules)) {
  if (rules_.sources.relative_to.empty()) rules_.sources.relative_to = folder_of(path);
}

std::optional<BatchLine> BatchInput::next() {
  std::string text;
  auto result = lines_.next(text);
  while (result == LineReader::Result::line && is_blank(text)) result = lines_.next(text);
  if (result == LineReader::Result::end) return std::nullopt;
  BatchLine line;
  line.number = lines_.number();
  line.id = fmt::format("batch_req_{:016x}", fnv1a(text, fnv1a(fmt::format("{:x}", rules_.identity))));
  if (result == LineReader::Result::too_long) {
    line.refusal.emplace(ErrorKind::exhausted, "",
                         fmt::format("the line is longer than {} bytes", rules_.max_line_bytes),
                         "store pictures as files and give their paths");
    return line;
  }
  try {
    read(text, line);
  } catch (const FieldError& error) {
    line.refusal = error;
  } catch (const Error& error) {
    line.refusal.emplace(error.kind(), "", error.message(), error.remedy());
  }
  return line;
}

void BatchInput::read(const std::string& text, BatchLine& line) {
  const json object = parse_request_object(text, "the line", rules_.max_line_bytes);
  const RequestFields fields(object, "");
  const bool states_a_call = object.contains("custom_id") || object.contains("body") ||
                             object.contains("method") || object.contains("url");
  const bool plain = !states_a_call && object.contains("messages");
  if (!plain && !states_a_call) fields.refuse("", "the line is neither a request nor a record", kLineForm);
  read_custom_id(fields, plain, line);
  const auto [first, is_new] = seen_.emplace(line.custom_id, line.number);
  if (!is_new) {
    fields.refuse(plain ? "id" : "custom_id",
                  fmt::format("{} stands in line {} already", shown_value(line.custom_id), first->second),
                  "give every line one of its own");
  }
  if (plain) {
    const json conversation = {{"messages", object.at("messages")}};
    line.request = chat_request_of(conversation, rules_.sources);
    return;
  }
  require_only(fields, "method", "POST");
  require_only(fields, "url", "/v1/chat/completions");
  const json* body = fields.get("body");
  if (body == nullptr) fields.refuse("body", "is missing", R"(write {"messages": [...]})");
  if (!body->is_object()) fields.refuse("body", "is not an object", R"(write {"messages": [...]})");
  ChatRequest request = chat_request_of(*body, rules_.sources, raw_member(text, "body").value_or(""));
  if (request.stream) {
    throw FieldError(ErrorKind::unsupported, "stream", "is true, but the answers of a batch come whole",
                     "leave the field out");
  }
  line.request = std::move(request);
}

BatchSurvey survey_batch(const std::filesystem::path& path, const BatchRules& rules) {
  BatchInput input(path, rules);
  BatchSurvey survey;
  while (const auto line = input.next()) {
    ++survey.lines;
    if (line->request) {
      survey.ids.emplace(line->custom_id, line->id);
    } else {
      ++survey.refusals;
    }
  }
  return survey;
}

}  // namespace fovea
