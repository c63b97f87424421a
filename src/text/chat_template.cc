#include "text/chat_template.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/fnv1a.h"
#include "text/json_place.h"
#include "text/text_file.h"

namespace fovea {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::string_view kDefaultSystem = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n";

// The Jinja texts that render() is proved equal to, without white space at the ends.
constexpr std::array<uint64_t, 2> kKnownTemplates = {
    0x71242f76359e71e8u,  // published with Qwen2-VL and Qwen2.5-VL: 1017 bytes, "{% set image_count =
                          // namespace..."
    0x7c20396f42fd4faeu,  // models/qwen-tokenizer/chat_template.jinja, which `fovea synth` writes
};

std::string_view without_outer_space(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

void refuse_unknown(std::string_view jinja, const std::string& file) {
  const uint64_t hash = fnv1a(without_outer_space(jinja));
  if (std::find(kKnownTemplates.begin(), kKnownTemplates.end(), hash) != kKnownTemplates.end()) return;
  throw Error(
      ErrorKind::unsupported,
      fmt::format("{}: this chat template is not the one of Qwen2.5-VL ({} bytes, hash {:016x})", file,
                  jinja.size(), hash),
      "use the template that was published with Qwen2.5-VL: --chat-template qwen2.5-vl takes it whatever the "
      "folder says");
}

// The "chat_template" of a JSON file: the Jinja text itself; several templates are a list of {"name",
// "template"}, of which "default" counts.
std::optional<std::string> template_in_json(const std::string& text, const std::string& name) {
  const json document = parse_json(text, name);
  const JsonPlace place = optional_field_of({&document, name + ": "}, "chat_template");
  if (place.value->is_null()) return std::nullopt;
  if (!place.value->is_array()) return string_at(place);
  for (size_t i = 0; i < place.value->size(); ++i) {
    const JsonPlace entry = element_of(place, i);
    if (string_at(field_of(entry, "name")) == "default") return string_at(field_of(entry, "template"));
  }
  return std::nullopt;
}

std::optional<std::string> template_in(const fs::path& file) {
  std::string text = read_text_file(file);
  return file.extension() == ".json" ? template_in_json(text, file.string()) : text;
}

void append_item(std::string& text, const char* name, int number, const char* pad, bool add_vision_id) {
  if (add_vision_id) text += fmt::format("{} {}: ", name, number);
  text += fmt::format("<|vision_start|>{}<|vision_end|>", pad);
}

}  // namespace

ChatTemplate ChatTemplate::open(const fs::path& dir, const std::string& instead) {
  if (instead == kNative) return {};
  if (!instead.empty()) return open_file(instead);
  // The order of ProcessorMixin.from_pretrained (transformers 4.57.6 and 5.24), then the tokenizer's own.
  for (const char* name :
       {"processor_config.json", "chat_template.json", "chat_template.jinja", "tokenizer_config.json"}) {
    const fs::path file = dir / name;
    if (!fs::exists(file)) continue;
    if (const std::optional<std::string> jinja = template_in(file)) {
      refuse_unknown(*jinja, file.string());
      return {};
    }
  }
  return {};  // a folder without any template gets this one
}

ChatTemplate ChatTemplate::of_config(const std::string& config, const std::string& name,
                                     const std::string& instead) {
  if (instead == kNative) return {};
  if (!instead.empty()) return open_file(instead);
  if (const std::optional<std::string> jinja = template_in_json(config, name)) refuse_unknown(*jinja, name);
  return {};
}

ChatTemplate ChatTemplate::open_file(const fs::path& file) {
  const std::optional<std::string> jinja = template_in(file);
  if (!jinja) {
    throw Error(ErrorKind::corrupt, fmt::format("{} holds no chat template", file.string()),
                "give a .jinja file, a chat_template.json, or qwen2.5-vl");
  }
  refuse_unknown(*jinja, file.string());
  return {};
}

std::string ChatTemplate::render(const std::vector<Message>& messages, const Options& options) const {
  std::string text;
  int pictures = 0, videos = 0;  // numbered through the whole conversation
  if (!messages.empty() && messages.front().role != "system") text += kDefaultSystem;
  for (const Message& message : messages) {
    text += fmt::format("<|im_start|>{}\n", message.role);
    for (const ContentPart& part : message.content) {
      switch (part.type) {
        case ContentPart::Type::text:
          text += part.text;
          break;
        case ContentPart::Type::image:
          append_item(text, "Picture", ++pictures, "<|image_pad|>", options.add_vision_id);
          break;
        case ContentPart::Type::video:
          append_item(text, "Video", ++videos, "<|video_pad|>", options.add_vision_id);
          break;
      }
    }
    text += "<|im_end|>\n";
  }
  if (options.add_generation_prompt) text += "<|im_start|>assistant\n";
  return text;
}

}  // namespace fovea
