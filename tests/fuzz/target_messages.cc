// A message list, rendered when it is one.
#include "target.h"
#include "text/chat_template.h"
#include "text/message.h"

FOVEA_FUZZ_TARGET(messages) {
  const std::vector<fovea::Message> messages = fovea::parse_messages(bytes);
  fovea::ChatTemplate().render(messages, {true, true});
}
