#include "cli/attention_map_file.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/output_file.h"
#include "cli/option_values.h"
#include "media/encode_png.h"
#include "media/heat_map.h"

namespace fovea {

namespace {

constexpr const char* kGroup = "Attention map";
constexpr size_t kMostPanels = 64;

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() > end.size() && text.ends_with(end);
}

struct TokenRange {
  int64_t first, count;
};

// "all", "3", "2:5" or "2:", as Python's slices.
TokenRange parse_tokens(const std::string& text, int64_t most) {
  if (text == "all") return {0, most};
  const auto refuse = [&] {
    throw Error(ErrorKind::invalid_argument, fmt::format("{} names no tokens of an answer", in_quotes(text)),
                "give --attention-map-tokens all, a token's number counted from 0, or a range like 2:5");
  };
  const auto number = [&](std::string_view digits, int64_t otherwise) {
    if (digits.empty()) return otherwise;
    int64_t value = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size() || value < 0) refuse();
    return value;
  };
  const size_t colon = text.find(':');
  if (text.empty() || text == ":") refuse();
  const int64_t first = number(std::string_view(text).substr(0, colon), 0);
  const int64_t end =
      colon == std::string::npos ? first + 1 : number(std::string_view(text).substr(colon + 1), most);
  if (end <= first) refuse();
  if (first >= most) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("an answer of at most {} tokens has no token {}", most, first),
                "name an earlier one, or raise --max-new-tokens");
  }
  return {first, std::min(end, most) - first};
}

void check_index(const char* what, const std::optional<int64_t>& index, int64_t count) {
  if (!index || *index < count) return;
  throw Error(ErrorKind::invalid_argument,
              fmt::format("the model has no {} {}: it has {} of them", what, *index, count),
              fmt::format("give --attention-map-{} a number from 0 to {}", what, count - 1));
}

std::vector<Image> panels(const Engine& engine, const Prompt& prompt, const AttentionMap& map,
                          const std::vector<float>& weights) {
  const MediaOptions options = media_options(engine.checkpoint().preprocessor(), {}, {});
  const float largest = std::max(*std::max_element(weights.begin(), weights.end()), 1e-30f);
  std::vector<Image> drawn;
  const float* from = weights.data();
  for (size_t i = 0; i < map.pictures.size(); ++i) {
    const Grid& grid = map.pictures[i].grid;
    for (int64_t t = 0; t < grid.t; ++t, from += grid.h * grid.w) {
      if (drawn.size() == kMostPanels) return drawn;
      drawn.push_back(heat_map(seen_picture(prompt.pictures[i], t, options), grid.h, grid.w,
                               {from, static_cast<size_t>(grid.h * grid.w)}, largest));
    }
  }
  return drawn;
}

nlohmann::ordered_json head_json(const Engine& engine, const Prompt& prompt, const Answer& answer,
                                 const AttentionMap& map) {
  using nlohmann::ordered_json;
  ordered_json tokens = ordered_json::array(), pictures = ordered_json::array();
  for (int64_t i = map.first_token; i < map.first_token + map.tokens; ++i) {
    const int32_t id = answer.token_ids[static_cast<size_t>(i)];
    tokens.push_back({{"index", i}, {"id", id}, {"text", engine.tokenizer().decode({&id, 1}, false)}});
  }
  for (size_t i = 0; i < map.pictures.size(); ++i) {
    const PictureTokens& picture = map.pictures[i];
    pictures.push_back({{"source", prompt.pictures[i].source},
                        {"first_token", picture.first_token},
                        {"grid", {picture.grid.t, picture.grid.h, picture.grid.w}}});
  }
  return {{"tokens", tokens}, {"pictures", pictures}, {"layers", map.layers}, {"heads", map.heads}};
}

void append_row(std::string& text, const float* weights, int64_t count) {
  text += '[';
  for (int64_t i = 0; i < count; ++i)
    fmt::format_to(std::back_inserter(text), "{}{:.4g}", i > 0 ? "," : "", weights[i]);
  text += ']';
}

// A row of a long answer's map has thousands of numbers: they go out layer by layer.
void write_json(OutputFile& file, const nlohmann::ordered_json& head, const AttentionMap& map) {
  std::string text = head.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  text.back() = ',';
  text += "\n\"mean\":";
  append_row(text, map.mean({}, {}).data(), map.picture_tokens);
  text += ",\n\"weights\":[";
  for (int64_t layer = 0; layer < map.layers; ++layer) {
    text += layer > 0 ? ",\n[" : "\n[";
    for (int64_t head_index = 0; head_index < map.heads; ++head_index) {
      if (head_index > 0) text += ",\n ";
      append_row(text, map.weights.data() + (layer * map.heads + head_index) * map.picture_tokens,
                 map.picture_tokens);
    }
    text += ']';
    file.append(text);
    text.clear();
  }
  file.append("]}\n");
}

}  // namespace

void AttentionMapFlags::add_to(CLI::App& app) {
  app.add_option("--attention-map", file,
                 "write where the answer looked in the pictures: a .png of them with a heat map, the mean of "
                 "layers and "
                 "heads, or a .json with the weights of each")
      ->type_name("FILE.png|FILE.json")
      ->group(kGroup);
  app.add_option("--attention-map-tokens", tokens, "of which of the answer's tokens: all, 3, 2:5")
      ->type_name("all|N|A:B")
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--attention-map-layer", layer, "draw this layer alone, counted from 0")
      ->type_name("N")
      ->group(kGroup);
  app.add_option("--attention-map-head", head, "draw this head alone, counted from 0")
      ->type_name("N")
      ->group(kGroup);
}

AttentionMapper AttentionMapFlags::mapper(const Engine& engine, const Prompt& prompt, int64_t most) const {
  if (!ends_with(file, ".png") && !ends_with(file, ".json")) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{}: an attention map is a .png or a .json file", file),
                "let --attention-map name one of these");
  }
  const TextConfig& config = engine.checkpoint().config().text;
  check_index("layer", layer, config.num_hidden_layers);
  check_index("head", head, config.num_attention_heads);
  const TokenRange range = parse_tokens(tokens, most);
  return {engine, prompt, range.first, range.count};
}

void AttentionMapFlags::write(const Engine& engine, const Prompt& prompt, const Answer& answer,
                              const AttentionMap& map) const {
  if (map.tokens == 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("the answer has {} tokens, the first of which the map would show is {}",
                            answer.token_ids.size(), map.first_token),
                "name one of them with --attention-map-tokens");
  }
  OutputFile out(file);
  if (ends_with(file, ".png")) {
    const std::vector<Image> drawn = panels(engine, prompt, map, map.mean(layer, head));
    out.append(encode_png(contact_sheet(drawn)));
  } else {
    write_json(out, head_json(engine, prompt, answer, map), map);
  }
  out.finish();
}

}  // namespace fovea
