// A request of a batch with all that belongs to it; private to batch_engine.cc.
#pragma once

#include <memory>
#include <optional>

#include "runtime/answer_text.h"
#include "runtime/batch_job.h"
#include "runtime/drafter.h"
#include "runtime/runner.h"
#include "runtime/sampler.h"
#include "runtime/vision_cache.h"
#include "schedule/step.h"

namespace fovea {

// A picture's place in a prompt, or a part of it whose embeddings were given.
struct PlacedPicture {
  uint64_t number = 0;
  int64_t first_token = 0, tokens = 0;
  Embeddings embeddings = nullptr;  // once they are computed
  const float* given = nullptr;

  const float* rows() const { return embeddings ? embeddings->data() : given; }
};

// The pictures of a prompt, whose patches go when they are encoded; of all its choices.
struct ShownPictures {
  std::vector<Picture> pictures;
  std::exception_ptr failure;  // of one whose patches are gone
};

class BatchRequest {
 public:
  BatchRequest(RequestId id_, const EngineState& state, BatchJob job_);

  // The most tokens that it may generate; 0: it is over before it begins.
  int64_t most_new_tokens() const { return capacity_ - sequence.prompt_size(); }
  int64_t capacity() const { return capacity_; }
  bool measures() const { return job.measured_to != nullptr; }

  // What may follow, if it is to be verified: at most as many as are still wanted behind the next token.
  std::span<const int32_t> draft();
  // The same for a choice among several requests (draft_share.h): how likely the first 1, 2, ... all come.
  // Nothing is announced where what is looked up takes too much memory.
  void announce(std::vector<double>& chances);
  // The first `count` of them behind the sequence, and away again.
  void append_draft(int64_t count);
  void remove_draft();

  // Into hidden, [count, width]: the embeddings of the pictures' tokens among those from `first` on.
  void put_pictures(int64_t first, int64_t count, int64_t width, float* hidden) const;
  // The next token, by the request's own sampler or chooser.
  int32_t choose(std::span<const float> logits);
  // A token joins sequence and text. `fetched`: bytes of weights that have been fetched so far.
  void take(int32_t id, int64_t fetched, SegmentResult& result);
  void finish_answer();

  RequestId id;
  BatchJob job;
  Sequence sequence;
  Sampler sampler;
  AnswerText text;
  std::optional<Drafter> drafter;        // once something was drafted
  std::vector<int32_t> drafted;          // for the step under way
  std::shared_ptr<ShownPictures> shown;  // null where embeddings were given
  std::vector<PlacedPicture> pictures;   // in their order
  Answer answer;
  std::exception_ptr failure;
  bool started = false;      // some of its rows were computed
  bool interrupted = false;  // whoever follows it wants it to end
  bool on_disk = false;      // some of its keys and values
  bool under_way = false;    // a step computes rows of it
  int64_t known_tokens = 0;  // from other requests, when it started
  int64_t fetched_before = 0;
  Stopwatch since_arrival, since_first_token;

 private:
  void begin_drafts();

  int64_t capacity_;  // tokens of prompt and answer
  std::vector<int64_t> barred_;
};

// The places of a prompt's pictures, numbered by `cache`; and the tokens as the scheduler sees them.
std::vector<PlacedPicture> place_pictures(const Prompt& prompt, const ModelConfig& config, VisionCache& cache,
                                          uint64_t cache_space, Digest (*digest)(const Picture&));
// The runs of pads that the rows of `vision` belong to, in order.
std::vector<PlacedPicture> place_embeddings(const Prompt& prompt, const ModelConfig& config,
                                            const Buffer<float>& vision);
std::vector<uint64_t> identities_of(const Prompt& prompt, std::span<const PlacedPicture> pictures);

}  // namespace fovea
