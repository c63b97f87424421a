// The Qwen2.5-VL chat template rendered natively. The checkpoint's own Jinja text must be a known one (proved
// equal by goldens); any other is refused by name, never approximated.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "text/message.h"

namespace fovea {

class ChatTemplate {
 public:
  static constexpr const char* kNative = "qwen2.5-vl";

  // Takes what `dir` states first: processor_config.json's chat_template, chat_template.json,
  // chat_template.jinja, tokenizer_config.json's chat_template. `instead`, when not empty, takes their place:
  // a file, or kNative for the template itself. Throws Error(unsupported) when the Jinja text is not a known
  // Qwen2.5-VL template.
  static ChatTemplate open(const std::filesystem::path& dir, const std::string& instead = "");
  // The same of a model that has no folder: of the text of its tokenizer_config.json, called `name` in
  // errors.
  static ChatTemplate of_config(const std::string& config, const std::string& name,
                                const std::string& instead = "");

  struct Options {
    bool add_generation_prompt = true;
    bool add_vision_id = false;  // "Picture 1: ", "Video 1: "
  };
  // One <|image_pad|> or <|video_pad|> per item; the caller repeats it to the item's token count.
  std::string render(const std::vector<Message>& messages, const Options& options) const;

 private:
  static ChatTemplate open_file(const std::filesystem::path& file);
};

}  // namespace fovea
