// One row of logits in blocks of 64 ids whose largest values are known, so that the few ids that matter to a
// choice are found without reading the others again. What a request's history does to a logit is done while
// a block is read: the row itself stays as the model gave it, for log probabilities and for other readers.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace fovea {

// A set of ids: bit i of word b belongs to id 64 b + i.
using IdSet = std::span<const uint64_t>;

struct RankedLogit {
  float logit;
  int32_t id;
};

// Descending, the smallest id first among equals: the order of ids wherever one is chosen.
inline bool ranks_before(const RankedLogit& a, const RankedLogit& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// The sets are empty or have a word for each block.
struct LogitChanges {
  IdSet penalised;  // divided by the penalty if positive, else multiplied
  float penalty = 1;
  IdSet forbidden;  // -inf, whatever the penalty made of them
};

// For one thread at a time. Allocates when it meets a longer row than before, and nothing otherwise.
class LogitBlocks {
 public:
  static constexpr int64_t kIds = 64;
  using Block = std::array<float, kIds>;

  // Takes a row [vocab], finite or -inf; one pass. Row and sets must live as long as they are asked for here.
  void read(std::span<const float> row, const LogitChanges& changes = {});

  int64_t ids() const { return static_cast<int64_t>(row_.size()); }
  int64_t blocks() const { return static_cast<int64_t>(largest_.size()); }
  float largest_of(int64_t block) const { return largest_[static_cast<size_t>(block)]; }
  // The 64 logits of a block, -inf behind the last id: a part of the row, or changed and put into `changed`.
  const float* block(int64_t block, Block& changed) const;

  // The first in rank.
  RankedLogit largest() const;
  // A value that at least `count` ids reach, and not many more where the large ones lie scattered.
  float reached_by(int64_t count);
  // Appends the ids whose logit is `least` or more, in order of id. Stops behind `most` ids, at the end of a
  // block.
  void collect(float least, int64_t most, std::vector<RankedLogit>& to) const;

 private:
  std::span<const float> row_;
  LogitChanges changes_;
  std::vector<float> largest_, descending_;  // of the blocks
};

// exponentials[i] = exp((logits[i] - shift) / temperature), in f64 with a relative error below 2^-40, the
// same on every x86-64; below exp(-700) all are exp(-700). Wants shift >= logits[i].
void exponentials_of(const float* logits, double shift, double temperature,
                     std::array<double, LogitBlocks::kIds>& exponentials);

}  // namespace fovea
