// A model for tests of the scheduler: it carries steps out on blocks that hold, for each token, what a real
// one's keys and values depend on, the whole sequence up to it. So it sees if a block was overwritten while
// somebody relied on it, or if one sequence was given another's block.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/splitmix64.h"
#include "schedule/step.h"

namespace fovea::testing {

inline constexpr int64_t kBlockTokens = 64;

// Stands for a sequence up to and including its last token.
inline uint64_t state_behind(uint64_t state, uint64_t token) {
  return splitmix64((state + kSplitMixStep) ^ token);
}
inline uint64_t state_of_root(uint64_t root) { return splitmix64(root + kSplitMixStep); }

// What is sampled behind a sequence by a sampler of this seed; kEndToken in one of two hundred.
inline constexpr uint64_t kEndToken = 0;
inline uint64_t sampled_behind(uint64_t state, uint64_t seed) { return splitmix64(state ^ seed) % 200; }

// A sequence with what it truly consists of: the scheduler may have been told less.
struct SimulatedSequence {
  uint64_t root = 0, seed = 0;
  std::vector<uint64_t> tokens;
  std::vector<uint64_t> states;  // behind each of them

  void append(uint64_t token) {
    states.push_back(state_behind(states.empty() ? state_of_root(root) : states.back(), token));
    tokens.push_back(token);
  }
};

// Some keep the end token in their answer.
inline bool keeps_end_token(const SimulatedSequence& sequence) { return sequence.seed % 2 == 1; }

// The answer of a request that has the engine for itself.
inline std::vector<uint64_t> answer_alone(SimulatedSequence sequence, int64_t max_new_tokens) {
  const size_t prompt = sequence.tokens.size();
  for (int64_t i = 0; i < max_new_tokens; ++i) {
    const uint64_t token = sampled_behind(sequence.states.back(), sequence.seed);
    if (token != kEndToken || keeps_end_token(sequence)) sequence.append(token);
    if (token == kEndToken) break;
  }
  return {sequence.tokens.begin() + static_cast<std::ptrdiff_t>(prompt), sequence.tokens.end()};
}

class SimulatedModel {
 public:
  explicit SimulatedModel(int64_t capacity) : cells_(static_cast<size_t>(capacity * kBlockTokens)) {}

  int64_t wrong_cells() const { return wrong_cells_; }            // relied on, with somebody else's contents
  int64_t replaced_entries() const { return replaced_entries_; }  // of tables that the executor knew

  // The rest of the copy is spoilt, for nobody may rely on it.
  void copy(const BlockCopy& copy) {
    for (int64_t i = 0; i < kBlockTokens; ++i)
      cell(copy.to, i) = i < copy.tokens ? cell(copy.from, i) : kSpoilt;
  }

  // Takes the changes of the table over and checks what lies before the segment.
  void prepare(const StepSegment& segment, const SimulatedSequence& sequence) {
    auto& table = tables_[segment.request];
    FOVEA_CHECK(segment.table_from <= static_cast<int64_t>(table.size()));
    for (size_t i = 0; i < segment.table.size(); ++i) {
      const size_t place = static_cast<size_t>(segment.table_from) + i;
      if (place < table.size() && table[place] != segment.table[i]) ++replaced_entries_;
    }
    table.resize(static_cast<size_t>(segment.table_from));
    table.insert(table.end(), segment.table.begin(), segment.table.end());
    FOVEA_CHECK(static_cast<int64_t>(table.size()) * kBlockTokens >= segment.first + segment.count);
    expect(table, sequence, 0, segment.first);
  }

  // Computes the rows: those of the sequence, then those of `drafts`; spoilt ones if the segment fails.
  void compute(const StepSegment& segment, const SimulatedSequence& sequence,
               std::span<const uint64_t> drafts, bool fails) {
    const auto known = static_cast<int64_t>(sequence.tokens.size());
    uint64_t state = 0;
    for (int64_t i = segment.first; i < segment.first + segment.count; ++i) {
      state = i < known ? sequence.states[static_cast<size_t>(i)]
                        : state_behind(state, drafts[static_cast<size_t>(i - known)]);
      cell_of(tables_[segment.request], i) = fails ? kSpoilt : state;
    }
  }

  // After all segments have been computed: nobody wrote over the rows of another.
  void expect_rows(const StepSegment& segment, const SimulatedSequence& sequence) {
    const auto known = static_cast<int64_t>(sequence.tokens.size());
    expect(tables_[segment.request], sequence, segment.first, std::min(known, segment.first + segment.count));
  }

  void forget(RequestId request) { tables_.erase(request); }

 private:
  static constexpr uint64_t kSpoilt = ~uint64_t{0};

  uint64_t& cell(BlockId block, int64_t i) { return cells_[static_cast<size_t>(block * kBlockTokens + i)]; }
  uint64_t& cell_of(const std::vector<BlockId>& table, int64_t i) {
    return cell(table[static_cast<size_t>(i / kBlockTokens)], i % kBlockTokens);
  }
  void expect(const std::vector<BlockId>& table, const SimulatedSequence& sequence, int64_t first,
              int64_t end) {
    for (int64_t i = first; i < end; ++i) {
      if (cell_of(table, i) != sequence.states[static_cast<size_t>(i)]) ++wrong_cells_;
    }
  }

  std::vector<uint64_t> cells_;  // [capacity, kBlockTokens]
  std::unordered_map<RequestId, std::vector<BlockId>> tables_;
  int64_t wrong_cells_ = 0, replaced_entries_ = 0;
};

}  // namespace fovea::testing
