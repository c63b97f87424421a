#include "runtime/request_tables.h"

#include "base/error.h"
#include "runtime/local_executor.h"

namespace fovea {

int64_t blocks_in(const KvLayout& layout, int64_t bytes) {
  const int64_t blocks = bytes / layout.block_bytes();
  if (blocks >= 1) return blocks;
  throw Error(ErrorKind::exhausted,
              fmt::format("a KV cache of {:.1f} MB has no room for one block of {} tokens, {:.1f} MB",
                          static_cast<double>(bytes) / 1e6, kPageTokens,
                          static_cast<double>(layout.block_bytes()) / 1e6),
              "give it more");
}

namespace {

void set_table(const StepSegment& segment, KvCache& cache) {
  cache.drop_blocks(segment.table_from);
  for (size_t i = 0; i < segment.table.size(); ++i) {
    cache.set_block(segment.table_from + static_cast<int64_t>(i), segment.table[i]);
  }
  if (cache.tokens() > segment.first) cache.truncate(segment.first);
  cache.found(segment.first);
}

}  // namespace

RequestTables::RequestTables(const EngineState& engine, int64_t blocks)
    : engine_(engine), pool_(kv_layout(engine), blocks) {}

KvState RequestTables::state(RequestId request) const {
  const auto found = caches_.find(request);
  return found == caches_.end() ? KvState() : found->second.state();
}

KvCache& RequestTables::cache_of(const SegmentOrder& segment) {
  const auto& offload = engine_.options.kv_offload;
  if (!offload) {
    KvCache& cache = caches_.try_emplace(segment.rows.request, pool_).first->second;
    set_table(segment.rows, cache);
    return cache;
  }
  KvCache& cache = caches_
                       .try_emplace(segment.rows.request, engine_.decoder.config(), segment.capacity,
                                    engine_.precision.text.layers, engine_.held(), offload,
                                    engine_.options.guard.mode != GuardMode::off)
                       .first->second;
  cache.truncate(segment.rows.first);
  return cache;
}

void RequestTables::prepare(const StepOrder& order, std::vector<Segment>& segments) {
  for (const RequestId request : order.forgotten) forget(request);
  for (const BlockCopy& copy : order.copies) {
    if (!engine_.options.kv_offload) pool_.copy(copy.from, copy.to);
  }
  segments.clear();
  for (const SegmentOrder& segment : order.segments) {
    segments.push_back(
        {&cache_of(segment), segment.rows.count, segment.positions, segment.guard, segment.observer});
  }
}

}  // namespace fovea
