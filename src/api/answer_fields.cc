#include "api/answer_fields.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace fovea {
namespace {

using nlohmann::json;
using Use = RequestField::Use;

const RequestField* known_field(std::string_view name, std::span<const RequestField> fields) {
  const auto found = std::find_if(fields.begin(), fields.end(),
                                  [&](const RequestField& field) { return name == field.name; });
  return found == fields.end() ? nullptr : &*found;
}

std::optional<uint64_t> seed_of(const RequestFields& body) {
  const json* value = body.get("seed");
  if (value != nullptr && value->is_number_unsigned()) return value->get<uint64_t>();
  constexpr auto kRange = std::numeric_limits<int64_t>();
  const auto seed = body.integer("seed", kRange.min(), kRange.max());
  return seed ? std::optional(static_cast<uint64_t>(*seed)) : std::nullopt;
}

// {"token id": bias}: only sums of logits know ids, so names of tokens are refused.
std::map<int32_t, double> biases_of(const RequestFields& body) {
  std::map<int32_t, double> biases;
  const json* value = body.get("logit_bias");
  if (value == nullptr) return biases;
  if (!value->is_object() || value->size() > kMostBiases) {
    body.refuse("logit_bias", fmt::format("is no object of at most {} token ids", kMostBiases),
                R"(send {"token id": bias})");
  }
  const RequestFields entries(*value, body.place_of("logit_bias"));
  for (const auto& [name, bias] : value->items()) {
    int32_t id = 0;
    const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (failure != std::errc() || end != name.data() + name.size() || id < 0) {
      body.refuse("logit_bias", "names " + shown_value(name) + ", which is no token id",
                  "send ids as POST /tokenize gives them");
    }
    biases[id] = entries.number(name.c_str(), -kMostBias, kMostBias).value_or(0);
  }
  return biases;
}

void read_sampling(const RequestFields& body, AnswerFields& request) {
  request.temperature = body.number("temperature", 0, kMostTemperature);
  request.top_p = body.number("top_p", 0, 1);
  request.top_k = body.integer("top_k", -1, kMostTokens);
  if (request.top_k == -1) request.top_k = 0;
  request.repetition_penalty = body.number("repetition_penalty", 0.01, 100);
  request.min_p = body.number("min_p", 0, 1);
  request.presence_penalty = body.number("presence_penalty", -kMostPenalty, kMostPenalty).value_or(0);
  request.frequency_penalty = body.number("frequency_penalty", -kMostPenalty, kMostPenalty).value_or(0);
  request.logit_bias = biases_of(body);
  request.seed = seed_of(body);
  request.stop = body.string_or_list("stop", kMostStops);
  request.ignore_eos = body.boolean("ignore_eos").value_or(false);
  request.n = body.integer("n", 1, kMostChoices).value_or(1);
}

void read_sending(const RequestFields& body, AnswerFields& request) {
  request.stream = body.boolean("stream").value_or(false);
  const json* options = body.get("stream_options");
  if (options == nullptr) return;
  if (!request.stream) body.refuse("stream_options", "wants stream", "send \"stream\": true beside it");
  const RequestFields fields(*options, "stream_options");
  request.include_usage = fields.boolean("include_usage").value_or(false);
  // OpenAI's padding against listeners, and usage in every chunk (vLLM).
  fields.boolean("include_obfuscation");
  if (fields.boolean("continuous_usage_stats").value_or(false)) {
    fields.not_supported("continuous_usage_stats", "is not supported", "send include_usage");
  }
  for (const auto& [name, value] : options->items()) {
    if (value.is_null() || name == "include_usage" || name == "include_obfuscation" ||
        name == "continuous_usage_stats") {
      continue;
    }
    request.warnings.push_back("stream_options: fovea does not know " + shown_value(name));
  }
}

}  // namespace

void read_answer_fields(const RequestFields& body, AnswerFields& fields) {
  fields.model = body.string("model", kLongestName).value_or("");
  read_sampling(body, fields);
  read_sending(body, fields);
  fields.cache_salt = body.string("cache_salt", kLongestName).value_or("");
}

void check_other_fields(const RequestFields& body, std::span<const RequestField> table,
                        std::vector<std::string>& warnings) {
  constexpr size_t kMostNamed = 12;
  std::vector<std::string> unknown;
  size_t unknown_count = 0;
  for (const auto& [name, value] : body.object().items()) {
    const RequestField* field = known_field(name, table);
    if (value.is_null() || (field && (field->use == Use::read || field->use == Use::neutral))) continue;
    if (!field) {
      if (++unknown_count <= kMostNamed) unknown.push_back(shown_value(name));
    } else if (field->use == Use::hint) {
      warnings.push_back(fmt::format("{} has no effect: {}", name, field->what));
    } else {
      const json nothing = json::parse(field->nothing);
      if (std::find(nothing.begin(), nothing.end(), value) != nothing.end()) continue;
      const std::string remedy = nothing.empty() ? "leave the field out" : "leave the field out, or send ";
      body.not_supported(name,
                         fmt::format("is {}, which is not supported: {}", shown_value(value), field->what),
                         nothing.empty() ? remedy : remedy + nothing[0].dump());
    }
  }
  if (unknown.empty()) return;
  if (unknown_count > kMostNamed) unknown.push_back(fmt::format("{} more", unknown_count - kMostNamed));
  warnings.push_back(
      fmt::format("fields that fovea does not know have no effect: {}", fmt::join(unknown, ", ")));
}

}  // namespace fovea
