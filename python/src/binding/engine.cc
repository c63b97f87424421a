// Engine, prompts and batches. Options and answers cross as JSON, arrays as numpy's; every long call releases
// the GIL.
#include <nanobind/ndarray.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "audit/audit.h"
#include "base/error.h"
#include "base/rounding.h"
#include "binding/bindings.h"
#include "binding/options.h"
#include "binding/threads.h"
#include "checkpoint/model_folder.h"
#include "media/geometry.h"
#include "plan/plan_text.h"
#include "runtime/batch_engine.h"
#include "suite/reader.h"

namespace fovea::python {

namespace nb = nanobind;
using nlohmann::json;
using nlohmann::ordered_json;

namespace {

using Matrix = nb::ndarray<nb::numpy, float, nb::ndim<2>, nb::c_contig>;
using Flag = std::atomic<bool>;

struct Cancel {
  Flag flag{false};
};

ordered_json answer_json(const Answer& answer, const Prompt& prompt) {
  const Timings& t = answer.timings;
  return {{"text", answer.text},
          {"token_ids", answer.token_ids},
          {"finish_reason", answer.finish_reason},
          {"prompt_tokens", prompt.ids.size()},
          {"warnings", prompt.warnings},
          {"timings",
           {{"preprocess_s", prompt.preprocess_seconds},
            {"vision_s", t.vision_s},
            {"prefill_s", t.prefill_s},
            {"decode_s", t.decode_s}}}};
}

std::string text_of(const ordered_json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

Matrix matrix_of(Buffer<float>&& values, int64_t columns) {
  auto* kept = new Buffer<float>(std::move(values));
  const nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<Buffer<float>*>(p); });
  return Matrix(kept->data(),
                {static_cast<size_t>(columns > 0 ? kept->size() / columns : 0), static_cast<size_t>(columns)},
                owner);
}

// What Python holds of a prepared conversation; shared, never copied.
struct PreparedPrompt {
  Prompt prompt;
  explicit PreparedPrompt(Prompt prepared) : prompt(std::move(prepared)) {}
  PreparedPrompt(const PreparedPrompt&) = delete;
  PreparedPrompt& operator=(const PreparedPrompt&) = delete;
};

// What a batch answers, request by request.
class BatchAnswers {
 public:
  explicit BatchAnswers(const std::vector<std::shared_ptr<PreparedPrompt>>& prompts) : prompts_(prompts) {
    for (size_t i = 0; i < prompts.size(); ++i) answers_.push_back(nullptr);
  }

  RequestCallbacks callbacks(size_t i) {
    RequestCallbacks callbacks;
    callbacks.on_answer = [this, i](const Answer& answer) {
      answers_[i] = answer_json(answer, prompts_[i]->prompt);
    };
    callbacks.on_failure = [this, i](const std::exception_ptr& failure) {
      try {
        std::rethrow_exception(failure);
      } catch (const Error& error) {
        failed(i, error);
      }
    };
    return callbacks;
  }
  void failed(size_t i, const Error& error) {
    answers_[i] = {
        {"error",
         {{"kind", name_of(error.kind())}, {"message", error.message()}, {"remedy", error.remedy()}}}};
  }
  const ordered_json& json() const { return answers_; }

 private:
  const std::vector<std::shared_ptr<PreparedPrompt>>& prompts_;
  ordered_json answers_ = ordered_json::array();
};

// For one thread at a time.
class PythonEngine {
 public:
  PythonEngine(const std::string& model, const std::string& mmproj, const std::string& hub_cache,
               const std::string& options, int threads)
      : pool_(threads),
        shared_(process_pool_of(threads)),
        engine_(Engine::open({find_model(model, hub_cache), std::filesystem::path(mmproj)}, on_pool(options),
                             {})) {
    shared_.unlock();
  }

  int threads() const { return pool_.threads(); }
  void set_threads(int threads) {
    if (threads != pool_.threads()) pool_.restart({threads, ThreadPool::Options{}.stack_bytes, {}});
  }

  std::string info() const {
    const Checkpoint& checkpoint = engine_.checkpoint();
    const ModelConfig& config = checkpoint.config();
    return text_of({{"dir", checkpoint.dir().string()},
                    {"dtype", name_of(engine_.dtype())},
                    {"attn_implementation", name_of(engine_.options().attention)},
                    {"vision_attn_implementation", name_of(engine_.options().vision_attention)},
                    {"vocab_size", config.text.vocab_size},
                    {"hidden_size", config.text.hidden_size},
                    {"max_position_embeddings", config.text.max_position_embeddings},
                    {"kernels", engine_.kernel_variant()},
                    {"load_s", engine_.load_seconds()},
                    {"warnings", engine_.warnings()}});
  }

  std::shared_ptr<PreparedPrompt> prepare(const std::string& messages, const std::string& limits) const {
    nb::gil_scoped_release released;
    const auto shared = process_pool_of(threads());
    return std::make_shared<PreparedPrompt>(
        engine_.prepare(parse_messages(messages), media_limits(json::parse(limits)), false));
  }

  // on_text: called with the GIL, on this thread; an exception in it ends the request.
  std::string generate(const PreparedPrompt& prompt, const std::string& options, const nb::object& on_text,
                       const Cancel& cancel) const {
    nb::gil_scoped_release released;
    const GenerationOptions generation =
        generation_options(json::parse(options), engine_.default_generation());
    Observer observer;
    observer.cancel = &cancel.flag;
    if (!on_text.is_none()) {
      observer.on_text = [&](std::string_view piece) {
        nb::gil_scoped_acquire held;
        on_text(nb::str(piece.data(), piece.size()));
      };
    }
    return text_of(answer_json(engine_.generate(prompt.prompt, generation, observer), prompt.prompt));
  }

  Matrix logits(const PreparedPrompt& prompt, const Cancel& cancel) const {
    Evaluation result;
    {
      nb::gil_scoped_release released;
      Observer observer;
      observer.cancel = &cancel.flag;
      result = engine_.evaluate(prompt.prompt, engine_.default_generation().prefill_chunk, observer);
    }
    return matrix_of(std::move(result.logits), engine_.checkpoint().config().text.vocab_size);
  }

  Matrix encode(const PreparedPrompt& prompt) const {
    Buffer<float> embeddings;
    {
      nb::gil_scoped_release released;
      embeddings = engine_.encode(prompt.prompt, {});
    }
    return matrix_of(std::move(embeddings), engine_.checkpoint().config().vision.out_hidden_size);
  }

  // Answers, or {"error": {kind, message, remedy}}, in the order of the prompts; each as alone.
  // kv_cache_tokens: 0 is room for all of them.
  std::string batch(const std::vector<std::shared_ptr<PreparedPrompt>>& prompts,
                    const std::vector<std::string>& options, int64_t kv_cache_tokens, int64_t max_num_seqs,
                    const Cancel& cancel) const {
    nb::gil_scoped_release released;
    FOVEA_CHECK(prompts.size() == options.size());
    std::vector<GenerationOptions> generations;
    for (const std::string& text : options) {
      generations.push_back(generation_options(json::parse(text), engine_.default_generation()));
    }
    BatchLimits limits;
    limits.max_num_seqs = max_num_seqs;
    limits.max_queue = std::ssize(prompts) + 1;
    int64_t blocks = divide_up(kv_cache_tokens, kPageTokens);
    for (size_t i = 0; i < prompts.size() && kv_cache_tokens == 0; ++i) {
      blocks += blocks_of(prompts[i]->prompt, generations[i]);
    }
    limits.kv_cache_bytes = std::max<int64_t>(blocks, 1) * BatchEngine::block_bytes(engine_);
    BatchAnswers answers(prompts);
    BatchEngine batch(engine_, limits);
    std::vector<RequestId> ids;
    for (size_t i = 0; i < prompts.size(); ++i) {
      try {
        ids.push_back(batch.add(copy_of(prompts[i]->prompt), generations[i], answers.callbacks(i)));
      } catch (const Error& error) {
        answers.failed(i, error);
      }
    }
    while (!cancel.flag.load() && batch.step()) {
    }
    if (cancel.flag.load()) {
      for (const RequestId id : ids) batch.cancel(id);
    }
    return text_of(answers.json());
  }

  std::string audit(const std::string& suite, const std::string& options, const nb::object& progress,
                    const Cancel& cancel) const {
    nb::gil_scoped_release released;
    const auto shared = process_pool_of(threads());
    AuditFollower follower;
    follower.cancel = &cancel.flag;
    if (!progress.is_none()) {
      follower.progress = [&](std::string_view stage, int64_t done, int64_t total) {
        nb::gil_scoped_acquire held;
        progress(nb::str(stage.data(), stage.size()), done, total);
      };
    }
    return text_of(run_audit(engine_, read_suite(suite), audit_options(json::parse(options)), follower).json);
  }

  std::string plan(const PreparedPrompt& prompt, int64_t answer_tokens) const {
    nb::gil_scoped_release released;
    PlanRequest request;
    request.text_tokens = std::ssize(prompt.prompt.ids);
    request.answer_tokens = answer_tokens;
    request.vision_budget_bytes = vision_budget_of(engine_.options());
    request.guard = engine_.options().guard.mode != GuardMode::off;
    for (const Picture& picture : prompt.prompt.pictures) {
      const MediaOptions options = media_options(engine_.checkpoint().preprocessor(), {}, {});
      request.text_tokens -= picture.tokens(options.merge_size);
      request.pictures.push_back({geometry_of(picture), options});
    }
    const Plan plan = make_plan(engine_.checkpoint(), engine_.precision(), request);
    ordered_json parts;
    for (const PlanPart& part : parts_of(plan)) {
      parts[part.name] = {{"bytes", part.bytes}, {"when", part.phase}};
    }
    return text_of({{"peak_bytes", plan.peak()},
                    {"peak_phase", plan.peak_phase()},
                    {"context", plan.context},
                    {"prompt_tokens", plan.prompt_tokens},
                    {"image_tokens", plan.image_tokens},
                    {"parts", parts}});
  }

 private:
  EngineOptions on_pool(const std::string& options) {
    EngineOptions result = engine_options(json::parse(options));
    result.context = Context{&pool_, &kernels()};
    return result;
  }

  // One more than prompt and answer fill: a block that is being filled is nobody else's.
  static int64_t blocks_of(const Prompt& prompt, const GenerationOptions& options) {
    const int64_t answer = std::clamp<int64_t>(options.max_new_tokens, 0, int64_t{1} << 30);
    return divide_up(std::ssize(prompt.ids) + answer, kPageTokens) + 1;
  }

  static Prompt copy_of(const Prompt& prompt) {
    Prompt copy;
    copy.text = prompt.text;
    copy.ids = prompt.ids;
    copy.positions = prompt.positions;
    copy.video_positions = prompt.video_positions;
    copy.warnings = prompt.warnings;
    copy.preprocess_seconds = prompt.preprocess_seconds;
    for (const Picture& picture : prompt.pictures) {
      Picture& one = copy.pictures.emplace_back(geometry_of(picture));
      one.patches.resize(picture.patches.size());
      std::copy_n(picture.patches.data(), picture.patches.size(), one.patches.data());
    }
    return copy;
  }

  ThreadPool pool_;
  std::shared_lock<std::shared_mutex> shared_;  // while the engine is opened
  Engine engine_;
};

}  // namespace

void add_engine(nb::module_& module) {
  nb::class_<Cancel>(module, "Cancel").def(nb::init<>()).def("set", [](Cancel& cancel) {
    cancel.flag = true;
  });
  nb::class_<PreparedPrompt>(module, "Prompt")
      .def_prop_ro("ids", [](const PreparedPrompt& p) { return p.prompt.ids; })
      .def_prop_ro("text", [](const PreparedPrompt& p) { return p.prompt.text; })
      .def_prop_ro("warnings", [](const PreparedPrompt& p) { return p.prompt.warnings; })
      .def_prop_ro("positions", [](const PreparedPrompt& p) {
        std::vector<std::vector<int64_t>> axes;
        for (const auto& axis : p.prompt.positions.axis) axes.emplace_back(axis.begin(), axis.end());
        return axes;
      });
  nb::class_<PythonEngine>(module, "Engine")
      .def(nb::init<const std::string&, const std::string&, const std::string&, const std::string&, int>(),
           nb::call_guard<nb::gil_scoped_release>())
      .def("threads", &PythonEngine::threads)
      .def("set_threads", &PythonEngine::set_threads)
      .def("info", &PythonEngine::info)
      .def("prepare", &PythonEngine::prepare)
      .def("generate", &PythonEngine::generate, nb::arg("prompt"), nb::arg("options"),
           nb::arg("on_text").none(), nb::arg("cancel"))
      .def("logits", &PythonEngine::logits)
      .def("encode", &PythonEngine::encode)
      .def("batch", &PythonEngine::batch)
      .def("audit", &PythonEngine::audit, nb::arg("suite"), nb::arg("options"), nb::arg("progress").none(),
           nb::arg("cancel"))
      .def("plan", &PythonEngine::plan);
}

}  // namespace fovea::python
