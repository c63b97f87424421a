#include "runtime/runner.h"

#include "base/error.h"

namespace fovea {

namespace {

constexpr int64_t kManyPasses = 1000;  // an answer takes the decoder's weights once for every token

}  // namespace

void Sequence::reserve(int64_t size) {
  ids_.reserve(static_cast<size_t>(size));
  for (auto& axis : positions_.axis) axis.reserve(static_cast<size_t>(size));
}

void Sequence::append(int32_t id) {
  ids_.push_back(id);
  for (auto& axis : positions_.axis) axis.push_back(positions_.next);
  ++positions_.next;
}

void Sequence::truncate(int64_t size) {
  const int64_t removed = this->size() - size;
  FOVEA_CHECK(removed >= 0 && size >= prompt_size_);
  ids_.resize(static_cast<size_t>(size));
  for (auto& axis : positions_.axis) axis.resize(static_cast<size_t>(size));
  positions_.next -= removed;
}

std::array<std::span<const int64_t>, 3> Sequence::positions(int64_t first, int64_t count) const {
  const auto part = [&](size_t axis) {
    return std::span(positions_.axis[axis]).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
  };
  return {part(0), part(1), part(2)};
}

KvCache make_cache(const EngineState& state, int64_t capacity) {
  if (state.pipeline) state.pipeline->begin(capacity);
  return {state.decoder.config(),      capacity,
          state.precision.text.layers, state.held(),
          state.options.kv_offload,    state.options.guard.mode != GuardMode::off};
}

GuardReport guard_report(const EngineState& state) {
  const ModelConfig& config = state.parts->checkpoint.config();
  GuardReport report;
  report.options = state.options.guard;
  if (report.options.mode == GuardMode::off) return report;
  const auto heads = [](int64_t count) { return std::vector<HeadGuard>(static_cast<size_t>(count)); };
  report.text.assign(state.precision.text.layers.size(), heads(config.text.num_attention_heads));
  report.vision.assign(state.precision.vision.layers.size(), heads(config.vision.num_heads));
  return report;
}

GuardReport* watching(GuardReport& report) {
  return report.options.mode == GuardMode::off ? nullptr : &report;
}

int64_t Runner::feed(const Sequence& sequence, int64_t first, int64_t count, int64_t vision_row,
                     KvCache& cache) {
  const int64_t width = state_.decoder.config().hidden_size;
  state_.parts->weights.begin(ModelPart::text, kManyPasses, state_.options.weight_limit);
  const auto ids = std::span(sequence.ids()).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
  state_.decoder.embed(ids, hidden_.data());
  for (int64_t i = 0; i < count; ++i) {
    if (!is_pad(sequence, first + i)) continue;
    std::copy_n(vision_.data() + vision_row++ * width, width, hidden_.data() + i * width);
  }
  const auto positions = sequence.positions(first, count);
  if (state_.pipeline) {
    // Not cancelled within a chunk, which the ranks behind are waiting for.
    FOVEA_CHECK(guard_ == nullptr && observer_.layers == nullptr);
    state_.pipeline->forward(state_.pipeline_parts(), hidden_.data(), count, positions, cache, scratch_);
    return vision_row;
  }
  Segment segment{&cache, count, positions, guard_, observer_.layers};
  state_.decoder.forward(hidden_.data(), {&segment, 1}, scratch_, hooks_for(count, cache), chunk_);
  rethrow_failure({&segment, 1});
  return vision_row;
}

PassHooks Runner::hooks_for(int64_t count, const KvCache& cache) const {
  PassHooks hooks;
  // One layer of a long chunk takes a second on a slow machine, and so does fetching one.
  const bool waits = layer_by_layer(cache);
  if (count > 1 || waits) hooks.after_layer = [this] { check_cancelled(observer_); };
  if (!waits) return hooks;
  hooks.while_waiting = hooks.after_layer;
  if (count == 1 || !observer_.progress) return hooks;
  const int64_t pieces = chunk_ > 0 ? (count + chunk_ - 1) / chunk_ : 1,
                calls = pieces * state_.decoder.config().num_hidden_layers;
  hooks.after_layer = [this, count, calls, done = int64_t{0}]() mutable {
    check_cancelled(observer_);
    observer_.progress("prefill", ++done * count / calls, count);
  };
  return hooks;
}

void Runner::next_logits(const Sequence& sequence, KvCache& cache, float* logits) {
  run(sequence, cache, [&](int64_t first, int64_t count, const float* hidden) {
    if (first + count < sequence.size()) return;
    logits_of(hidden + (count - 1) * state_.decoder.config().hidden_size, 1, logits);
  });
}

void Runner::all_logits(const Sequence& sequence, KvCache& cache, float* logits) {
  const int64_t first = cache.tokens(), count = sequence.size() - first;
  FOVEA_CHECK(first >= sequence.prompt_size());
  hidden_.reserve(count * state_.decoder.config().hidden_size);
  feed(sequence, first, count, 0, cache);
  logits_of(hidden_.data(), count, logits);
}

bool Runner::is_pad(const Sequence& sequence, int64_t at) const {
  if (at >= sequence.prompt_size()) return false;
  const ModelConfig& config = state_.parts->checkpoint.config();
  const int32_t id = sequence.ids()[static_cast<size_t>(at)];
  return id == config.image_token_id || id == config.video_token_id;
}

int64_t Runner::count_pads(const Sequence& sequence, int64_t end) const {
  int64_t count = 0;
  for (int64_t at = 0; at < std::min(end, sequence.prompt_size()); ++at) count += is_pad(sequence, at);
  return count;
}

}  // namespace fovea
