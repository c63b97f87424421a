// From a conversation to token ids, patches and positions.
#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/freed_memory.h"
#include "media/geometry.h"
#include "media/token_budget.h"
#include "runtime/state.h"

namespace fovea {

namespace {

// Frames are chosen and sized as qwen_vl_utils does, whose limits only the user's wishes replace. What the
// folder's video processor allows a frame then holds on top, as when the processor is handed those frames; a
// limit that the user states takes the place of the folder's. So a published folder, whose limits are wider,
// changes nothing.
void set_video_options(const PreprocessorConfig& config, const MediaLimits& limits, const ContentPart& part,
                       MediaOptions& options) {
  options.video_min_pixels = part.min_pixels ? part.min_pixels : limits.min_pixels;
  options.video_max_pixels = part.max_pixels ? part.max_pixels : limits.max_pixels;
  if (!options.video_min_pixels) options.processor_min_pixels = config.video_min_pixels;
  if (!options.video_max_pixels) options.processor_max_pixels = config.video_max_pixels;
  options.total_pixels = part.total_pixels;
  options.fps = part.fps.value_or(limits.fps.value_or(options.fps));
  options.nframes = part.nframes;
  if (part.max_frames) options.max_frames = *part.max_frames;
  // A maximum below the default minimum wins, as in the reference.
  options.min_frames = part.min_frames.value_or(std::min(options.min_frames, options.max_frames));
  options.video_start = part.video_start;
  options.video_end = part.video_end;
}

}  // namespace

MediaOptions media_options(const PreprocessorConfig& config, const MediaLimits& limits,
                           const ContentPart& part) {
  MediaOptions options;
  const bool sized = part.resized_height.has_value();  // then the part's own limits are moot
  options.min_pixels =
      (sized ? std::nullopt : part.min_pixels).value_or(limits.min_pixels.value_or(config.min_pixels));
  options.max_pixels =
      (sized ? std::nullopt : part.max_pixels).value_or(limits.max_pixels.value_or(config.max_pixels));
  options.resized_height = part.resized_height;
  options.resized_width = part.resized_width;
  options.page = part.page;
  options.pages = part.pages;
  set_video_options(config, limits, part, options);
  options.patch_size = config.patch_size;
  options.temporal_patch_size = config.temporal_patch_size;
  options.merge_size = config.merge_size;
  options.rescale_factor = config.rescale_factor;
  options.mean = config.image_mean;
  options.std = config.image_std;
  options.resize = limits.resize;
  return options;
}

namespace {

// An image or video of the conversation and how it is to be read.
struct Item {
  const ContentPart& part;
  MediaOptions options;
  std::optional<int64_t> max_tokens;
};

std::vector<Item> items_of(const std::vector<Message>& messages, const PreprocessorConfig& config,
                           const MediaLimits& limits) {
  std::vector<Item> items;
  for (const Message& message : messages) {
    for (const ContentPart& part : message.content) {
      if (part.type == ContentPart::Type::text) continue;
      items.push_back({part, media_options(config, limits, part),
                       part.max_image_tokens ? part.max_image_tokens : limits.max_image_tokens});
    }
  }
  return items;
}

// Each page of a file that holds several is a picture of its own, in the place of the one that named the
// file.
std::vector<Message> with_pages(const std::vector<Message>& messages) {
  std::vector<Message> paged = messages;
  for (Message& message : paged) {
    std::vector<ContentPart> parts;
    for (ContentPart& part : message.content) {
      if (part.type == ContentPart::Type::image) part.pages = count_pages(part.source);
      for (part.page = 0; part.page < part.pages; ++part.page) parts.push_back(part);
    }
    message.content = std::move(parts);
  }
  return paged;
}

Picture load(const ContentPart& part, const MediaOptions& options) {
  if (part.type == ContentPart::Type::image) return load_image(part.source, options);
  return part.frames.empty() ? load_video(part.source, options) : load_frames(part.frames, options);
}

Picture measure(const ContentPart& part, const MediaOptions& options) {
  if (part.type == ContentPart::Type::image) return measure_image(part.source, options);
  return part.frames.empty() ? measure_video(part.source, options) : measure_frames(part.frames, options);
}

// Pictures measured under what the limits in tokens make of their options.
struct Measured {
  std::vector<Picture> pictures;
  std::vector<MediaOptions> options;
};

Measured measure_items(const std::vector<Item>& items, const std::optional<int64_t>& total) {
  Measured m;
  for (const Item& item : items) {
    m.pictures.push_back(measure(item.part, item.options));
    return_freed_memory();
    m.options.push_back(item.options);
    if (item.max_tokens) limit_tokens(m.pictures.back(), m.options.back(), *item.max_tokens);
  }
  if (total) share_tokens(m.pictures, m.options, *total);
  for (size_t i = 0; i < items.size(); ++i) m.pictures[i] = with_geometry(m.pictures[i], m.options[i]);
  return m;
}

// Repeats each pad token to the token count of its picture.
std::vector<int32_t> expand_pads(const std::vector<int32_t>& ids, const std::vector<Picture>& pictures,
                                 const ModelConfig& config) {
  std::vector<int32_t> expanded;
  size_t next = 0;
  for (const int32_t id : ids) {
    const bool pad = id == config.image_token_id || id == config.video_token_id;
    if (pad && next < pictures.size()) {
      const int64_t tokens = pictures[next++].tokens(config.vision.spatial_merge_size);
      expanded.insert(expanded.end(), static_cast<size_t>(tokens), id);
    } else {
      expanded.push_back(id);  // a pad too many is reported by mrope_positions
    }
  }
  return expanded;
}

[[noreturn]] void refuse_length(int64_t tokens, int64_t context) {
  throw Error(ErrorKind::exhausted,
              fmt::format("the prompt has {} tokens, the model's context is {}", tokens, context),
              "shorten the text, use fewer images, or give --max-total-image-tokens");
}

}  // namespace

MeasuredPrompt Engine::measure(const std::vector<Message>& conversation, const MediaLimits& limits,
                               bool add_vision_id) const {
  const std::vector<Message> messages = with_pages(conversation);
  const EngineParts& parts = *state_->parts;
  const std::string text =
      parts.chat_template.render(messages, {.add_generation_prompt = true, .add_vision_id = add_vision_id});
  const std::vector<Item> items = items_of(messages, parts.checkpoint.preprocessor(), limits);
  Measured measured = measure_items(items, limits.max_total_image_tokens);
  std::vector<int32_t> ids =
      expand_pads(parts.tokenizer.encode(text), measured.pictures, parts.checkpoint.config());
  return {std::move(ids), std::move(measured.pictures)};
}

Prompt Engine::prepare_text(std::string_view text) const {
  return prepare_ids(state_->parts->tokenizer.encode(text));
}

Prompt Engine::prepare_ids(std::vector<int32_t> ids) const {
  const Stopwatch watch;
  const EngineParts& parts = *state_->parts;
  const TextConfig& config = parts.checkpoint.config().text;
  if (ids.empty()) {
    throw Error(ErrorKind::invalid_argument, "the prompt has no token", "ask something");
  }
  for (const int32_t id : ids) {
    if (id >= 0 && id < config.vocab_size) continue;
    throw Error(ErrorKind::invalid_argument, fmt::format("{} is no token of the model", id),
                fmt::format("send tokens from 0 to {}", config.vocab_size - 1));
  }
  const auto tokens = static_cast<int64_t>(ids.size());
  if (tokens >= config.max_position_embeddings) refuse_length(tokens, config.max_position_embeddings);
  Prompt prompt;
  prompt.text = parts.tokenizer.decode(ids, false);
  prompt.positions = mrope_positions(ids, {}, parts.checkpoint.config());
  prompt.ids = std::move(ids);
  prompt.preprocess_seconds = watch.seconds();
  return prompt;
}

Prompt Engine::prepare(const std::vector<Message>& conversation, const MediaLimits& limits,
                       bool add_vision_id, const PromptCheck& check) const {
  const Stopwatch watch;
  const std::vector<Message> messages = with_pages(conversation);
  const EngineState& s = *state_;
  const ModelConfig& config = s.parts->checkpoint.config();
  const PreprocessorConfig& preprocessor = s.parts->checkpoint.preprocessor();
  const int64_t merge = config.vision.spatial_merge_size, context = config.text.max_position_embeddings;
  Prompt prompt;
  for (const Message& message : messages)
    prompt.warnings.insert(prompt.warnings.end(), message.notes.begin(), message.notes.end());
  prompt.text = s.parts->chat_template.render(
      messages, {.add_generation_prompt = true, .add_vision_id = add_vision_id});
  const std::vector<int32_t> ids = s.parts->tokenizer.encode(prompt.text);
  std::vector<Item> items = items_of(messages, preprocessor, limits);
  const auto limited = [](const Item& item) { return item.max_tokens.has_value(); };
  if (check || limits.max_total_image_tokens || std::any_of(items.begin(), items.end(), limited)) {
    const Measured measured = measure_items(items, limits.max_total_image_tokens);
    for (size_t i = 0; i < items.size(); ++i) items[i].options = measured.options[i];
    const auto tokens = static_cast<int64_t>(expand_pads(ids, measured.pictures, config).size());
    if (check && tokens < context) check(tokens, measured.pictures, measured.options);
  }
  std::vector<VisualItem> visual;
  int64_t room = context;
  for (Item& item : items) {
    item.options.tokens_max = room;
    Picture picture = load(item.part, item.options);
    return_freed_memory();  // of decoding and resampling, before the next one asks for other sizes
    picture.tokens_wanted = tokens_under(picture, media_options(preprocessor, {}, {}));
    room -= picture.tokens(merge);
    visual.push_back({picture.grid, picture.is_video, picture.second_per_grid});
    if (std::string warning = reduction_warning(picture, merge); !warning.empty())
      prompt.warnings.push_back(std::move(warning));
    prompt.pictures.push_back(std::move(picture));
  }
  prompt.ids = expand_pads(ids, prompt.pictures, config);
  prompt.positions = mrope_positions(prompt.ids, visual, config, limits.video_positions);
  prompt.video_positions = limits.video_positions;
  const auto tokens = static_cast<int64_t>(prompt.ids.size());
  if (tokens >= context) refuse_length(tokens, context);
  return_freed_memory();
  prompt.preprocess_seconds = watch.seconds();
  return prompt;
}

}  // namespace fovea
