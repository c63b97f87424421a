#include "grammar/token_trie.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace fovea {

namespace {

constexpr size_t kLongestToken = std::numeric_limits<uint16_t>::max();

bool may_stand_in_utf8(int byte) { return byte < 0xC0 || (byte > 0xC1 && byte < 0xF5); }

}  // namespace

TokenTrie::TokenTrie(const Tokenizer& tokenizer) : size_(tokenizer.size()) {
  std::vector<int32_t> sorted;
  offsets_.reserve(static_cast<size_t>(size_) + 1);
  for (int32_t id = 0; id < size_; ++id) {
    offsets_.push_back(static_cast<uint32_t>(text_.size()));
    const std::string_view bytes = tokenizer.is_special(id) ? std::string_view() : tokenizer.token_bytes(id);
    if (bytes.empty() || bytes.size() > kLongestToken) continue;
    text_.insert(text_.end(), bytes.begin(), bytes.end());
    sorted.push_back(id);
    longest_ = std::max(longest_, static_cast<int32_t>(bytes.size()));
  }
  offsets_.push_back(static_cast<uint32_t>(text_.size()));
  std::sort(sorted.begin(), sorted.end(), [&](int32_t a, int32_t b) {
    const int order = bytes_of(a).compare(bytes_of(b));  // as unsigned bytes
    return order != 0 ? order < 0 : a < b;
  });
  ids_ = std::move(sorted);
  nodes_.push_back({0, 0, 0, 0, 0});
  std::vector<size_t> open = {0};  // the nodes from the root to where the token before ended
  for (size_t i = 0; i < ids_.size(); ++i) {
    const std::string_view bytes = bytes_of(ids_[i]),
                           before = i == 0 ? std::string_view() : bytes_of(ids_[i - 1]);
    const auto shared = static_cast<size_t>(
        std::mismatch(bytes.begin(), bytes.end(), before.begin(), before.end()).first - bytes.begin());
    const auto at = static_cast<int32_t>(i);
    for (; open.size() > shared + 1; open.pop_back())
      nodes_[open.back()].end = static_cast<int32_t>(nodes_.size());
    for (size_t d = shared; d < bytes.size(); ++d) {
      open.push_back(nodes_.size());
      nodes_.push_back({0, at, at, static_cast<uint16_t>(d + 1), static_cast<uint8_t>(bytes[d])});
    }
    nodes_[open.back()].last = at + 1;
  }
  for (const size_t node : open) nodes_[node].end = static_cast<int32_t>(nodes_.size());
  std::vector<bool> alone(256);
  for (const Node& node : nodes_) {
    if (node.depth == 1 && node.first < node.last) alone[node.byte] = true;
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (alone[static_cast<size_t>(byte)] || !may_stand_in_utf8(byte)) continue;
    throw Error(ErrorKind::unsupported,
                fmt::format("the vocabulary has no token for the byte {:#04x}: an answer that must follow a "
                            "schema could not always go on",
                            byte),
                "ask without a schema");
  }
}

std::string_view TokenTrie::bytes_of(int32_t id) const {
  if (id < 0 || id >= size_) return {};
  const auto begin = offsets_[static_cast<size_t>(id)], end = offsets_[static_cast<size_t>(id) + 1];
  return {text_.data() + begin, end - begin};
}

}  // namespace fovea
