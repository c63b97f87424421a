#include "audit/asked_questions.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "audit/statistics.h"
#include "base/error.h"
#include "media/encode_png.h"
#include "media/heat_map.h"
#include "media/resample.h"

namespace fovea {

using nlohmann::ordered_json;

namespace {

constexpr size_t kMostQuestions = 8, kMostPictures = 8;

struct Asked {
  const SuiteItem* item = nullptr;
  std::vector<const ItemResult*> results;
  size_t place = 0;  // in the suite
  int64_t wrong = 0;
  double kl = 0;
  bool judged_differently = false, worded_differently = false;
};

void judge(Asked& asked) {
  for (const ItemResult* result : asked.results) {
    asked.wrong += !result->correct;
    if (!result->kl.empty()) asked.kl = std::max(asked.kl, mean(result->kl));
    asked.worded_differently |= result->answer != asked.results.front()->answer;
  }
  asked.judged_differently = asked.wrong > 0 && asked.wrong < std::ssize(asked.results);
}

// Those whose answers differ, the most telling first.
std::vector<Asked> telling(std::span<const Compared> compared) {
  std::map<const SuiteItem*, Asked> by_item;
  for (const Compared& c : compared) {
    for (const AnsweredItem& answered : c.answered) {
      Asked& asked = by_item[answered.item];
      if (asked.item == nullptr) asked.place = by_item.size();
      asked.item = answered.item;
      asked.results.push_back(answered.result);
    }
  }
  std::vector<Asked> found;
  for (auto& [item, asked] : by_item) {
    judge(asked);
    if (asked.judged_differently || asked.worded_differently) found.push_back(std::move(asked));
  }
  std::sort(found.begin(), found.end(), [](const Asked& a, const Asked& b) {
    return std::tuple(!a.judged_differently, -a.wrong, -a.kl, a.place) <
           std::tuple(!b.judged_differently, -b.wrong, -b.kl, b.place);
  });
  found.resize(std::min(found.size(), kMostQuestions));
  return found;
}

std::string base64_of(std::string_view bytes) {
  constexpr const char* kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t three = 0;
    for (size_t j = i; j < i + 3; ++j) {
      three = three << 8 | (j < bytes.size() ? static_cast<unsigned char>(bytes[j]) : 0);
    }
    for (int shift = 18; shift >= 0; shift -= 6) text += kLetters[three >> shift & 63];
  }
  for (size_t i = bytes.size() % 3; i != 0 && i < 3; ++i) text[text.size() - 3 + i] = '=';
  return text;
}

bool inside_character(const std::string& text, size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
}

// A question stands at the end more often than at the beginning.
std::string without_middle(const std::string& text) {
  constexpr size_t kHead = 400, kTail = 600;
  if (text.size() <= kHead + kTail) return text;
  size_t head = kHead, tail = text.size() - kTail;
  while (head > 0 && inside_character(text, head)) --head;
  while (inside_character(text, tail)) ++tail;
  return fmt::format("{} [... {} bytes left out ...] {}", text.substr(0, head), tail - head,
                     text.substr(tail));
}

ordered_json pictures_of(const Engine& engine, const MediaLimits& limits, const SuiteItem& item) {
  const PreprocessorConfig& config = engine.checkpoint().preprocessor();
  const MediaOptions options = media_options(config, {}, {});
  ordered_json list = ordered_json::array();
  try {
    const Prompt prompt = engine.prepare(item.messages, limits, false);
    for (const Picture& picture : prompt.pictures) {
      ordered_json entry = {{"width", picture.original_width},
                            {"height", picture.original_height},
                            {"tokens", picture.tokens(options.merge_size)},
                            {"frames", picture.frames},
                            {"thumbnail", nullptr}};
      if (list.size() < kMostPictures) entry["thumbnail"] = thumbnail(seen_picture(picture, 0, options));
      list.push_back(std::move(entry));
    }
  } catch (const Error&) {
    return ordered_json::array();  // they could be read when they were asked about, and are gone
  }
  return list;
}

}  // namespace

std::string thumbnail(const Image& picture) {
  FOVEA_CHECK(picture.size.width > 0 && picture.size.height > 0);
  std::string png;
  // The last fits whatever the picture: its pixels alone are 9 KiB, and PNG adds little to them.
  for (const int64_t side :
       {kThumbnailSide, int64_t{112}, int64_t{96}, int64_t{80}, int64_t{64}, int64_t{56}}) {
    const int64_t longest = std::max(picture.size.width, picture.size.height), most = std::min(side, longest);
    const ImageSize size{std::max<int64_t>(picture.size.height * most / longest, 1),
                         std::max<int64_t>(picture.size.width * most / longest, 1)};
    png = encode_png(resample_bicubic(picture, size, Bicubic::pil));
    if (png.size() <= kThumbnailBytes) break;
  }
  return "data:image/png;base64," + base64_of(png);
}

std::string shown_prompt(const std::vector<Message>& messages) {
  std::string text;
  int64_t pictures = 0;
  for (const Message& message : messages) {
    if (!text.empty()) text += '\n';
    if (messages.size() > 1) text += message.role + ": ";
    for (const ContentPart& part : message.content) {
      text += part.type == ContentPart::Type::text ? part.text : fmt::format("[picture {}] ", ++pictures);
    }
  }
  return without_middle(text);
}

ordered_json asked_questions(const Engine& engine, const MediaLimits& limits,
                             std::span<const Compared> compared) {
  ordered_json list = ordered_json::array();
  for (const Asked& asked : telling(compared)) {
    list.push_back({{"id", asked.item->id},
                    {"prompt", shown_prompt(asked.item->messages)},
                    {"pictures", pictures_of(engine, limits, *asked.item)}});
  }
  return list;
}

}  // namespace fovea
