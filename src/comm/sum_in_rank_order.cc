#include <algorithm>
#include <vector>

#include "base/error.h"
#include "comm/communicator.h"

namespace fovea {

namespace {

constexpr int kTag = 999;

}  // namespace

// Every rank receives its part of the values from all others, adds up, and hands the sums out.
void Communicator::sum_in_rank_order(std::span<float> values) {
  const int ranks = size(), own = rank();
  if (ranks == 1) return;
  const size_t part = (values.size() + static_cast<size_t>(ranks) - 1) / static_cast<size_t>(ranks);
  const auto part_of = [&](int r) {
    const size_t begin = std::min(values.size(), static_cast<size_t>(r) * part);
    return values.subspan(begin, std::min(part, values.size() - begin));
  };
  const std::span<float> mine = part_of(own);
  std::vector<float> parts(static_cast<size_t>(ranks) * part), sums(part);
  const auto received = [&](int r) {
    return std::span(parts).subspan(static_cast<size_t>(r) * part, mine.size());
  };
  std::vector<std::unique_ptr<Transfer>> transfers;
  for (int r = 0; r < ranks; ++r) {
    if (r == own) {
      std::copy(mine.begin(), mine.end(), received(r).begin());
      continue;
    }
    transfers.push_back(start_receive(r, kTag, std::as_writable_bytes(received(r))));
    transfers.push_back(start_send(r, kTag, std::as_bytes(part_of(r))));
  }
  for (const auto& transfer : transfers) transfer->wait();
  std::copy_n(parts.begin(), mine.size(), sums.begin());
  for (int r = 1; r < ranks; ++r) {
    const std::span<float> piece = received(r);
    for (size_t i = 0; i < piece.size(); ++i) sums[i] += piece[i];
  }
  all_gather(std::as_bytes(std::span(sums)), std::as_writable_bytes(std::span(parts)));
  std::copy_n(parts.begin(), values.size(), values.begin());
}

}  // namespace fovea
