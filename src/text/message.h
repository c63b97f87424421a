// A conversation as OpenAI and Qwen state it: roles and ordered parts of text, images and videos.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

struct ContentPart {
  enum class Type { text, image, video };
  Type type = Type::text;
  std::string text;  // type text
  std::string
      field;  // image or video: the one it was stated in ("image_url"), for errors; empty when it was not
  // Image or video: a path, a file:// URL or a data:...;base64, URL, or an address as NetworkAddresses says.
  std::string source;
  std::vector<std::string>
      frames;                   // video given as a list of image sources, in order (then `source` is empty)
  int64_t page = 0, pages = 1;  // which page of an image file that holds several
  // Per item, in the words and with the meaning of qwen_vl_utils.
  std::optional<int64_t> min_pixels, max_pixels;
  std::optional<int64_t> resized_height, resized_width;  // in place of both; both or none
  std::optional<int64_t> max_image_tokens;               // not of qwen_vl_utils: max_pixels in tokens
  std::optional<double> fps;                             // video: sampling rate, or that of the listed frames
  std::optional<int64_t> nframes, min_frames, max_frames, total_pixels;  // video
  std::optional<double> video_start, video_end;                          // video, in seconds
};

struct Message {
  std::string role;  // system, user, assistant, tool
  std::vector<ContentPart> content;
  std::vector<std::string> notes;  // of fields that the model is not shown, for people
  std::string tool_calls = {};     // of an assistant, as JSON; with_tools() (text/tool_messages.h) shows them
};

// Parses an OpenAI / Qwen message list: content a string or a list of {"type": "text" | "image" | "image_url"
// | "video" | "video_url", ...}; also {"messages": [...]}. Content that is null is none, and
// beside an assistant's tool_calls it may be missing. Throws FieldError(invalid_argument | unsupported)
// naming the message and field.
std::vector<Message> parse_messages(std::string_view json);
// Likewise of a list that is parsed already, such as the field "messages" of a request. Network addresses
// stay in only for who decides about them himself (for_each_source).
enum class NetworkAddresses { refused, kept };
std::vector<Message> messages_of(const nlohmann::json& list,
                                 NetworkAddresses addresses = NetworkAddresses::refused);

// Shows every source of an image, video or listed frame, in order, with its place
// ("messages[1].content[0].image_url"); `visit` may replace it.
void for_each_source(std::vector<Message>& messages,
                     const std::function<void(std::string& source, const std::string& where)>& visit);

// One user message from a prompt and the images and videos of the command line: each "<image>" or "<video>"
// in the prompt is replaced by the next item. Without any placeholder of its kind, items stand before the
// text; fewer or more placeholders than items throw.
std::vector<Message> messages_from_prompt(const std::string& prompt, const std::vector<std::string>& images,
                                          const std::vector<std::string>& videos,
                                          const std::optional<std::string>& system);

}  // namespace fovea
