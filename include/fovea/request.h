// A request: a conversation with pictures and videos, and how its answer is chosen. Plain data, of any
// thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "fovea/namespace.h"

namespace fovea {
FOVEA_INLINE namespace v0 {
  // The content of a picture's or a video's file (PNG, JPEG, WebP, GIF, BMP, TIFF; what FFmpeg knows), or a
  // name. A name is given to EngineOptions::resolve; the library opens no path because a message says so.
  struct Media {
    std::string bytes;  // empty: `name` counts
    std::string name;
  };

  // A piece of a message.
  struct Part {
    enum class Kind { text, image, video, frames };

    Kind kind = Kind::text;
    std::string text;           // text
    Media media;                // image, video
    std::vector<Media> frames;  // frames: a video as pictures, in their order
    // Of image, video, frames: in pixels, and in tokens of 28 x 28; nothing: the checkpoint's own bounds.
    std::optional<int64_t> min_pixels, max_pixels, max_image_tokens;
    // Of a video: frames a second that are taken of it; of frames: how many make a second.
    std::optional<double> fps;

    static Part of_text(std::string text) {
      Part part;
      part.text = std::move(text);
      return part;
    }
    static Part of_image(std::string bytes) {
      Part part;
      part.kind = Kind::image;
      part.media.bytes = std::move(bytes);
      return part;
    }
  };

  struct Message {
    std::string role;  // "system", "user", "assistant"
    std::vector<Part> content;
  };

  struct Request {
    std::vector<Message> messages;

    // Nothing: the checkpoint's generation config. Ranges as in OpenAI's API, of which these are the names.
    std::optional<int64_t> max_tokens;
    std::optional<double> temperature;  // 0: the most likely token, always
    std::optional<double> top_p, min_p;
    std::optional<int64_t> top_k;  // 0: all
    std::optional<double> repetition_penalty;
    double presence_penalty = 0, frequency_penalty = 0;
    std::map<int32_t, double> logit_bias;  // by token id
    uint64_t seed = 0;                     // equal requests with equal seeds have equal answers
    std::vector<std::string> stop;         // end the answer and are no part of it
    bool ignore_eos = false;

    // What the answer is held to: one JSON object, or what a JSON schema allows. At most one of them.
    bool json_object = false;
    std::string json_schema;

    // Events::on_token tells log probabilities of so many of the likeliest tokens, 0 to 20; nothing: of none.
    std::optional<int64_t> top_logprobs;

    // Requests share what was computed of equal beginnings only with those of the same name.
    std::string cache_salt;
  };

}  // namespace v0
}  // namespace fovea
