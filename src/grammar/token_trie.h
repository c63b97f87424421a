// The tokens of a vocabulary by their bytes, as a tree that is walked from front to back.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace fovea {

class TokenTrie {
 public:
  // In the order in which bytes sort, a node before what stands below it; node 0 is the root.
  struct Node {
    int32_t end;          // one behind the last node below it
    int32_t first, last;  // its tokens, in ids()
    uint16_t depth;       // of the root 0
    uint8_t byte;         // that leads to it
  };

  // Special tokens, which are no text, and ids without bytes are left out. Throws Error(unsupported) where a
  // byte of UTF-8 has no token of its own, for then an answer could not always go on.
  explicit TokenTrie(const Tokenizer& tokenizer);

  std::span<const Node> nodes() const { return nodes_; }
  std::span<const int32_t> ids_at(const Node& node) const {
    return std::span(ids_).subspan(static_cast<size_t>(node.first),
                                   static_cast<size_t>(node.last - node.first));
  }
  int32_t size() const { return size_; }        // one more than the largest id
  int32_t longest() const { return longest_; }  // bytes
  // Of a token that is text; empty for others.
  std::string_view bytes_of(int32_t id) const;

 private:
  std::vector<Node> nodes_;
  std::vector<int32_t> ids_;
  std::vector<char> text_;
  std::vector<uint32_t> offsets_;  // of each id in text_, and the end
  int32_t size_ = 0, longest_ = 0;
};

}  // namespace fovea
