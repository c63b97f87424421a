// Sets of tokens by the state that they belong to, within a bound: the oldest go first.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "grammar/token_set.h"

namespace fovea {

// What can be said of a state without what lies below it on the stack.
struct StateMask {
  TokenSet allowed;
  // Where in the trie (nodes that others follow) the state's rule may have ended: what comes next depends on
  // the stack. Not the root: a frame below, if the rule has ended already, waits for itself.
  std::vector<int32_t> ends;
  int32_t deepest_need = 0;  // frames above this one that the tokens lead to
  int64_t bytes() const { return allowed.bytes() + static_cast<int64_t>(ends.size() * sizeof(int32_t)); }
};

// What a state of a string that counts allows, whatever its count is. For each token: one more than the
// characters that were whole when it began its last one, 0 where it begins none; and how many were whole when
// it closed the string. So one walk serves every count.
struct CountedMask {
  static constexpr uint8_t kNone = 255;  // as `begun`: the token never fits; as `whole`: it closes nothing
  struct End {
    int32_t at;  // as in StateMask
    uint8_t begun, whole;
  };
  std::vector<uint8_t> begun, whole;  // by id
  std::vector<End> ends;
  int64_t bytes() const {
    return static_cast<int64_t>(begun.size() + whole.size() + ends.size() * sizeof(End));
  }
};

// Any thread.
template <class Value>
class MaskCache {
 public:
  explicit MaskCache(int64_t most_bytes) : most_bytes_(most_bytes) {}

  std::shared_ptr<const Value> find(const std::string& key) const {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(key);
    return found == entries_.end() ? nullptr : found->second;
  }

  // Whoever computed the same meanwhile was first: his is returned.
  std::shared_ptr<const Value> put(const std::string& key, Value value) {
    const int64_t bytes = value.bytes() + static_cast<int64_t>(2 * key.size()) + kOverhead;
    auto shared = std::make_shared<const Value>(std::move(value));
    const std::lock_guard lock(mutex_);
    const auto [entry, is_new] = entries_.emplace(key, shared);
    if (!is_new) return entry->second;
    order_.push_back({key, bytes});
    bytes_ += bytes;
    while (bytes_ > most_bytes_ && order_.size() > 1) {
      entries_.erase(order_.front().key);
      bytes_ -= order_.front().bytes;
      order_.pop_front();
    }
    return shared;
  }

  int64_t bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }

 private:
  static constexpr int64_t kOverhead = 256;  // of an entry's nodes, about
  struct Entry {
    std::string key;
    int64_t bytes;
  };

  mutable std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<const Value>> entries_;
  std::deque<Entry> order_;
  int64_t most_bytes_, bytes_ = 0;
};

}  // namespace fovea
