// Files compiled into the program: the tokenizer and the chat template of the checkpoints that `fovea synth`
// writes.
#pragma once

#include <functional>
#include <string_view>

namespace fovea {

std::string_view embedded_chat_template();
// Calls write with the consecutive pieces of the Qwen tokenizer.json, decompressed.
void decompress_tokenizer(const std::function<void(std::string_view)>& write);

}  // namespace fovea
