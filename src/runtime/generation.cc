// Vision, prefill and the decode loop.
#include <algorithm>

#include "base/error.h"
#include "model/kv_cache.h"
#include "runtime/state.h"
#include "runtime/stop_strings.h"

namespace fovea {

namespace {

// A token sequence and its three position rows, extended as tokens are generated.
class Sequence {
 public:
  explicit Sequence(const Prompt& prompt) : ids_(prompt.ids), positions_(prompt.positions) {}

  void append(int32_t id) {
    ids_.push_back(id);
    for (auto& axis : positions_.axis) axis.push_back(positions_.next);
    ++positions_.next;
  }
  const std::vector<int32_t>& ids() const { return ids_; }
  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  std::array<std::span<const int64_t>, 3> positions(int64_t first, int64_t count) const {
    const auto part = [&](size_t axis) {
      return std::span(positions_.axis[axis]).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    };
    return {part(0), part(1), part(2)};
  }

 private:
  std::vector<int32_t> ids_;
  Positions positions_;
};

// An entry for every layer and head of an engine whose guard is on.
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

// What the towers are given: nothing when the guard is off.
GuardReport* watching(GuardReport& report) {
  return report.options.mode == GuardMode::off ? nullptr : &report;
}

Buffer<float> encode_pictures(const VisionTower& vision, const Prompt& prompt, const ModelConfig& config,
                              const Observer& observer, GuardReport* guard) {
  const int64_t merge = config.vision.spatial_merge_size, width = config.vision.out_hidden_size;
  int64_t tokens = 0, blocks_done = 0;
  for (const Picture& picture : prompt.pictures) tokens += picture.tokens(merge);
  const auto blocks_total = vision.blocks() * static_cast<int64_t>(prompt.pictures.size());
  Buffer<float> embeddings(tokens * width);
  float* to = embeddings.data();
  for (const Picture& picture : prompt.pictures) {
    const auto block_done = [&] {
      check_cancelled(observer);
      if (observer.progress) observer.progress("vision", ++blocks_done, blocks_total);
    };
    const Buffer<float> encoded = vision.encode(picture.patches.data(), picture.grid, block_done, guard);
    to = std::copy_n(encoded.data(), encoded.size(), to);
  }
  return embeddings;
}

// Runs the decoder over a sequence whose pad tokens are replaced by vision embeddings.
class Runner {
 public:
  Runner(const EngineState& state, const Buffer<float>& vision, int64_t chunk, const Observer& observer,
         GuardReport* guard)
      : state_(state), vision_(vision), chunk_(chunk), observer_(observer), guard_(guard) {}

  // Feeds tokens cache.tokens() .. sequence.size() - 1 in chunks and calls body(first, count, hidden) for
  // each.
  template <typename Body>
  void run(const Sequence& sequence, KvCache& cache, Body body) {
    const int64_t width = state_.decoder.config().hidden_size, start = cache.tokens();
    const int64_t total = sequence.size(), chunk = chunk_ > 0 ? chunk_ : total;
    hidden_.reserve(std::min(chunk, total - start) * width);
    int64_t vision_row = count_pads(sequence, start);
    while (cache.tokens() < total) {
      const int64_t first = cache.tokens(), count = std::min(chunk, total - first);
      const auto ids =
          std::span(sequence.ids()).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
      state_.decoder.embed(ids, hidden_.data());
      for (int64_t i = 0; i < count; ++i) {
        if (!is_pad(ids[static_cast<size_t>(i)])) continue;
        std::copy_n(vision_.data() + vision_row++ * width, width, hidden_.data() + i * width);
      }
      state_.decoder.forward(hidden_.data(), count, sequence.positions(first, count), cache, guard_);
      body(first, count, hidden_.data());
      if (count > 1 && observer_.progress)
        observer_.progress("prefill", cache.tokens() - start, total - start);
      if (cache.tokens() < total) check_cancelled(observer_);
    }
  }

  // Feeds what is new and writes the logits of the last token, [vocab].
  void next_logits(const Sequence& sequence, KvCache& cache, float* logits) {
    run(sequence, cache, [&](int64_t first, int64_t count, const float* hidden) {
      if (first + count < sequence.size()) return;
      state_.decoder.logits(hidden + (count - 1) * state_.decoder.config().hidden_size, 1, logits);
    });
  }

 private:
  bool is_pad(int32_t id) const {
    const ModelConfig& config = state_.parts->checkpoint.config();
    return id == config.image_token_id || id == config.video_token_id;
  }
  int64_t count_pads(const Sequence& sequence, int64_t end) const {
    return std::count_if(sequence.ids().begin(), sequence.ids().begin() + end,
                         [&](int32_t id) { return is_pad(id); });
  }

  const EngineState& state_;
  const Buffer<float>& vision_;
  int64_t chunk_;
  const Observer& observer_;
  GuardReport* guard_;
  Buffer<float> hidden_;
};

// The text side of an answer: bytes to characters, stop strings, streaming.
class AnswerText {
 public:
  AnswerText(const Tokenizer& tokenizer, const std::vector<std::string>& stops, const Observer& observer)
      : decoder_(tokenizer), stops_(stops), observer_(observer) {}

  void push(int32_t id) { show(stops_.push(decoder_.push(id))); }
  std::string finish() {
    if (!stops_.stopped()) {
      show(stops_.push(decoder_.finish()));
      show(stops_.finish());
    }
    return std::move(text_);
  }
  bool stopped() const { return stops_.stopped(); }

 private:
  void show(const std::string& piece) {
    if (piece.empty()) return;
    text_ += piece;
    if (observer_.on_text) observer_.on_text(piece);
  }

  StreamDecoder decoder_;
  StopStrings stops_;
  const Observer& observer_;
  std::string text_;
};

bool contains(const std::vector<int64_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

void check_options(const GenerationOptions& options) {
  if (options.max_new_tokens < 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("max_new_tokens {} is negative", options.max_new_tokens),
                "give --max-new-tokens 0 or more");
  }
  if (options.prefill_chunk < 0) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("prefill chunk {} is negative", options.prefill_chunk),
                "give --prefill-chunk 0 (whole prompt) or more");
  }
}

}  // namespace

Answer Engine::generate(const Prompt& prompt, const GenerationOptions& options,
                        const Observer& observer) const {
  check_options(options);
  const EngineState& s = *state_;
  const ModelConfig& config = s.parts->checkpoint.config();
  Sampler sampler(options.sampling);
  AnswerText text(s.parts->tokenizer, options.stop, observer);
  Answer answer;
  answer.finish_reason = "length";
  answer.timings.load_s = s.load_seconds;
  answer.timings.preprocess_s = prompt.preprocess_seconds;
  answer.guard = guard_report(s);
  GuardReport* guard = watching(answer.guard);
  Sequence sequence(prompt);
  const int64_t capacity =
      std::min(sequence.size() + options.max_new_tokens, config.text.max_position_embeddings);
  try {
    check_cancelled(observer);
    Stopwatch watch;
    const Buffer<float> vision = encode_pictures(s.vision, prompt, config, observer, guard);
    answer.timings.vision_s = watch.seconds();
    watch = Stopwatch();
    KvCache cache(config.text, capacity, s.precision.text.layers);
    Runner runner(s, vision, options.prefill_chunk, observer, guard);
    Buffer<float> logits(config.text.vocab_size);
    while (sequence.size() < capacity) {
      if (!options.use_kv_cache) cache.truncate(0);
      runner.next_logits(sequence, cache, logits.data());
      const int32_t id = sampler.next(logits.span(), sequence.ids());
      if (answer.token_ids.empty()) {
        answer.timings.prefill_s = watch.seconds();
        watch = Stopwatch();
      }
      answer.token_ids.push_back(id);
      sequence.append(id);
      const bool ended = !options.ignore_eos && contains(options.eos_token_ids, id);
      if (!ended) text.push(id);
      if (ended || text.stopped()) {
        answer.finish_reason = "stop";
        break;
      }
      answer.timings.decode_s = watch.seconds();
      check_cancelled(observer);
    }
  } catch (const Cancelled&) {
    answer.finish_reason = "cancelled";
  }
  answer.text = text.finish();
  answer.timings.prompt_tokens = static_cast<int64_t>(prompt.ids.size());
  answer.timings.generated_tokens = static_cast<int64_t>(answer.token_ids.size());
  return answer;
}

Evaluation Engine::evaluate(const Prompt& prompt, int64_t prefill_chunk, const Observer& observer) const {
  const EngineState& s = *state_;
  const ModelConfig& config = s.parts->checkpoint.config();
  const Sequence sequence(prompt);
  Evaluation result;
  result.guard = guard_report(s);
  GuardReport* guard = watching(result.guard);
  result.vision_embeddings = encode_pictures(s.vision, prompt, config, observer, guard);
  result.logits.resize(sequence.size() * config.text.vocab_size);
  KvCache cache(config.text, sequence.size(), s.precision.text.layers);
  Runner runner(s, result.vision_embeddings, prefill_chunk, observer, guard);
  runner.run(sequence, cache, [&](int64_t first, int64_t count, const float* hidden) {
    s.decoder.logits(hidden, count, result.logits.data() + first * config.text.vocab_size);
  });
  return result;
}

}  // namespace fovea
