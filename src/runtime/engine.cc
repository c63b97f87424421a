#include "runtime/engine.h"

#include <unistd.h>

#include <algorithm>
#include <thread>

#include "base/error.h"
#include "base/fnv1a.h"
#include "base/freed_memory.h"
#include "base/turns.h"
#include "checkpoint/weight_source.h"
#include "kernels/kernels.h"
#include "model/weight_nodes.h"
#include "runtime/ranks_executor.h"
#include "runtime/state.h"

namespace fovea {

namespace {

// Reading ahead only helps when everything can stay in memory.
bool fits_in_memory(const Checkpoint& checkpoint) {
  int64_t bytes = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) bytes += tensor.bytes();
  return bytes < int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE) / 10 * 9;
}

// The tokenizer's ids must be rows of the embedding, and its placeholders those that config.json names.
void check_tokenizer(const Tokenizer& tokenizer, const ModelConfig& config) {
  const auto refuse = [](const std::string& what) {
    throw Error(ErrorKind::corrupt, "the tokenizer does not belong to this model: " + what,
                "use the tokenizer files and the config.json that were published together with the weights");
  };
  if (tokenizer.size() > config.text.vocab_size) {
    refuse(fmt::format("its ids reach {}, config.json's vocab_size is {}", tokenizer.size() - 1,
                       config.text.vocab_size));
  }
  const std::pair<const char*, int64_t> pads[] = {{"<|image_pad|>", config.image_token_id},
                                                  {"<|video_pad|>", config.video_token_id}};
  for (const auto& [name, expected] : pads) {
    const auto id = tokenizer.id_of(name);
    if (!id) refuse(fmt::format("it has no {}", name));
    if (*id != expected) refuse(fmt::format("{} is {}, config.json says {}", name, *id, expected));
  }
}

ResolvedPolicy resolve(const EngineOptions& options, const Checkpoint& checkpoint) {
  return options.policy.value_or(PrecisionPolicy()).resolve(policy_target(options, checkpoint));
}

StoredQuantization stored_quantization(const Checkpoint& checkpoint) {
  StoredQuantization stored;
  if (!checkpoint.quantized()) return stored;
  const auto of = [&](const std::string& name) {
    return checkpoint.has(name) ? quantization_of(checkpoint.tensor(name).format) : Quantization::none;
  };
  const auto layers = [&](const std::string& prefix, const char* attention, int64_t count) {
    std::vector<StoredQuantization::Layer> list;
    for (int64_t i = 0; i < count; ++i) {
      const std::string layer = fmt::format("{}{}.", prefix, i);
      list.push_back({of(layer + attention), of(layer + "mlp.down_proj.weight")});
    }
    return list;
  };
  const ModelConfig& config = checkpoint.config();
  stored.text =
      layers("model.language_model.layers.", "self_attn.o_proj.weight", config.text.num_hidden_layers);
  stored.vision = layers("model.visual.blocks.", "attn.proj.weight", config.vision.depth);
  stored.head = of("lm_head.weight");
  return stored;
}

// What all ranks must have in common to compute the same bits. Values of weights are taken on trust.
uint64_t identity_of(const Checkpoint& checkpoint, const EngineOptions& options, const std::string& map) {
  return fnv1a(fmt::format(
      "{} {} {} {} {} {} {}", map, options.context.value_or(process_context()).kernels->name,
      options.dtype ? name_of(*options.dtype) : "", name_of(options.attention),
      name_of(options.vision_attention), options.policy ? options.policy->text() : "", checkpoint.layout()));
}

std::unique_ptr<Pipeline> pipeline_of(const EngineOptions& options, const Checkpoint& checkpoint) {
  if (!options.split) return nullptr;
  FOVEA_CHECK(!options.weight_limit && !options.kv_offload && options.tensor_parallel.whole() &&
              options.guard.mode == GuardMode::off);
  const SplitModel split = options.split(checkpoint);
  FOVEA_CHECK(std::ssize(split.map.layers) == checkpoint.config().text.num_hidden_layers);
  auto pipeline = std::make_unique<Pipeline>(split.map, *split.ranks);
  require_same(*split.ranks, identity_of(checkpoint, options, split.map.text()));
  return pipeline;
}

std::unique_ptr<EngineState> state_of(std::shared_ptr<const EngineParts> parts, EngineOptions options,
                                      const ResolvedPolicy& resolved) {
  if (!(options.guard.tau > 0)) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("guard threshold {} is not positive", options.guard.tau),
                "use 0.125, which misses no row whose error is above 10 %");
  }
  if (!options.tensor_parallel.whole() && options.guard.mode != GuardMode::off) {
    throw Error(ErrorKind::unsupported, "a guard and tensor parallelism exclude each other",
                "leave out --guard or --tensor-parallel");
  }
  const Precision& precision = resolved.precision;
  options.attention = precision.text.tower.kind;
  options.vision_attention = precision.vision.tower.kind;
  options.vision_budget_bytes = vision_budget_of(options);
  std::unique_ptr<Pipeline> pipeline = pipeline_of(options, parts->checkpoint);
  const HeldParts held = pipeline ? pipeline->held() : HeldParts();
  VisionTower vision(parts->weights, precision.vision, held.vision);
  Decoder decoder(parts->weights, precision.text, precision.logits, options.tensor_parallel, held);
  const bool own_part = parts->weights.streams() || !options.tensor_parallel.whole();
  if (own_part) parts->checkpoint.drop_pages();  // those around the vectors
  return std::make_unique<EngineState>(EngineState{std::move(parts), std::move(options), resolved.dtype,
                                                   precision, std::move(vision), std::move(decoder),
                                                   std::move(pipeline)});
}

}  // namespace

int64_t vision_budget_of(const EngineOptions& options) {
  return options.vision_budget_bytes > 0 ? options.vision_budget_bytes : kVisionBudgetBytes;
}

PolicyTarget policy_target(const EngineOptions& options, const Checkpoint& checkpoint) {
  const ModelConfig& config = checkpoint.config();
  return {options.attention,
          options.vision_attention,
          options.dtype,
          config.dtype,
          config.text.num_hidden_layers,
          config.vision.depth,
          stored_quantization(checkpoint)};
}

Engine::Engine(std::unique_ptr<EngineState> state) : state_(std::move(state)) {}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
Engine::~Engine() = default;

Engine Engine::open(const ModelFiles& files, const EngineOptions& options, const Observer& observer) {
  const Stopwatch watch;
  auto parts = std::make_shared<const EngineParts>(files, options.chat_template,
                                                   options.context.value_or(process_context()));
  check_tokenizer(parts->tokenizer, parts->checkpoint.config());
  // A policy that does not fit is refused before anything is read.
  const ResolvedPolicy resolved = resolve(options, parts->checkpoint);
  return_freed_memory();  // what reading the tokenizer took
  if (options.weight_limit) {
    parts->weights.stream(options.weight_source ? options.weight_source(parts->checkpoint)
                                                : disk_weights(parts->checkpoint));
  } else if (!options.split && options.tensor_parallel.whole() && fits_in_memory(parts->checkpoint)) {
    parts->checkpoint.read_ahead(observer.progress);
  }
  Engine engine(state_of(std::move(parts), options, resolved));
  engine.state_->load_seconds = watch.seconds();
  return engine;
}

Engine Engine::with(const EngineOptions& options) const {
  const Stopwatch watch;
  FOVEA_CHECK(!options.split && !state_->pipeline);
  EngineOptions own = options;
  if (!own.weight_limit) own.weight_limit = state_->options.weight_limit;
  if (!own.kv_offload) own.kv_offload = state_->options.kv_offload;
  if (own.vision_budget_bytes == 0) own.vision_budget_bytes = state_->options.vision_budget_bytes;
  Engine engine(state_of(state_->parts, own, resolve(own, state_->parts->checkpoint)));
  engine.state_->load_seconds = watch.seconds();
  return engine;
}

void Engine::limit_weights(const WeightLimit& limit) const {
  const EngineParts& parts = *state_->parts;
  FOVEA_CHECK(!state_->pipeline);
  if (!parts.weights.streams()) parts.weights.stream(disk_weights(parts.checkpoint));
  state_->options.weight_limit = limit;
}

void Engine::limit_kv_cache(int64_t bytes) const {
  FOVEA_CHECK(state_->options.kv_offload);
  state_->options.kv_offload->bytes = bytes;
}

uint64_t Engine::identity() const {
  return identity_of(state_->parts->checkpoint, state_->options,
                     state_->pipeline ? state_->pipeline->map().text() : "");
}

void Engine::serve() const {
  if (!state_->pipeline) {
    FOVEA_CHECK(state_->options.ranks != nullptr);
    return serve_steps(*state_, *state_->options.ranks);
  }
  state_->pipeline->serve(state_->pipeline_parts(), [&] { serve_steps(*state_, state_->pipeline->ranks()); });
}

void Engine::release_ranks() const {
  if (state_->pipeline) return state_->pipeline->stop();
  if (state_->options.ranks != nullptr) fovea::release_ranks(*state_->options.ranks);
}

int64_t Engine::requests_at_once() const {
  if (!state_->pipeline) return 1;
  const std::vector<int>& ranks = state_->pipeline->map().layers;
  return 2 + *std::max_element(ranks.begin(), ranks.end());  // one more than the decoder has ranks
}

void Engine::side_by_side(int64_t count, const std::function<void(int64_t)>& work) const {
  if (!state_->pipeline || count == 1) {
    for (int64_t i = 0; i < count; ++i) work(i);
    return;
  }
  Turns turns;
  std::exception_ptr failure;
  const auto take_part = [&](int64_t i) {
    turns.take(i);
    try {
      work(i);
    } catch (...) {
      if (!failure) failure = std::current_exception();
    }
    turns.give();
  };
  state_->pipeline->share_turns(&turns);
  {
    std::vector<std::jthread> all;
    for (int64_t i = 0; i < count; ++i) all.emplace_back(take_part, i);
  }
  state_->pipeline->share_turns(nullptr);
  if (failure) std::rethrow_exception(failure);
}

const DeviceMap* Engine::device_map() const { return state_->pipeline ? &state_->pipeline->map() : nullptr; }

StreamState Engine::stream_state() const { return state_->parts->weights.stream_state(); }
bool Engine::streams_weights() const { return state_->parts->weights.streams(); }

const Checkpoint& Engine::checkpoint() const { return state_->parts->checkpoint; }
const Tokenizer& Engine::tokenizer() const { return state_->parts->tokenizer; }
const EngineOptions& Engine::options() const { return state_->options; }
DType Engine::dtype() const { return state_->dtype; }
const Precision& Engine::precision() const { return state_->precision; }
std::vector<std::string> Engine::warnings() const { return state_->parts->checkpoint.warnings(); }
double Engine::load_seconds() const { return state_->load_seconds; }
const char* Engine::kernel_variant() const { return context().kernels->name; }
const Context& Engine::context() const { return state_->parts->weights.context(); }

GenerationOptions Engine::default_generation() const {
  const GenerationConfig& config = state_->parts->checkpoint.generation();
  GenerationOptions options;
  options.sampling = {!config.do_sample,
                      config.temperature,
                      config.top_k,
                      config.top_p,
                      config.repetition_penalty,
                      0,
                      config.no_repeat_ngram_size};
  options.stop = config.stop_strings;
  if (config.max_new_tokens > 0) options.max_new_tokens = config.max_new_tokens;
  options.eos_token_ids = config.eos_token_ids;
  if (options.eos_token_ids.empty()) options.eos_token_ids = state_->parts->checkpoint.config().eos_token_ids;
  options.other_sampling = config.other_sampling;
  options.other_methods = config.other_methods;
  return options;
}

}  // namespace fovea
