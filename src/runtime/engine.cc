#include "runtime/engine.h"

#include <unistd.h>

#include "kernels/kernels.h"
#include "runtime/state.h"

namespace fovea {

namespace {

// Reading ahead only helps when everything can stay in memory.
bool fits_in_memory(const Checkpoint& checkpoint) {
  int64_t bytes = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) bytes += tensor.bytes();
  return bytes < int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE) / 10 * 9;
}

}  // namespace

Engine::Engine(std::unique_ptr<EngineState> state) : state_(std::move(state)) {}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
Engine::~Engine() = default;

Engine Engine::open(const std::filesystem::path& dir, const EngineOptions& options,
                    const Observer& observer) {
  const Stopwatch watch;
  Checkpoint checkpoint = Checkpoint::open(dir);
  Tokenizer tokenizer = Tokenizer::open(dir);
  ChatTemplate chat_template = ChatTemplate::open(dir);
  if (fits_in_memory(checkpoint)) checkpoint.read_ahead(observer.progress);
  const DType dtype = options.dtype.value_or(checkpoint.config().dtype);
  const Precision precision = Precision::uniform(dtype);
  VisionTower vision(checkpoint, precision.vision, options.vision_attention);
  Decoder decoder(checkpoint, precision, options.attention);
  auto state = std::make_unique<EngineState>(EngineState{std::move(checkpoint), std::move(tokenizer),
                                                         std::move(chat_template), options, dtype, precision,
                                                         std::move(vision), std::move(decoder)});
  state->load_seconds = watch.seconds();
  return Engine(std::move(state));
}

const Checkpoint& Engine::checkpoint() const { return state_->checkpoint; }
const Tokenizer& Engine::tokenizer() const { return state_->tokenizer; }
const EngineOptions& Engine::options() const { return state_->options; }
DType Engine::dtype() const { return state_->dtype; }
double Engine::load_seconds() const { return state_->load_seconds; }
const char* Engine::kernel_variant() const { return kernels().name; }

GenerationOptions Engine::default_generation() const {
  const GenerationConfig& config = state_->checkpoint.generation();
  GenerationOptions options;
  options.sampling = {!config.do_sample, config.temperature,        config.top_k,
                      config.top_p,      config.repetition_penalty, 0};
  if (config.max_new_tokens > 0) options.max_new_tokens = config.max_new_tokens;
  options.eos_token_ids = config.eos_token_ids;
  if (options.eos_token_ids.empty()) options.eos_token_ids = state_->checkpoint.config().eos_token_ids;
  return options;
}

}  // namespace fovea
