#include <algorithm>

#include "base/error.h"
#include "text/message.h"

namespace fovea {
namespace {

constexpr std::string_view kImage = "<image>", kVideo = "<video>";

// The images or the videos of a command line, taken in order.
struct Items {
  ContentPart::Type type;
  std::string_view placeholder;
  const std::vector<std::string>& sources;
  size_t taken = 0;

  // Without a placeholder items stand before the text; with some, each has to have its own.
  void refuse_leftovers() const {
    if (taken == 0 || taken == sources.size()) return;
    throw Error(ErrorKind::invalid_argument,
                fmt::format("the prompt has fewer {} placeholders ({}) than there are files ({})",
                            placeholder, taken, sources.size()),
                fmt::format("write one {} for each --{}, or none: then all of them come before the text",
                            placeholder, placeholder.substr(1, 5)));
  }

  ContentPart take() {
    if (taken == sources.size()) {
      throw Error(ErrorKind::invalid_argument,
                  fmt::format("the prompt has more {} placeholders than there are files ({})", placeholder,
                              sources.size()),
                  fmt::format("give one --{} FILE for each {}", placeholder.substr(1, 5), placeholder));
    }
    ContentPart part;
    part.type = type;
    part.source = sources[taken++];
    return part;
  }
};

void append_text(std::vector<ContentPart>& parts, std::string_view text) {
  if (!text.empty()) parts.emplace_back().text = text;
}

}  // namespace

std::vector<Message> messages_from_prompt(const std::string& prompt, const std::vector<std::string>& images,
                                          const std::vector<std::string>& videos,
                                          const std::optional<std::string>& system) {
  Items image_items{ContentPart::Type::image, kImage, images},
      video_items{ContentPart::Type::video, kVideo, videos};
  std::vector<ContentPart> placed;
  for (std::string_view rest = prompt; !rest.empty();) {
    const size_t image = rest.find(kImage), video = rest.find(kVideo), next = std::min(image, video);
    append_text(placed, rest.substr(0, next));
    if (next == std::string_view::npos) break;
    placed.push_back((image < video ? image_items : video_items).take());
    rest.remove_prefix(next + kImage.size());  // both placeholders have this length
  }
  image_items.refuse_leftovers();
  video_items.refuse_leftovers();
  Message user{"user", {}, {}};
  while (image_items.taken < images.size()) user.content.push_back(image_items.take());
  while (video_items.taken < videos.size()) user.content.push_back(video_items.take());
  user.content.insert(user.content.end(), placed.begin(), placed.end());

  std::vector<Message> messages;
  if (system) {
    messages.push_back({"system", {}, {}});
    append_text(messages.back().content, *system);
  }
  messages.push_back(std::move(user));
  return messages;
}

}  // namespace fovea
