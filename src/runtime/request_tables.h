// The blocks of keys and values of a process, and whose they are: what an order says of them, carried out.
// Private to runtime.
#pragma once

#include <unordered_map>
#include <vector>

#include "model/batch.h"
#include "runtime/executor.h"

namespace fovea {

// As many blocks as `bytes` hold. Throws Error(exhausted) when that is none.
int64_t blocks_in(const KvLayout& layout, int64_t bytes);

class RequestTables {
 public:
  // With EngineOptions::kv_offload a request has a cache of its own instead, and blocks are only counted. The
  // engine is borrowed.
  RequestTables(const EngineState& engine, int64_t blocks);

  int64_t blocks() const { return pool_.blocks(); }
  int64_t block_bytes() const { return pool_.layout().block_bytes(); }
  void forget(RequestId request) { caches_.erase(request); }
  KvState state(RequestId request) const;

  // Makes the order's copies, forgets whom it forgets, and sets its segments' tables; a segment for each of
  // them, which borrows from here and from the order. Throws Error(exhausted | io) when there is no memory or
  // no room on disk.
  void prepare(const StepOrder& order, std::vector<Segment>& segments);

 private:
  KvCache& cache_of(const SegmentOrder& segment);

  const EngineState& engine_;
  KvPool pool_;
  std::unordered_map<RequestId, KvCache> caches_;
};

}  // namespace fovea
