// One token drawn from a row of logits: temperature, then the k largest, then the smallest set whose mass
// reaches top_p, of these the ones that have at least min_p of the largest mass, then one random number.
//
// Which token it is, is defined by sums in f64 over the ids in descending order of their logits (the smallest
// id first among equals): the mass of an id is exp((logit - largest) / temperature), the total is that of the
// k largest, ids are kept until their sum reaches top_p * total or a mass is below min_p, and the random
// number times that sum is counted down by the masses until it falls below 0. Sorting a vocabulary for that
// costs more than the rest, so it is done only where the answer needs it: on few ids, or where sums in
// another order leave doubt. The token is the same either way, on any number of threads and with any kernels.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/logit_blocks.h"

namespace fovea {

// For one thread at a time. Keeps its scratch, allocated by the first draw: 50 KB, and 16 bytes for each id
// beyond 2,048 that a draw had to sort.
class TokenDraw {
 public:
  // temperature > 0; top_k 0: all ids; top_p and min_p from 0 to 1. With both of top_p < 1 and min_p > 0 many
  // ids are sorted.
  TokenDraw(double temperature, int64_t top_k, double top_p, double min_p = 0);

  // The id that `random`, from [0, 1), selects. Wants a finite largest logit.
  int32_t draw(LogitBlocks& blocks, double random);

 private:
  // Where the sum of the masses in descending order of the logits first reaches some goal.
  struct Place {
    int32_t id;
    double sum;  // up to this id and with it
  };

  float least_wanted(LogitBlocks& blocks, float reach) const;
  int32_t draw_from_sorted(double random);
  std::optional<int32_t> draw_from_shelves(const LogitBlocks& blocks, double random);
  void fill_shelves(const LogitBlocks& blocks);
  int64_t shelf_of(float logit) const;
  std::optional<Place> place_of(const LogitBlocks& blocks, double goal, double doubt);

  double temperature_;
  int64_t top_k_;
  double top_p_, min_p_, shelves_per_logit_;
  float largest_ = 0;
  std::vector<RankedLogit> sorted_;
  std::vector<double> masses_;   // of sorted_, as far as they count
  std::vector<double> shelves_;  // the masses by distance from the largest logit
};

}  // namespace fovea
