#include "text/message.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/message_fields.h"

namespace fovea {
namespace {

using nlohmann::json;

// A path, a file:// URL or a data:...;base64, URL. Nothing is fetched from the network.
std::string checked_source(const json& value, const std::string& where) {
  if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
    refuse_message(where + " is not a path or URL",
                   "give a file name, a file:// URL or a data:...;base64, URL");
  }
  const auto& source = value.get_ref<const std::string&>();
  if (source.starts_with("http://") || source.starts_with("https://")) {
    throw Error(ErrorKind::unsupported,
                fmt::format("{} is a network address, {}", where, source.substr(0, 200)),
                "download the file and give its path");
  }
  return source;
}

// The value of "image_url" and "video_url": {"url": "..."} (OpenAI) or the address itself.
std::string url_source(const json& value, const std::string& where) {
  if (!value.is_object()) return checked_source(value, where);
  MessageFields fields(value, where);
  const json* url = fields.get("url");
  if (!url) refuse_message(where + " has no field \"url\"", R"(write {"url": "..."})");
  if (const auto detail = fields.string("detail"); detail && *detail != "auto") {
    throw Error(ErrorKind::unsupported, fmt::format("{}.detail = \"{}\" is not supported", where, *detail),
                "give min_pixels and max_pixels instead");
  }
  fields.refuse_the_rest();
  return checked_source(*url, fields.place_of("url"));
}

// The one field of `names` that is stated; two would leave open which one counts.
const char* only_source_field(MessageFields& fields, std::initializer_list<const char*> names) {
  const char* chosen = nullptr;
  for (const char* name : names) {
    if (!fields.get(name)) continue;
    if (chosen)
      refuse_message(fmt::format("{} has both \"{}\" and \"{}\"", fields.where(), chosen, name),
                     "give one of them");
    chosen = name;
  }
  if (!chosen)
    refuse_message(fmt::format("{} has no field \"{}\"", fields.where(), *names.begin()), kPartForms);
  return chosen;
}

bool is_url_field(std::string_view name) { return name == "image_url" || name == "video_url"; }

void read_image(MessageFields& fields, ContentPart& part) {
  part.type = ContentPart::Type::image;
  const char* name = only_source_field(fields, {"image", "image_url", "path", "url"});
  const json& value = *fields.get(name);
  part.source = is_url_field(name) ? url_source(value, fields.place_of(name))
                                   : checked_source(value, fields.place_of(name));
}

void read_video(MessageFields& fields, ContentPart& part) {
  part.type = ContentPart::Type::video;
  part.fps = fields.rate("fps");
  const char* name = only_source_field(fields, {"video", "video_url", "path", "url"});
  const json& value = *fields.get(name);
  const std::string where = fields.place_of(name);
  if (!value.is_array()) {
    part.source = is_url_field(name) ? url_source(value, where) : checked_source(value, where);
    return;
  }
  if (value.empty()) refuse_message(where + " is an empty list of frames", "give at least one frame");
  for (size_t i = 0; i < value.size(); ++i)
    part.frames.push_back(checked_source(value[i], fmt::format("{}[{}]", where, i)));
}

// The type stated, or that of the field that is there: Qwen's own examples leave "type" out at times.
std::string type_of(MessageFields& fields) {
  if (const auto type = fields.string("type")) return *type;
  for (const char* name : {"text", "image", "image_url", "video", "video_url"}) {
    if (fields.get(name)) return name;
  }
  refuse_message(fields.where() + " has no field \"type\"", kPartForms);
}

ContentPart parse_part(const json& value, const std::string& where) {
  MessageFields type_fields(value, where), fields(value, where);
  const std::string type = type_of(type_fields);
  fields.get("type");
  ContentPart part;
  if (type == "text") {
    const auto text = fields.string("text");
    if (!text) refuse_message(where + " has no field \"text\"", kPartForms);
    part.text = *text;
  } else if (type == "image" || type == "image_url") {
    read_image(fields, part);
  } else if (type == "video" || type == "video_url") {
    read_video(fields, part);
  } else {
    throw Error(ErrorKind::unsupported, fmt::format("{}.type = \"{}\" is not supported", where, type),
                kPartForms);
  }
  if (part.type != ContentPart::Type::text) {
    part.min_pixels = fields.pixels("min_pixels");
    part.max_pixels = fields.pixels("max_pixels");
    part.max_image_tokens = fields.tokens("max_image_tokens");
    if (part.min_pixels && part.max_pixels && *part.min_pixels > *part.max_pixels) {
      refuse_message(where + ".min_pixels is greater than max_pixels", "give a range that is not empty");
    }
  }
  fields.refuse_the_rest();
  return part;
}

Message parse_message(const json& value, const std::string& where) {
  MessageFields fields(value, where);
  Message message;
  const auto role = fields.string("role");
  if (!role) refuse_message(where + " has no field \"role\"", "write \"system\", \"user\" or \"assistant\"");
  if (*role != "system" && *role != "user" && *role != "assistant") {
    throw Error(ErrorKind::unsupported, fmt::format("{}.role = \"{}\" is not supported", where, *role),
                "write \"system\", \"user\" or \"assistant\"");
  }
  message.role = *role;
  const json* content = fields.get("content");
  if (!content || (!content->is_string() && !content->is_array())) {
    refuse_message(where + ".content is neither a string nor a list", kPartForms);
  }
  if (content->is_string()) {
    message.content.emplace_back().text = content->get<std::string>();
  } else {
    for (size_t i = 0; i < content->size(); ++i) {
      message.content.push_back(parse_part((*content)[i], fmt::format("{}.content[{}]", where, i)));
    }
  }
  fields.refuse_the_rest();
  return message;
}

json parse_document(std::string_view text) {
  try {
    return json::parse(text);
  } catch (const json::exception& error) {
    refuse_message(fmt::format("the message list is not valid JSON: {}", error.what()),
                   "check the file with a JSON tool");
  }
}

}  // namespace

std::vector<Message> parse_messages(std::string_view text) {
  const json document = parse_document(text);
  const json* list = &document;
  if (document.is_object()) {
    MessageFields fields(document, "the message list");
    list = fields.get("messages");
    if (!list) refuse_message("the message list has no field \"messages\"", "write {\"messages\": [...]}");
    fields.refuse_the_rest();
  }
  if (!list->is_array() || list->empty()) {
    refuse_message("the message list is not a list of at least one message",
                   R"(write [{"role": "user", "content": "..."}])");
  }
  std::vector<Message> messages;
  for (size_t i = 0; i < list->size(); ++i) {
    messages.push_back(parse_message((*list)[i], fmt::format("messages[{}]", i)));
  }
  return messages;
}

}  // namespace fovea
