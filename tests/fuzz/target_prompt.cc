// A prompt of the command line with its placeholders.
#include <string>

#include "target.h"
#include "text/message.h"

FOVEA_FUZZ_TARGET(prompt) {
  fovea::messages_from_prompt(std::string(bytes), {"a.png", "b.png"}, {"c.mp4"}, "system");
}
