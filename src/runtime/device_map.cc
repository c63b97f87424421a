#include "runtime/device_map.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

#include "base/error.h"
#include "checkpoint/strict_json.h"

namespace fovea {

namespace {

constexpr int kNobody = -1;
constexpr const char* kForm = "write it as \"vision=0,text.0-17=0,text.18-35=1,head=1\"";

[[noreturn]] void refuse(const std::string& what, const std::string& remedy = kForm) {
  throw Error(ErrorKind::invalid_argument, "device map: " + what, remedy);
}

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

std::string layers_text(int64_t first, int64_t last) {
  return last - first == 1 ? fmt::format("text.{}", first) : fmt::format("text.{}-{}", first, last - 1);
}

// Collects entries until every part has its rank.
class Reader {
 public:
  explicit Reader(int64_t layers) { map_.layers.assign(static_cast<size_t>(layers), kNobody); }

  void entry(std::string_view name, int rank) {
    for (const std::string_view prefix : {"model.language_model.", "model."}) {
      if (!name.starts_with(prefix)) continue;
      name.remove_prefix(prefix.size());
      break;
    }
    if (name == "vision" || name == "visual") {
      place(map_.vision, "vision", rank);
    } else if (name == "head" || name == "lm_head") {
      place(map_.head, "head", rank);
    } else if (name == "embed_tokens") {
      place(embedding_, "embed_tokens", rank);
    } else if (name == "norm") {
      place(norm_, "norm", rank);
    } else if (name == "rotary_emb") {
      place(rotary_, "rotary_emb", rank);
    } else if (name == "text") {
      range(0, std::ssize(map_.layers), rank);
    } else if (name.starts_with("text.") || name.starts_with("layers.")) {
      layers(name, rank);
    } else {
      refuse(fmt::format("'{}' is no part of the model", name));
    }
  }

  DeviceMap finish() const {
    std::string missing;
    const auto miss = [&](const std::string& part) { missing += (missing.empty() ? "" : ", ") + part; };
    if (map_.vision == kNobody) miss("vision");
    for (const DeviceMap::Stage& run : map_.stages()) {
      if (run.rank == kNobody) miss(layers_text(run.first, run.last));
    }
    if (map_.head == kNobody) miss("head");
    if (!missing.empty()) refuse("no rank has " + missing, "give every part of the model to one rank");
    if (embedding_ > 0) refuse("embed_tokens is given to another rank than 0", "rank 0 embeds: say 0");
    if (norm_ != kNobody && norm_ != map_.head) {
      refuse("norm and lm_head are given to different ranks", "give both to the same rank");
    }
    return map_;
  }

 private:
  static void place(int& part, const std::string& name, int rank) {
    if (part != kNobody) refuse(name + " is given twice", "give every part to one rank, once");
    part = rank;
  }
  void layers(std::string_view name, int rank) {
    const std::string_view numbers = name.substr(name.find('.') + 1);
    const size_t dash = numbers.find('-');
    const auto first = number(numbers.substr(0, dash)),
               last = dash == std::string_view::npos ? first : number(numbers.substr(dash + 1));
    if (!first || !last || *first > *last) refuse(fmt::format("'{}' names no layers", name));
    range(*first, int64_t{*last} + 1, rank);
  }
  void range(int64_t first, int64_t last, int rank) {
    const int64_t count = std::ssize(map_.layers);
    if (last > count) {
      refuse(fmt::format("there is no layer {}", last - 1),
             fmt::format("the model has layers 0 to {}", count - 1));
    }
    for (int64_t i = first; i < last; ++i) {
      place(map_.layers[static_cast<size_t>(i)], layers_text(i, i + 1), rank);
    }
  }

  DeviceMap map_{kNobody, kNobody, {}};
  int embedding_ = kNobody, norm_ = kNobody, rotary_ = kNobody;
};

void read_json(std::string_view text, Reader& reader) {
  const nlohmann::json object = parse_json_object(text, "device map");
  for (const auto& [name, rank] : object.items()) {
    const bool good = rank.is_number_integer() && rank >= 0 && rank <= std::numeric_limits<int>::max();
    if (!good) refuse(fmt::format("\"{}\": {} is no rank", name, rank.dump()), "ranks are numbers from 0 on");
    reader.entry(name, rank.get<int>());
  }
}

void read_entries(std::string_view text, Reader& reader) {
  while (!text.empty()) {
    const size_t end = text.find_first_of(",\n#");
    const std::string_view entry = trimmed(text.substr(0, end));
    if (end != std::string_view::npos && text[end] == '#') {
      const size_t line = text.find('\n', end);
      text.remove_prefix(line == std::string_view::npos ? text.size() : line + 1);
    } else {
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
    if (entry.empty()) continue;
    const size_t equals = entry.find('=');
    if (equals == std::string_view::npos) refuse(fmt::format("'{}' gives no rank", entry));
    const std::string_view value = trimmed(entry.substr(equals + 1));
    const auto rank = number(value);
    if (!rank) refuse(fmt::format("'{}' is no rank", value), "ranks are numbers from 0 on");
    reader.entry(trimmed(entry.substr(0, equals)), *rank);
  }
}

// The rank of each part in order when none takes more than `most`, as far as ranks go; empty: they do not.
std::vector<int> filled(const std::vector<int64_t>& parts, int ranks, int64_t most) {
  std::vector<int> owners;
  int rank = 0;
  int64_t sum = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto left = static_cast<int>(parts.size() - i);  // at least one for each rank behind
    if (sum > 0 && (sum + parts[i] > most || left <= ranks - 1 - rank)) {
      ++rank;
      sum = 0;
    }
    if (parts[i] > most || rank >= ranks) return {};
    sum += parts[i];
    owners.push_back(rank);
  }
  return owners;
}

}  // namespace

DeviceMap DeviceMap::parse(std::string_view text, int64_t layers) {
  Reader reader(layers);
  if (trimmed(text).starts_with('{')) {
    read_json(text, reader);
  } else {
    read_entries(text, reader);
  }
  return reader.finish();
}

DeviceMap DeviceMap::balanced(const WeightGroups& groups, int64_t layers, int ranks) {
  std::vector<int64_t> parts = {groups.total(groups.vision())};
  for (int64_t i = 0; i < layers; ++i) parts.push_back(groups[groups.layer(i)].bytes);
  parts.push_back(groups.total({groups.head(0), groups.text().last}));
  if (ranks > std::ssize(parts)) {
    refuse(fmt::format("{} ranks share {} parts", ranks, parts.size()), "start fewer ranks");
  }
  int64_t low = 0, high = 0;  // low is too little, high enough
  for (const int64_t bytes : parts) high += bytes;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (filled(parts, ranks, middle).empty() ? low : high) = middle;
  }
  const std::vector<int> owners = filled(parts, ranks, high);
  return {owners.front(), owners.back(), {owners.begin() + 1, owners.end() - 1}};
}

void DeviceMap::require_ranks(int size) const {
  std::vector<bool> busy(static_cast<size_t>(size));
  busy[0] = true;  // embeds, samples
  const auto use = [&](int rank) {
    if (rank >= size) {
      refuse(fmt::format("it names rank {}, there {} {}", rank, size == 1 ? "is only" : "are",
                         size == 1 ? "rank 0" : fmt::format("ranks 0 to {}", size - 1)),
             fmt::format("start it with mpirun -n {}", rank + 1));
    }
    busy[static_cast<size_t>(rank)] = true;
  };
  use(vision);
  for (const int rank : layers) use(rank);
  use(head);
  const auto idle = std::find(busy.begin(), busy.end(), false);
  if (idle == busy.end()) return;
  refuse(fmt::format("rank {} has nothing to do", idle - busy.begin()),
         "give it a part, or start fewer ranks");
}

int DeviceMap::ranks() const {
  return 1 + std::max({vision, head, *std::max_element(layers.begin(), layers.end())});
}

std::vector<DeviceMap::Stage> DeviceMap::stages() const {
  std::vector<Stage> list;
  for (int64_t i = 0; i < std::ssize(layers); ++i) {
    const int rank = layers[static_cast<size_t>(i)];
    if (list.empty() || list.back().rank != rank) list.push_back({rank, i, i});
    list.back().last = i + 1;
  }
  return list;
}

HeldParts DeviceMap::held_by(int rank) const {
  HeldParts held{vision == rank, rank == 0, head == rank, {}};
  for (const int owner : layers) held.layers.push_back(owner == rank);
  return held;
}

std::string DeviceMap::parts_of(int rank) const {
  std::string list;
  const auto add = [&](const std::string& part) { list += (list.empty() ? "" : ", ") + part; };
  if (vision == rank) add("vision");
  for (const Stage& stage : stages()) {
    if (stage.rank == rank) add(layers_text(stage.first, stage.last));
  }
  if (head == rank) add("head");
  return list.empty() ? "nothing" : list;
}

std::string DeviceMap::text() const {
  std::string list = fmt::format("vision={}", vision);
  for (const Stage& stage : stages()) {
    list += fmt::format(",{}={}", layers_text(stage.first, stage.last), stage.rank);
  }
  return list + fmt::format(",head={}", head);
}

}  // namespace fovea
