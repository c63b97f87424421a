// How much memory keys and values of many requests get where nobody says.
#pragma once

#include <cstdint>

namespace fovea {

// Room for `max_num_seqs` requests of 4,096 tokens in blocks of kPageTokens tokens, `block_bytes` each.
int64_t wanted_kv_cache(int64_t block_bytes, int64_t max_num_seqs);
// The same, but at most half of the memory that is free at this moment and at least one block: to be asked
// when weights are loaded.
int64_t usual_kv_cache(int64_t block_bytes, int64_t max_num_seqs);

}  // namespace fovea
