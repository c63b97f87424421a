// A conversation as OpenAI and Qwen state it: roles and ordered parts of text, images and videos.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

struct ContentPart {
  enum class Type { text, image, video };
  Type type = Type::text;
  std::string text;    // type text
  std::string source;  // image or video: a path, a file:// URL or a data:...;base64, URL
  std::vector<std::string>
      frames;  // video given as a list of image sources, in order (then `source` is empty)
  std::optional<int64_t> min_pixels, max_pixels;  // per item, as in the Qwen message list
  std::optional<int64_t> max_image_tokens;        // the same limit in tokens, of the resized picture
  std::optional<double> fps;                      // video: sampling rate, or the rate of the listed frames
};

struct Message {
  std::string role;  // system, user, assistant
  std::vector<ContentPart> content;
};

// Parses an OpenAI / Qwen message list: content a string or a list of {"type": "text" | "image" | "image_url"
// | "video" | "video_url", ...}; also {"messages": [...]}. Throws Error(invalid_argument) naming the message
// and field.
std::vector<Message> parse_messages(std::string_view json);

// One user message from a prompt and the images and videos of the command line: each "<image>" or "<video>"
// in the prompt is replaced by the next item; items left over stand before the text. A placeholder without an
// item throws.
std::vector<Message> messages_from_prompt(const std::string& prompt, const std::vector<std::string>& images,
                                          const std::vector<std::string>& videos,
                                          const std::optional<std::string>& system);

}  // namespace fovea
