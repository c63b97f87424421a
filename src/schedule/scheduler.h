// Decides what the next step computes, for whom and in which blocks: a pure state machine without model,
// threads or clock. The caller repeats: next(), carry the step out, finished(). Requests arrive and are
// cancelled at any time, also while a step is under way.
//
// Several steps may be under way at once, for different requests: steps are to be begun in their order (each
// place that carries them out makes a step's copies behind what the steps before it write there), and may be
// finished in any. What a step under way reads or writes belongs to its requests until it is finished: they
// are not in another step, not preempted and not over, and nobody finds what they are still computing.
//
// Rules:
// - Decode rows go first, one for each request that decodes. While a prompt can go on, a quarter of the
//   step's tokens is kept for prompts; decodes that find no room then take turns. So neither starves the
//   other.
// - Then come chunks of prompts: of those that run, then of newcomers, each in order of arrival. A chunk ends
//   before the first picture that is not encoded.
// - A request is admitted in order of arrival, when there are a place, blocks for its first chunk (and one
//   more for each request that runs, or the newcomer would soon be preempted), and the pictures in the first
//   step's worth of its tokens. Those that wait for a picture or a twin are passed by others; nobody passes
//   one that lacks blocks.
// - At admission a request takes what the prefix index knows of its prompt, as far as it may, except its last
//   token, which must be computed for its logits. If another request computes the next block just now (a
//   twin), it waits. When that one ends without completing the block, the first that waits computes it.
// - When blocks run out, the youngest running request is preempted, if it is younger than the one that needs
//   them; otherwise that one waits. The oldest is never preempted, so there is always progress. What a
//   preempted request computed stays findable; when admitted again, its prompt is prompt and answer so far.
// - Pictures are encoded one slice a step, in order of arrival and of their place; not those whose tokens the
//   index knows, nor those of which another step has a slice.
//
// Tokens, positions and chunks count in tokens, blocks as in the ledger, pictures in the units of their
// requests. For one thread. Whoever breaks what a function asks for is stopped by FOVEA_CHECK.
#pragma once

#include <map>
#include <memory>
#include <unordered_map>

#include "schedule/block_ledger.h"
#include "schedule/request.h"
#include "schedule/step.h"
#include "schedule/vision_work.h"

namespace fovea {

class LiveRequest;

struct SchedulerLimits {
  int64_t max_num_seqs = 16;  // requests that run at once, and that are looked at for admission; >= 1
  int64_t max_num_batched_tokens = 512;  // rows of a step; >= 2
  int64_t max_queue = 1024;              // while so many wait, arrivals are refused; >= 1
  int64_t slice_units = 4096;            // of vision work in a step; >= 1
};

struct SchedulerMetrics {
  int64_t in_state[kRequestStates] = {};  // those that are over: since the beginning
  int64_t free_blocks = 0, cached_blocks = 0, used_blocks = 0;
  int64_t waiting_tokens = 0;  // known tokens of live requests that are not computed
  int64_t preemptions = 0;     // since the beginning, as are the ledger's counters
  BlockLedger::Counters blocks;

  int64_t in(RequestState state) const { return in_state[static_cast<int>(state)]; }
};

enum class Cancellation {
  now,         // it is over; no Ending follows
  after_step,  // the step under way works for it: finished() will name it, whatever came of it
  unknown,     // there is no such request (any more)
};

class Scheduler {
 public:
  Scheduler(const SchedulerLimits& limits, int64_t block_capacity, int64_t block_tokens = 64,
            BlockLedger::Hash hash = BlockLedger::hash_of);
  ~Scheduler();

  // Takes a request on, or says why not. Its id is no live request's. Until the request is over the caller
  // keeps what is needed to compute it, and the embeddings of its pictures from the last slice on.
  std::optional<Refusal> arrive(Request request);
  // Whether prompt and answer need more blocks than there are. Any thread.
  bool never_fits(int64_t prompt_tokens, int64_t max_new_tokens) const;
  Cancellation cancel(RequestId id);

  // From the next step on; at least 2 rows, 1 unit.
  void set_step_tokens(int64_t rows);
  void set_slice_units(int64_t units);
  // So many steps will be under way at once, each with its share of the decodes; 1 until it is told.
  void set_steps_at_once(int64_t steps);
  // The embeddings are gone, or what was done for them: if a request still needs them, they are computed
  // again. Not while a step under way has a slice of it.
  void forget_picture(uint64_t number);
  // What may follow the tokens of a request that decodes: computed with its next row as far as there is room,
  // and forgotten then. Nothing happens to another request.
  void propose(RequestId id, std::vector<uint64_t> drafts);

  // The next step. Unless it is empty, it is under way until finished() is told. Without another under way it
  // is empty only if no request is live.
  Step next();
  // What came of one of the steps under way. Returns the requests that are over with it.
  std::vector<Ending> finished(const StepResults& results);

  // Of a live request; nothing of another. What a request waits for is as it was when it was last looked at.
  std::optional<RequestState> state(RequestId id) const;
  std::span<const uint64_t> tokens(RequestId id) const;  // prompt and answer, until the next change
  SchedulerMetrics metrics() const;
  void check() const;  // for tests: aborts if something does not agree

 private:
  struct Plan;  // a step as it grows
  enum class Admission { admitted, passed_by, lacks_blocks };

  LiveRequest* find(RequestId id) const;
  int64_t room(const LiveRequest& live) const;

  void share_out(Plan& plan);
  void place_running(Plan& plan);
  bool place_next_rows(Plan& plan, LiveRequest& live);
  int64_t computable(const LiveRequest& live, int64_t first, int64_t most) const;
  int64_t make_room(Plan& plan, LiveRequest& live, int64_t rows);
  bool preempt_one_behind(Plan& plan, const LiveRequest& live);
  void place(Plan& plan, LiveRequest& live, int64_t rows);
  void reserve_blocks(const LiveRequest& live, int64_t rows);

  void admit_waiting(Plan& plan);
  Prefix known_prefix(const LiveRequest& live) const;
  Admission try_to_admit(Plan& plan, LiveRequest& live);
  bool fits(const Prefix& prefix, int64_t rows) const;
  void take_prefix(Plan& plan, LiveRequest& live, const Prefix& prefix);

  bool is_encoded_now(uint64_t picture) const;
  std::optional<VisionSlice> choose_slice() const;
  std::optional<VisionSlice> slice_for(const LiveRequest& live, int64_t known) const;

  void take_in(const VisionSlice& slice, bool ok);
  void apply(const StepSegment& segment, const SegmentResult& result, std::vector<Ending>& endings);
  void publish(LiveRequest& live);
  void publish_tail(const LiveRequest& live);
  void release(LiveRequest& live);
  void end(LiveRequest& live, RequestState state);

  SchedulerLimits limits_;
  BlockLedger ledger_;
  VisionWork vision_;
  std::unordered_map<RequestId, std::unique_ptr<LiveRequest>> live_;
  std::vector<LiveRequest*> running_;         // in order of arrival; they have blocks
  std::map<uint64_t, LiveRequest*> waiting_;  // by arrival; they have none
  uint64_t arrivals_ = 0;
  int64_t steps_ = 0, preemptions_ = 0, steps_at_once_ = 1;
  int64_t over_[kRequestStates] = {};
  std::map<int64_t, Step> under_way_;  // by number
};

}  // namespace fovea
