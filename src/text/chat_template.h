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
  // Looks for chat_template.jinja, chat_template.json, then tokenizer_config.json's chat_template in `dir`.
  // Throws Error(unsupported) when the Jinja text is not a known Qwen2.5-VL template.
  static ChatTemplate open(const std::filesystem::path& dir);

  struct Options {
    bool add_generation_prompt = true;
    bool add_vision_id = false;  // "Picture 1: ", "Video 1: "
  };
  // One <|image_pad|> or <|video_pad|> per item; the caller repeats it to the item's token count.
  std::string render(const std::vector<Message>& messages, const Options& options) const;
};

}  // namespace fovea
