// fovea as a library: a checkpoint of Qwen2.5-VL that answers many requests at once.
//
//   fovea::Engine engine("Qwen2.5-VL-3B-Instruct");
//   fovea::Request request;
//   request.messages = {{"user", {fovea::Part::of_image(bytes), fovea::Part::of_text("What does it say?")}}};
//   std::cout << engine.generate(request).text << '\n';
//
// An answer does not depend on who else is asking, bit for bit. CMake: find_package(fovea) and link
// fovea::fovea.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/error.h"
#include "fovea/events.h"
#include "fovea/namespace.h"
#include "fovea/request.h"

namespace fovea {
FOVEA_INLINE namespace v0 {
  // "0.1.0", of the library that is running.
  FOVEA_API const char* version();

  struct EngineOptions {
    // As the options of the program `fovea run` are called; empty: its defaults.
    std::string dtype;                       // "fp32", "bf16", "fp16"
    std::string attn_implementation;         // "eager", "sdpa", "flash_attention_2"
    std::string vision_attn_implementation;  // likewise; empty: as the text decoder
    std::string preset;                      // what others compute, by name
    std::string precision;                   // nodes that differ: "text.scores=fp32"
    std::string kv_cache_dtype;              // "auto", "fp32", "bf16", "fp16", "int8"
    std::string guard;                       // "off", "warn", "escalate"

    // Threads of this engine's own, the calling one among them; 0: one for each core that the process may
    // use. None is bound to a core.
    int threads = 0;

    int64_t max_num_seqs = 16;             // requests that run at once
    int64_t max_num_batched_tokens = 512;  // rows of a step
    int64_t max_queue = 1024;              // requests that wait
    // Bytes of keys and values; 0: 4,096 tokens for each of max_num_seqs, at most half of the free memory.
    int64_t kv_cache_bytes = 0;
    int64_t vision_cache_bytes = int64_t{256} << 20;  // embeddings of pictures that may come again

    // The content of a Media's name; may throw, which is the request's error. Called on the thread that calls
    // submit() or generate(). Empty: names are refused.
    std::function<std::string(const std::string& name)> resolve;
    // While weights are read: what is done, of how much.
    std::function<void(std::string_view stage, int64_t done, int64_t total)> progress;
  };

  struct EngineInfo {
    std::string dtype, attn_implementation, vision_attn_implementation;
    std::string kernels;  // "scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx"
    int threads = 0;
    int64_t vocab_size = 0, max_model_len = 0;
    double load_seconds = 0;
    std::vector<std::string> warnings;  // of the checkpoint: odd, and harmless
  };

  struct EngineMetrics {
    int64_t running = 0, waiting = 0;
    int64_t steps = 0, rows = 0;
    int64_t prompt_tokens = 0, cached_tokens = 0;  // of requests that have started
    int64_t kv_cache_bytes = 0;                    // that are allocated
  };

  using RequestId = uint64_t;

  // Threads. All functions but the constructor and the destructor may be called from any thread at any time.
  // An engine has no thread that works by itself: requests are computed by whoever is in step(), run() or
  // generate(). One of them computes, for all; the others wait until it is their turn or their request is
  // over. Engines of one process know nothing of each other.
  class FOVEA_API Engine {
   public:
    // A Hugging Face folder. Throws Error naming what is wrong with it or with an option.
    explicit Engine(const std::filesystem::path& model, const EngineOptions& options = {});
    // Not while another thread is in one of its functions. Requests that are not over hear nothing more.
    ~Engine();
    Engine(Engine&&) noexcept;
    Engine& operator=(Engine&&) noexcept;

    EngineInfo info() const;
    EngineMetrics metrics() const;

    // Adds a request, whose pictures are decoded here and now. Throws Error when it is wrong, can never fit,
    // or the queue is full; then no event is called.
    RequestId submit(const Request& request, Events events);
    // Its answer so far goes to on_answer, at the end of the step under way. One that is over is ignored.
    void cancel(RequestId id);
    // Computes a step; false when there was nothing to do.
    bool step();
    // Until no request is left.
    void run();
    // Answers one request; others that are under way go on beside it. Throws what on_error would be told.
    Answer generate(const Request& request, const Events& events = {});

   private:
    class State;
    std::unique_ptr<State> state_;
  };

}  // namespace v0
}  // namespace fovea
