#include "cli/suggestion.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace fovea {

namespace {

std::string plain(std::string_view word) {
  word.remove_prefix(std::min(word.find_first_not_of('-'), word.size()));
  std::string text;
  for (const char c : word)
    text += c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// The number of characters to insert, remove, replace or exchange with their neighbour.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      const bool same = a[i - 1] == b[j - 1];
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (same ? 0 : 1)});
      const bool exchanged = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (exchanged) cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& known) {
  constexpr size_t kLongest = 64;  // no option is longer, and the cost grows with the square
  const std::string wanted = plain(word.substr(0, kLongest));
  if (wanted.empty()) return "";
  std::string best;
  size_t least = wanted.size() / 3 + 1;  // with more than a third wrong it is another word
  for (const std::string& candidate : known) {
    const std::string name = plain(candidate);
    const bool begins = wanted.size() >= 3 && name.starts_with(wanted);
    const size_t d = begins ? std::min<size_t>(distance(wanted, name), 1) : distance(wanted, name);
    if (d >= least) continue;
    best = candidate;
    least = d;
  }
  return best;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& known) {
  const std::string best = nearest(word, known);
  return best.empty() ? "" : fmt::format("; did you mean {}?", best);
}

std::string foreign_option_remedy(std::string_view option) {
  static constexpr std::pair<std::string_view, const char*> kForeign[] = {
      {"ctx-size",
       "leave it out: the context is as long as the request needs (fovea plan says what it costs)"},
      {"c", "leave it out: the context is as long as the request needs (fovea plan says what it costs)"},
      {"max-model-len", "leave it out: the context is as long as the request needs"},
      {"n-gpu-layers", "leave it out: fovea computes on the CPU"},
      {"gpu-layers", "leave it out: fovea computes on the CPU"},
      {"device", "leave it out: fovea computes on the CPU"},
      {"stream", "leave it out: an answer is streamed unless --json is given"},
      {"quantization", "use --preset balanced or --preset fast, or a folder of fovea quantize"},
      {"load-in-8bit", "use --preset balanced, or a folder of fovea quantize"},
      {"load-in-4bit", "use --preset fast, or a folder of fovea quantize --weights int4"},
      {"do-sample", "use --temperature, --top-p or --top-k to sample, --greedy not to"}};
  const std::string wanted = plain(option);
  for (const auto& [name, remedy] : kForeign) {
    if (wanted == name) return remedy;
  }
  return "";
}

}  // namespace fovea
