// chat_template.jinja, chat_template.json or tokenizer_config.json, as the first byte says.
#include <array>

#include "scratch.h"
#include "target.h"
#include "text/chat_template.h"

FOVEA_FUZZ_TARGET(chat_template) {
  if (bytes.empty()) return;
  static const fovea::fuzz::Scratch scratch;
  constexpr std::array<const char*, 3> kNames{"chat_template.jinja", "chat_template.json",
                                              "tokenizer_config.json"};
  const size_t chosen = static_cast<uint8_t>(bytes[0]) % kNames.size();
  for (const char* name : kNames) scratch.remove(name);
  scratch.write(kNames[chosen], bytes.substr(1));
  fovea::ChatTemplate::open(scratch.path());
}
