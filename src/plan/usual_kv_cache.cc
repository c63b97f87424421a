#include "plan/usual_kv_cache.h"

#include <algorithm>

#include "model/kv_blocks.h"
#include "plan/available_memory.h"

namespace fovea {

int64_t wanted_kv_cache(int64_t block_bytes, int64_t max_num_seqs) {
  constexpr int64_t kTokensOfRequest = 4096;
  return max_num_seqs * (kTokensOfRequest / kPageTokens) * block_bytes;
}

int64_t usual_kv_cache(int64_t block_bytes, int64_t max_num_seqs) {
  const int64_t free = available_memory() - resident_memory().anonymous;
  return std::max(std::min(wanted_kv_cache(block_bytes, max_num_seqs), free / 2), block_bytes);
}

}  // namespace fovea
