// What an open engine holds; private to runtime.
#pragma once

#include <algorithm>
#include <chrono>

#include "model/decoder.h"
#include "model/vision_tower.h"
#include "runtime/engine.h"
#include "runtime/model_text.h"
#include "runtime/pipeline.h"

namespace fovea {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// What engines of one checkpoint share; immutable, apart from the store's growing set of conversions.
struct EngineParts {
  EngineParts(const ModelFiles& files, const std::string& chat_template_instead, const Context& context)
      : EngineParts(Checkpoint::open(files), chat_template_instead, context) {}
  EngineParts(Checkpoint&& opened, const std::string& chat_template_instead, const Context& context)
      : EngineParts(std::move(opened), model_text(opened, chat_template_instead), context) {}
  EngineParts(Checkpoint&& opened, ModelText&& text, const Context& context)
      : checkpoint(std::move(opened)),
        tokenizer(std::move(text.tokenizer)),
        chat_template(std::move(text.chat_template)),
        weights(checkpoint, context) {}
  EngineParts(const EngineParts&) = delete;

  Checkpoint checkpoint;
  Tokenizer tokenizer;
  ChatTemplate chat_template;
  WeightStore weights;
};

struct EngineState {
  std::shared_ptr<const EngineParts> parts;
  EngineOptions options;
  DType dtype;
  Precision precision;
  VisionTower vision;
  Decoder decoder;
  std::unique_ptr<Pipeline> pipeline = nullptr;  // with EngineOptions::split
  double load_seconds = 0;

  HeldParts held() const { return pipeline ? pipeline->held() : HeldParts(); }
  Pipeline::Parts pipeline_parts() const {
    return {vision, decoder, parts->checkpoint.config().vision, precision.text.layers};
  }
};

// Thrown between two pieces of work once the observer asked to stop; never leaves the engine.
struct Cancelled {};
inline void check_cancelled(const Observer& observer) {
  if (observer.cancel != nullptr && observer.cancel->load()) throw Cancelled{};
}

// Throws Error(invalid_argument) for options that no request may have.
void check_options(const GenerationOptions& options, const Checkpoint& checkpoint);
// The most tokens to draft at once, nothing for as many as pay; `watched` by a layer observer. Throws
// Error(invalid_argument) where drafts are asked for and something keeps the request from them.
std::optional<int64_t> proposals_for(const GenerationOptions& options, bool watched,
                                     const EngineOptions& engine);

inline bool ends_answer(const GenerationOptions& options, int32_t id) {
  const auto& ends = options.eos_token_ids;
  return !options.ignore_eos && std::find(ends.begin(), ends.end(), id) != ends.end();
}

}  // namespace fovea
