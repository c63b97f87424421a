#include "text/message.h"

#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/message_fields.h"

namespace fovea {
namespace {

using nlohmann::json;

// What reading a message needs and leaves beside it.
struct Reading {
  NetworkAddresses addresses = NetworkAddresses::refused;
  std::vector<std::string> notes;
};

// A path, a file:// URL or a data:...;base64, URL; a network address only where the caller looks after it.
std::string checked_source(const json& value, const std::string& where, const Reading& reading) {
  if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
    refuse_message(where, "is not a path or URL",
                   "give a file name, a file:// URL or a data:...;base64, URL");
  }
  const auto& source = value.get_ref<const std::string&>();
  const bool is_address = source.starts_with("http://") || source.starts_with("https://");
  if (is_address && reading.addresses == NetworkAddresses::refused) {
    not_supported(where, "is a network address, " + source.substr(0, 200),
                  "download the file and give its path");
  }
  return source;
}

// The value of "image_url" and "video_url": {"url": "..."} (OpenAI) or the address itself.
std::string url_source(const json& value, const std::string& where, Reading& reading) {
  if (!value.is_object()) return checked_source(value, where, reading);
  MessageFields fields(value, where);
  const json* url = fields.get("url");
  if (!url) refuse_message(where, "has no field \"url\"", R"(write {"url": "..."})");
  // OpenAI's word for the resolution; transformers and vLLM look at it as little.
  const auto detail = fields.string("detail");
  if (detail && *detail != "auto" && *detail != "low" && *detail != "high") {
    not_supported(where + ".detail", fmt::format("= \"{}\" is not supported", *detail),
                  "write \"auto\", \"low\" or \"high\"");
  }
  if (detail && *detail == "low") {
    reading.notes.push_back(
        where + ".detail = \"low\" makes no picture smaller; give max_image_tokens or max_pixels");
  }
  fields.refuse_the_rest();
  return checked_source(*url, fields.place_of("url"), reading);
}

// The one field of `names` that is stated; two would leave open which one counts.
const char* only_source_field(MessageFields& fields, std::initializer_list<const char*> names) {
  const char* chosen = nullptr;
  for (const char* name : names) {
    if (!fields.get(name)) continue;
    if (chosen)
      refuse_message(fields.where(), fmt::format("has both \"{}\" and \"{}\"", chosen, name),
                     "give one of them");
    chosen = name;
  }
  if (!chosen) refuse_message(fields.where(), fmt::format("has no field \"{}\"", *names.begin()), kPartForms);
  return chosen;
}

bool is_url_field(std::string_view name) { return name == "image_url" || name == "video_url"; }

void read_image(MessageFields& fields, ContentPart& part, Reading& reading) {
  part.type = ContentPart::Type::image;
  const char* name = only_source_field(fields, {"image", "image_url", "path", "url"});
  const json& value = *fields.get(name);
  part.field = name;
  part.source = is_url_field(name) ? url_source(value, fields.place_of(name), reading)
                                   : checked_source(value, fields.place_of(name), reading);
}

// How a list of frames was sampled: sample_fps, or fps as older qwen_vl_utils called it. raw_fps, the rate of
// the video that they were taken from, goes into no input of this model. What chooses frames of a file
// chooses nothing here, so it may only say what is true of the list anyway.
void read_listed_frames(MessageFields& fields, ContentPart& part) {
  const std::optional<double> sampled = fields.rate("sample_fps");
  fields.rate("raw_fps");
  if (sampled && part.fps && *sampled != *part.fps) {
    refuse_message(fields.where(), fmt::format("has fps {} and sample_fps {}", *part.fps, *sampled),
                   "give one of them: the rate at which the listed frames were taken");
  }
  if (sampled) part.fps = sampled;
  const auto count = std::ssize(part.frames);
  const auto hold_true = [&](const char* name, bool holds) {
    if (holds) return;
    refuse_message(fields.place_of(name), fmt::format("does not fit a list of {} frames", count),
                   "leave it out: all listed frames are shown");
  };
  hold_true("nframes", !part.nframes || *part.nframes == count || *part.nframes == count + count % 2);
  hold_true("min_frames", !part.min_frames || *part.min_frames <= count + count % 2);
  hold_true("max_frames", !part.max_frames || *part.max_frames >= count);
  hold_true("video_start", !part.video_start);
  hold_true("video_end", !part.video_end);
  part.nframes = part.min_frames = part.max_frames = std::nullopt;
}

void read_sampling(MessageFields& fields, ContentPart& part) {
  part.fps = fields.rate("fps");
  part.nframes = fields.frames("nframes");
  part.min_frames = fields.frames("min_frames");
  part.max_frames = fields.frames("max_frames");
  part.total_pixels = fields.pixels("total_pixels");
  part.video_start = fields.seconds("video_start");
  part.video_end = fields.seconds("video_end");
  if (part.min_frames && part.max_frames && *part.min_frames > *part.max_frames) {
    refuse_message(fields.place_of("min_frames"), "is greater than max_frames",
                   "give a range that is not empty");
  }
}

void read_video(MessageFields& fields, ContentPart& part, Reading& reading) {
  part.type = ContentPart::Type::video;
  read_sampling(fields, part);
  const char* name = only_source_field(fields, {"video", "video_url", "path", "url"});
  const json& value = *fields.get(name);
  part.field = name;
  const std::string where = fields.place_of(name);
  if (!value.is_array()) {
    if (part.fps && part.nframes)
      refuse_message(fields.where(), "has both \"fps\" and \"nframes\"", "give one of them");
    part.source =
        is_url_field(name) ? url_source(value, where, reading) : checked_source(value, where, reading);
    return;
  }
  if (value.empty()) refuse_message(where, "is an empty list of frames", "give at least one frame");
  for (size_t i = 0; i < value.size(); ++i)
    part.frames.push_back(checked_source(value[i], fmt::format("{}[{}]", where, i), reading));
  read_listed_frames(fields, part);
}

// The type stated, or that of the field that is there: Qwen's own examples leave "type" out at times.
std::string type_of(MessageFields& fields) {
  if (const auto type = fields.string("type")) return *type;
  for (const char* name : {"text", "image", "image_url", "video", "video_url"}) {
    if (fields.get(name)) return name;
  }
  refuse_message(fields.where(), "has no field \"type\"", kPartForms);
}

void read_size(MessageFields& fields, ContentPart& part) {
  part.min_pixels = fields.pixels("min_pixels");
  part.max_pixels = fields.pixels("max_pixels");
  part.max_image_tokens = fields.tokens("max_image_tokens");
  part.resized_height = fields.side("resized_height");
  part.resized_width = fields.side("resized_width");
  if (part.min_pixels && part.max_pixels && *part.min_pixels > *part.max_pixels) {
    refuse_message(fields.place_of("min_pixels"), "is greater than max_pixels",
                   "give a range that is not empty");
  }
  if (part.resized_height.has_value() != part.resized_width.has_value()) {
    refuse_message(fields.where(), "has only one of \"resized_height\" and \"resized_width\"", "give both");
  }
}

ContentPart parse_part(const json& value, const std::string& where, Reading& reading) {
  MessageFields type_fields(value, where), fields(value, where);
  const std::string type = type_of(type_fields);
  fields.get("type");
  ContentPart part;
  if (type == "text") {
    const auto text = fields.string("text");
    if (!text) refuse_message(where, "has no field \"text\"", kPartForms);
    part.text = *text;
  } else if (type == "image" || type == "image_url") {
    read_image(fields, part, reading);
  } else if (type == "video" || type == "video_url") {
    read_video(fields, part, reading);
  } else {
    not_supported(where + ".type", fmt::format("= \"{}\" is not supported", type), kPartForms);
  }
  if (part.type != ContentPart::Type::text) read_size(fields, part);
  fields.refuse_the_rest();
  return part;
}

// What OpenAI's clients write beside role and content, of which the template of Qwen2.5-VL shows nothing.
// Returns whether the message may be without content.
bool read_tool_fields(MessageFields& fields, Message& message) {
  fields.get("name");  // of whoever speaks, or of the tool
  if (message.role == "tool") {
    fields.get("tool_call_id");
    return false;
  }
  if (message.role != "assistant") return false;
  const json* calls = fields.get("tool_calls");
  if (!calls) return false;
  if (!calls->is_array()) refuse_message(fields.place_of("tool_calls"), "is not a list", "leave it out");
  if (!calls->empty()) message.tool_calls = calls->dump(-1, ' ', false, json::error_handler_t::replace);
  message.notes.push_back(fields.place_of("tool_calls") +
                          " is not shown to the model: its chat template has no place for it");
  return true;
}

Message parse_message(const json& value, const std::string& where, NetworkAddresses addresses) {
  constexpr const char* kRoles = "write \"system\", \"user\", \"assistant\" or \"tool\"";
  MessageFields fields(value, where);
  Message message;
  const auto role = fields.string("role");
  if (!role) refuse_message(where, "has no field \"role\"", kRoles);
  if (*role != "system" && *role != "user" && *role != "assistant" && *role != "tool") {
    not_supported(where + ".role", fmt::format("= \"{}\" is not supported", *role), kRoles);
  }
  message.role = *role;
  const bool calls_tools = read_tool_fields(fields, message);
  const json* content = fields.get("content");
  // null is said: the template then shows nothing between the role and the end, as in transformers 5.
  if (!content && (calls_tools || value.contains("content"))) {
    fields.refuse_the_rest();
    return message;
  }
  if (!content || (!content->is_string() && !content->is_array())) {
    refuse_message(where + ".content", "is neither a string nor a list", kPartForms);
  }
  if (content->is_string()) {
    message.content.emplace_back().text = content->get<std::string>();
  } else {
    Reading reading{addresses, {}};
    for (size_t i = 0; i < content->size(); ++i) {
      message.content.push_back(parse_part((*content)[i], fmt::format("{}.content[{}]", where, i), reading));
    }
    message.notes.insert(message.notes.end(), reading.notes.begin(), reading.notes.end());
  }
  fields.refuse_the_rest();
  return message;
}

json parse_document(std::string_view text) {
  try {
    return json::parse(text);
  } catch (const json::exception& error) {
    refuse_message("", fmt::format("the message list is not valid JSON: {}", error.what()),
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
    if (!list) refuse_message("the message list", "has no field \"messages\"", "write {\"messages\": [...]}");
    fields.refuse_the_rest();
  }
  return messages_of(*list);
}

std::vector<Message> messages_of(const json& list, NetworkAddresses addresses) {
  if (!list.is_array() || list.empty()) {
    refuse_message("messages", "is not a list of at least one message",
                   R"(write [{"role": "user", "content": "..."}])");
  }
  std::vector<Message> messages;
  for (size_t i = 0; i < list.size(); ++i) {
    messages.push_back(parse_message(list[i], fmt::format("messages[{}]", i), addresses));
  }
  return messages;
}

void for_each_source(std::vector<Message>& messages,
                     const std::function<void(std::string& source, const std::string& where)>& visit) {
  for (size_t m = 0; m < messages.size(); ++m) {
    for (size_t p = 0; p < messages[m].content.size(); ++p) {
      ContentPart& part = messages[m].content[p];
      const std::string where = fmt::format("messages[{}].content[{}]", m, p);
      if (!part.source.empty()) visit(part.source, fmt::format("{}.{}", where, part.field));
      for (size_t f = 0; f < part.frames.size(); ++f)
        visit(part.frames[f], fmt::format("{}.{}[{}]", where, part.field, f));
    }
  }
}

}  // namespace fovea
