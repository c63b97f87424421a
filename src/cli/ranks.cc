#include "cli/ranks.h"

#include <algorithm>

#include "base/error.h"
#include "cli/answer_json.h"
#include "cli/output.h"
#include "comm/world.h"

namespace fovea {

bool first_rank() { return launch().rank == 0; }

void among_ranks(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    if (launch().size > 1) fail_world(error.what(), 1);
    throw;
  }
}

void ask_of_ranks(const Engine& engine, const std::function<void()>& ask) {
  among_ranks([&] {
    if (!first_rank()) return engine.serve();
    ask();
    engine.release_ranks();
  });
}

std::string from_first_rank(const std::function<std::string()>& read) {
  std::string text = first_rank() ? read() : std::string();
  uint64_t size = text.size();
  world().broadcast(0, std::as_writable_bytes(std::span(&size, 1)));
  text.resize(size);
  world().broadcast(0, std::as_writable_bytes(std::span(text)));
  return text;
}

std::vector<std::string> gather_texts(const std::string& own) {
  Communicator& ranks = world();
  const auto count = static_cast<size_t>(ranks.size());
  const uint64_t size = own.size();
  std::vector<uint64_t> sizes(count);
  ranks.all_gather(std::as_bytes(std::span(&size, 1)), std::as_writable_bytes(std::span(sizes)));
  const size_t largest = *std::max_element(sizes.begin(), sizes.end());
  std::string padded = own, all(largest * count, '\0');
  padded.resize(largest);
  ranks.all_gather(std::as_bytes(std::span(padded)), std::as_writable_bytes(std::span(all)));
  std::vector<std::string> texts;
  for (size_t rank = 0; rank < count; ++rank) texts.push_back(all.substr(rank * largest, sizes[rank]));
  return texts;
}

nlohmann::ordered_json gather_parts(const DeviceMap& map) {
  const nlohmann::ordered_json own = {{"parts", map.parts_of(world().rank())},
                                      {"peak_memory_bytes", peak_memory_bytes()}};
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const std::string& text : gather_texts(own.dump())) all.push_back(nlohmann::ordered_json::parse(text));
  return all;
}

void print_parts(const nlohmann::ordered_json& ranks) {
  for (size_t i = 0; i < ranks.size(); ++i) {
    print_note("rank {}: {}, peak {:.2f} GB\n", i, ranks[i]["parts"].get<std::string>(),
               ranks[i]["peak_memory_bytes"].get<double>() / 1e9);
  }
}

Sharing sharing_among_ranks() {
  const Launch start = launch();
  return {start.rank, start.size, gather_texts};
}

}  // namespace fovea
