#include "runtime/batch_request.h"

#include <algorithm>
#include <utility>

#include "runtime/picture_tokens.h"

namespace fovea {

namespace {

// A picture's tokens: this bit, its number, the offset within it.
constexpr uint64_t kOfPicture = uint64_t{1} << 63;
constexpr int kOffsetBits = 24;
constexpr int64_t kReserved = 1024;  // tokens of an answer for which room is made at once

bool is_pad(const Prompt& prompt, const ModelConfig& config, int64_t token) {
  const int32_t id = prompt.ids[static_cast<size_t>(token)];
  return id == config.image_token_id || id == config.video_token_id;
}

int64_t capacity_for(const BatchJob& job, const ModelConfig& config) {
  const auto prompt = std::ssize(job.prompt.ids);
  if (job.measured_to != nullptr) return prompt;
  const int64_t room = config.text.max_position_embeddings - prompt;
  return prompt + std::clamp<int64_t>(job.options.max_new_tokens, 0, std::max<int64_t>(room, 0));
}

}  // namespace

Prompt words_of(const Prompt& prompt) {
  Prompt words;
  words.ids = prompt.ids;
  words.positions = prompt.positions;
  words.video_positions = prompt.video_positions;
  words.preprocess_seconds = prompt.preprocess_seconds;
  return words;
}

BatchRequest::BatchRequest(RequestId id_, const EngineState& state, BatchJob job_)
    : id(id_),
      job(std::move(job_)),
      sequence(job.prompt),
      sampler(job.options.sampling),
      text(state.parts->tokenizer, job.options.stop, job.callbacks.on_text),
      capacity_(capacity_for(job, state.parts->checkpoint.config())) {
  const ModelConfig& config = state.parts->checkpoint.config();
  answer.guard = guard_report(state);
  answer.finish_reason = "length";
  answer.timings.load_s = state.load_seconds;
  answer.timings.preprocess_s = job.prompt.preprocess_seconds;
  answer.timings.prompt_tokens = sequence.size();
  const int64_t soon = std::min(most_new_tokens(), kReserved);
  sequence.reserve(sequence.size() + soon);
  answer.token_ids.reserve(static_cast<size_t>(soon));
  for (int64_t i = sequence.size() - job.answered; i < sequence.size(); ++i)
    text.push(sequence.ids()[static_cast<size_t>(i)]);
  if (job.vision != nullptr) pictures = place_embeddings(job.prompt, config, *job.vision);
  fetched_before = state.parts->weights.stream_state().fetched_bytes;
  barred_ = {config.image_token_id, config.video_token_id};
}

void BatchRequest::begin_drafts() {
  if (drafter) return;
  drafter.emplace(job.proposals, job.options.propose, capacity_, barred_);
  drafter->learn(sequence.ids());
}

void BatchRequest::announce(std::vector<double>& chances) {
  constexpr int64_t kMostLookedUp = 32768;  // tokens: a megabyte
  chances.clear();
  drafted.clear();
  if (capacity_ > kMostLookedUp) return;
  begin_drafts();
  const auto drafts = drafter->announce(capacity_ - sequence.size() - 1, chances);
  drafted.assign(drafts.begin(), drafts.end());
}

std::span<const int32_t> BatchRequest::draft() {
  begin_drafts();
  const auto drafts = drafter->draft(sequence.ids(), capacity_ - sequence.size() - 1);
  drafted.assign(drafts.begin(), drafts.end());
  return drafted;
}

void BatchRequest::append_draft(int64_t count) {
  FOVEA_CHECK(count <= std::ssize(drafted));
  drafted.resize(static_cast<size_t>(count));
  for (const int32_t token : drafted) sequence.append(token);
}

void BatchRequest::remove_draft() { sequence.truncate(sequence.size() - std::ssize(drafted)); }

void BatchRequest::put_pictures(int64_t first, int64_t count, int64_t width, float* hidden) const {
  for (const PlacedPicture& picture : pictures) {
    const int64_t from = std::max(first, picture.first_token),
                  to = std::min(first + count, picture.first_token + picture.tokens);
    if (from >= to) continue;
    FOVEA_CHECK(picture.rows() != nullptr);
    std::copy_n(picture.rows() + (from - picture.first_token) * width, (to - from) * width,
                hidden + (from - first) * width);
  }
}

int32_t BatchRequest::choose(std::span<const float> logits) {
  return job.choose ? job.choose(logits, sequence.ids()) : sampler.next(logits, sequence.ids());
}

void BatchRequest::take(int32_t token, int64_t fetched, SegmentResult& result) {
  Timings& timings = answer.timings;
  answer.token_ids.push_back(token);
  if (answer.token_ids.size() == 1) {
    timings.prefill_s = since_arrival.seconds();
    timings.prefill_fetched_bytes = fetched - fetched_before - timings.vision_fetched_bytes;
    fetched_before = fetched;
    since_first_token = Stopwatch();
  } else {
    timings.decode_s = since_first_token.seconds();
    timings.decode_fetched_bytes = fetched - fetched_before;
  }
  sequence.append(token);
  if (drafter) drafter->learn(sequence.ids());
  result.appended.push_back(static_cast<uint64_t>(token));
  const bool ended = ends_answer(job.options, token);
  if (!ended) text.push(token);
  if (!ended && !text.stopped()) return;
  answer.finish_reason = "stop";
  result.ended = true;
}

void BatchRequest::finish_answer() {
  if (interrupted) answer.finish_reason = "cancelled";
  answer.text = text.finish();
  answer.timings.generated_tokens = std::ssize(answer.token_ids);
}

std::vector<PlacedPicture> place_pictures(const Prompt& prompt, const ModelConfig& config, VisionCache& cache,
                                          uint64_t cache_space, Digest (*digest)(const Picture&)) {
  std::vector<PlacedPicture> placed;
  for (const PictureTokens& place : picture_tokens(prompt, config)) {
    const int64_t tokens = place.grid.patches();
    FOVEA_CHECK(tokens < int64_t{1} << kOffsetBits);
    const Picture& picture = prompt.pictures[placed.size()];
    placed.push_back({cache.number_of(cache_space, digest(picture)), place.first_token, tokens});
  }
  return placed;
}

// Pads behind the last row were generated: tokens like any other.
std::vector<PlacedPicture> place_embeddings(const Prompt& prompt, const ModelConfig& config,
                                            const Buffer<float>& vision) {
  std::vector<PlacedPicture> placed;
  const int64_t width = config.vision.out_hidden_size;
  const float *rows = vision.data(), *end = rows + vision.size();
  for (int64_t at = 0; rows < end; ++at) {
    FOVEA_CHECK(at < std::ssize(prompt.ids));
    if (!is_pad(prompt, config, at)) continue;
    const bool goes_on = !placed.empty() && placed.back().first_token + placed.back().tokens == at;
    if (!goes_on) placed.push_back({.first_token = at, .given = rows});
    ++placed.back().tokens;
    rows += width;
  }
  return placed;
}

std::vector<uint64_t> identities_of(const Prompt& prompt, std::span<const PlacedPicture> pictures) {
  std::vector<uint64_t> tokens(prompt.ids.begin(), prompt.ids.end());
  for (const PlacedPicture& picture : pictures) {
    if (picture.given != nullptr) continue;
    for (int64_t i = 0; i < picture.tokens; ++i) {
      tokens[static_cast<size_t>(picture.first_token + i)] =
          kOfPicture | picture.number << kOffsetBits | static_cast<uint64_t>(i);
    }
  }
  return tokens;
}

}  // namespace fovea
