#include "library/requests.h"

#include <openssl/sha.h>

#include <cmath>
#include <cstring>

#include "api/generation.h"
#include "base/field_error.h"
#include "runtime/constraint.h"
#include "runtime/logprobs.h"
#include "text/data_url.h"

namespace fovea {

namespace {

std::string source_of(const v0::Media& media, const ResolveFn& resolve, const std::string& field) {
  if (!media.bytes.empty()) return data_url(media.bytes);
  if (media.name.empty()) {
    throw FieldError(ErrorKind::invalid_argument, field, "has neither bytes nor a name",
                     "give the content of the picture's file");
  }
  if (!resolve) {
    throw FieldError(ErrorKind::invalid_argument, field, "is a name, and nobody resolves names",
                     "give its bytes, or set EngineOptions::resolve");
  }
  return data_url(resolve(media.name));
}

ContentPart part_of(const v0::Part& given, const ResolveFn& resolve, const std::string& field) {
  ContentPart part;
  part.min_pixels = given.min_pixels;
  part.max_pixels = given.max_pixels;
  part.max_image_tokens = given.max_image_tokens;
  part.fps = given.fps;
  switch (given.kind) {
    case v0::Part::Kind::text:
      part.text = given.text;
      break;
    case v0::Part::Kind::image:
      part.type = ContentPart::Type::image;
      part.source = source_of(given.media, resolve, part.field = field + ".image");
      break;
    case v0::Part::Kind::video:
      part.type = ContentPart::Type::video;
      part.source = source_of(given.media, resolve, part.field = field + ".video");
      break;
    case v0::Part::Kind::frames:
      part.type = ContentPart::Type::video;
      part.field = field + ".frames";
      for (size_t i = 0; i < given.frames.size(); ++i) {
        part.frames.push_back(source_of(given.frames[i], resolve, fmt::format("{}[{}]", part.field, i)));
      }
      break;
  }
  return part;
}

template <typename T>
void within(const std::optional<T>& value, double low, double high, const char* field) {
  if (!value || (static_cast<double>(*value) >= low && static_cast<double>(*value) <= high)) return;
  throw FieldError(ErrorKind::invalid_argument, field, fmt::format("= {} is out of range", *value),
                   fmt::format("set it from {} to {}", low, high));
}

void check_ranges(const v0::Request& request) {
  constexpr double kTokens = kMostTokens;
  within(request.max_tokens, 1, kTokens, "max_tokens");
  within(request.temperature, 0, kMostTemperature, "temperature");
  within(request.top_p, 0, 1, "top_p");
  within(request.min_p, 0, 1, "min_p");
  within(request.top_k, 0, kTokens, "top_k");
  within(request.repetition_penalty, 0.01, 100, "repetition_penalty");
  within(std::optional(request.presence_penalty), -kMostPenalty, kMostPenalty, "presence_penalty");
  within(std::optional(request.frequency_penalty), -kMostPenalty, kMostPenalty, "frequency_penalty");
  within(request.top_logprobs, 0, kMostTopLogprobs, "top_logprobs");
  for (const auto& [id, bias] : request.logit_bias) {
    within(std::optional(id), 0, kTokens, "logit_bias");
    within(std::optional(bias), -kMostBias, kMostBias, "logit_bias");
  }
  for (const std::string& stop : request.stop) {
    if (stop.empty())
      throw FieldError(ErrorKind::invalid_argument, "stop", "has an empty string", "leave it out");
  }
  if (request.json_object && !request.json_schema.empty()) {
    throw FieldError(ErrorKind::invalid_argument, "json_object", "contradicts json_schema",
                     "set one of them");
  }
}

}  // namespace

std::vector<Message> messages_of(const v0::Request& request, const ResolveFn& resolve) {
  std::vector<Message> messages;
  for (size_t i = 0; i < request.messages.size(); ++i) {
    const v0::Message& given = request.messages[i];
    const std::string field = fmt::format("messages[{}]", i);
    if (given.role != "system" && given.role != "user" && given.role != "assistant") {
      throw FieldError(ErrorKind::invalid_argument, field + ".role", "is none that fovea knows",
                       "set it to system, user or assistant");
    }
    Message& message = messages.emplace_back();
    message.role = given.role;
    for (size_t part = 0; part < given.content.size(); ++part) {
      message.content.push_back(
          part_of(given.content[part], resolve, fmt::format("{}.content[{}]", field, part)));
    }
  }
  if (messages.empty()) {
    throw FieldError(ErrorKind::invalid_argument, "messages", "is empty", "ask something");
  }
  return messages;
}

GenerationOptions generation_options_of(const v0::Request& request, const GenerationOptions& defaults,
                                        GrammarCompiler& grammars) {
  check_ranges(request);
  AnswerFields fields;
  fields.max_tokens = request.max_tokens;
  fields.temperature = request.temperature;
  fields.top_p = request.top_p;
  fields.min_p = request.min_p;
  fields.top_k = request.top_k;
  fields.repetition_penalty = request.repetition_penalty;
  fields.presence_penalty = request.presence_penalty;
  fields.frequency_penalty = request.frequency_penalty;
  fields.logit_bias = request.logit_bias;
  fields.seed = request.seed;
  fields.stop = request.stop;
  fields.ignore_eos = request.ignore_eos;
  GenerationOptions options = generation_options(fields, defaults);
  if (request.json_object) constrain(options, grammars.json_object());
  if (!request.json_schema.empty()) {
    constrain(options, grammars.json_schema(request.json_schema, "json_schema"));
  }
  return options;
}

uint64_t cache_space_of(const std::string& salt) {
  if (salt.empty()) return 0;
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(salt.data()), salt.size(), digest);
  uint64_t number = 0;
  std::memcpy(&number, digest, sizeof number);
  return number;
}

}  // namespace fovea
