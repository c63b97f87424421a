#include "bench/runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/splitmix64.h"
#include "bench/amounts.h"
#include "runtime/engine.h"

namespace fovea::bench {

namespace {

constexpr int64_t kPrompts[] = {512, 2048, 8192, 32768};
constexpr int64_t kDecoded = 16;  // tokens behind the first
constexpr int kMostRepetitions = 3;
constexpr int64_t kSides[] = {448, 1344};  // pixels of square pictures

// One way to run the model: a preset, and what its runs are called: empty names are those of the model's
// dtype.
struct Way {
  const char* preset;
  std::string_view prefill, decode;
};
constexpr Way kWays[] = {{"exact", "", ""}, {"balanced", "w8a8", "int8"}, {"fast", "int4", "int4"}};

// A prompt of exactly so many tokens, ids drawn at random from the words below the special ones.
Prompt text_prompt(const Engine& engine, int64_t tokens) {
  const ModelConfig& config = engine.checkpoint().config();
  const std::vector<int64_t> special{config.image_token_id, config.video_token_id,
                                     config.vision_start_token_id, config.vision_end_token_id,
                                     config.bos_token_id};
  const int64_t words = std::min(config.text.vocab_size, *std::min_element(special.begin(), special.end()));
  Prompt prompt;
  SplitMix64 random(static_cast<uint64_t>(tokens));
  for (int64_t i = 0; i < tokens; ++i) {
    prompt.ids.push_back(
        static_cast<int32_t>(random.bits() % static_cast<uint64_t>(std::max<int64_t>(words, 1))));
  }
  prompt.positions = mrope_positions(prompt.ids, {}, config);
  return prompt;
}

Picture noise_picture(const VisionConfig& c, int64_t side) {
  Picture picture;
  picture.grid = {1, side / c.patch_size, side / c.patch_size};
  picture.patches.resize(picture.grid.patches() * c.patch_dim());
  SplitMix64 random(static_cast<uint64_t>(side));
  for (float& value : picture.patches.span())
    value = static_cast<float>(static_cast<double>(random.bits() >> 40) * 0x1p-22 - 2);
  return picture;
}

class Runs {
 public:
  Runs(const BenchOptions& options, Meter& meter, const std::function<void(Result)>& done)
      : options_(options), meter_(meter), done_(done) {}

  void all() {
    for (const Way& way : kWays) {
      way_ = way;
      engine_.reset();
      if (!quantized()) load();
      for (const int64_t side : kSides) {
        if (way.prefill != "int4") vision(side);  // there the vision tower is that of w8a8
      }
      for (const int64_t tokens : kPrompts) text(tokens);
    }
  }

 private:
  bool wanted(const std::string& name) const {
    return selects(options_.only, name) && !(options_.cancel != nullptr && *options_.cancel);
  }
  int repetitions() const { return std::min(options_.repetitions, kMostRepetitions); }
  bool quantized() const { return !way_.prefill.empty(); }
  Bound bound() {
    if (quantized()) return Bound::int8;
    return engine().dtype() == DType::bf16 ? Bound::bf16 : Bound::fp32;
  }
  const char* unit() const { return quantized() ? "Gop/s" : "GFLOP/s"; }
  // Opens the model only where its dtype is the name: quantizing takes seconds.
  std::string named(const char* what, int64_t size, std::string_view way) {
    return fmt::format("{}.{}.{}", what, size,
                       way.empty() ? std::string_view(name_of(engine().dtype())) : way);
  }
  const Engine& engine() {
    if (!engine_) open();
    return *engine_;
  }

  // How fast it is depends on what the page cache holds.
  void load() {
    if (!wanted("load")) return;
    Work work{.name = "load", .bound = Bound::none, .amount = 0, .unit = "", .call = [&] { open(); }};
    done_(meter_.measure(work, repetitions()));
  }
  void open() {
    EngineOptions options;
    options.policy = PrecisionPolicy::of_preset(way_.preset);
    engine_.emplace(Engine::open(options_.model, options, {}));
  }

  void vision(int64_t side) {
    const std::string name = named("vision", side, way_.prefill);
    if (!wanted(name)) return;
    const VisionConfig& c = engine().checkpoint().config().vision;
    if (side % (c.patch_size * c.spatial_merge_size) != 0) return;
    Prompt prompt;
    prompt.pictures.push_back(noise_picture(c, side));
    Work work{.name = name,
              .bound = bound(),
              .amount = vision_operations(c, prompt.pictures[0].grid),
              .unit = unit(),
              .call = {}};
    const Buffer<float> first = engine().encode(prompt, {});
    work.call = [&] {
      const Buffer<float> again = engine().encode(prompt, {});
      check(std::equal(first.span().begin(), first.span().end(), again.span().begin()), name);
    };
    done_(meter_.measure(work, repetitions()));
  }

  // Prefill and decode of one prompt come from the same runs.
  void text(int64_t tokens) {
    const std::string prefill = named("prefill", tokens, way_.prefill),
                      decode = named("decode", tokens, way_.decode);
    if (!wanted(prefill) && !wanted(decode)) return;
    const TextConfig& c = engine().checkpoint().config().text;
    if (tokens + kDecoded + 1 > c.max_position_embeddings) return;
    const Prompt prompt = text_prompt(*engine_, tokens);
    GenerationOptions generation = engine().default_generation();
    generation.choose_greedy();
    generation.max_new_tokens = kDecoded + 1;
    generation.ignore_eos = true;
    generation.prompt_lookup_num_tokens = 0;  // every token reads every weight
    std::vector<Meter::Sample> prefills, decodes;
    std::vector<int32_t> answer;
    for (int i = 0; i < repetitions() && (options_.cancel == nullptr || !*options_.cancel); ++i) {
      const double rate = meter_.probe(bound()), reading = meter_.probe(Bound::read);
      const Answer run = engine().generate(prompt, generation, {});
      if (answer.empty()) answer = run.token_ids;
      check(run.token_ids == answer && std::ssize(answer) == kDecoded + 1, prefill);
      prefills.push_back({run.timings.prefill_s, (rate + meter_.probe(bound())) / 2});
      decodes.push_back({run.timings.decode_s, (reading + meter_.probe(Bound::read)) / 2});
    }
    if (prefills.empty()) return;
    const double bytes = kDecoded * decode_bytes(c, engine().precision().text, tokens + kDecoded / 2);
    if (selects(options_.only, prefill)) {
      done_(meter_.summary({prefill, bound(), prefill_operations(c, tokens), unit(), {}}, prefills));
    }
    if (selects(options_.only, decode))
      done_(meter_.summary({decode, Bound::read, bytes, "GB/s", {}}, decodes));
  }

  static void check(bool same, const std::string& name) {
    if (same) return;
    throw Error(ErrorKind::numeric, fmt::format("{}: two runs of the same input differ", name),
                "report this with the output of fovea inspect and lscpu");
  }

  const BenchOptions& options_;
  Meter& meter_;
  const std::function<void(Result)>& done_;
  Way way_ = kWays[0];
  std::optional<Engine> engine_;
};

}  // namespace

std::vector<std::string> run_names() {
  std::vector<std::string> names{"load"};
  for (const auto& [vision, prefill, decode] :
       {std::tuple{"bf16", "bf16", "bf16"}, {"w8a8", "w8a8", "int8"}, {nullptr, "int4", "int4"}}) {
    for (const int64_t side : kSides) {
      if (vision != nullptr) names.push_back(fmt::format("vision.{}.{}", side, vision));
    }
    for (const int64_t tokens : kPrompts) {
      names.push_back(fmt::format("prefill.{}.{}", tokens, prefill));
      names.push_back(fmt::format("decode.{}.{}", tokens, decode));
    }
  }
  return names;
}

void bench_runs(const BenchOptions& options, Meter& meter, const std::function<void(Result)>& done) {
  Runs(options, meter, done).all();
}

}  // namespace fovea::bench
