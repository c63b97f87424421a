// Engine, prompts and batches. Options and answers cross as JSON, arrays as numpy's; every long call releases the GIL.
#include <nanobind/ndarray.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "audit/audit.h"
#include "base/error.h"
#include "base/parallel.h"
#include "binding/bindings.h"
#include "checkpoint/model_folder.h"
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

// What Python handed over is an object of ours; a value of another type is a mistake of the caller, with its name.
template <typename T>
std::optional<T> field(const json& options, const char* name) {
  const auto found = options.find(name);
  if (found == options.end() || found->is_null()) return std::nullopt;
  try {
    return found->get<T>();
  } catch (const json::exception&) {
    throw Error(ErrorKind::invalid_argument, fmt::format("{} = {} is of the wrong type", name, found->dump()), "see help(fovea.Engine)");
  }
}

std::optional<PrecisionPolicy> policy_of(const json& options) {
  const auto preset = field<std::string>(options, "preset"), precision = field<std::string>(options, "precision"),
             stored = field<std::string>(options, "kv_cache_dtype");
  if (!preset && !precision && (!stored || *stored == "auto")) return std::nullopt;
  PrecisionPolicy policy = precision ? PrecisionPolicy::parse_text(*precision) : PrecisionPolicy();
  if (preset) policy.set_preset(*preset);
  if (stored && *stored != "auto") set_kv_cache(policy, *stored);
  if (policy.preset() && (options.contains("attn_implementation") || options.contains("vision_attn_implementation"))) {
    throw Error(ErrorKind::invalid_argument, fmt::format("attn_implementation contradicts preset {}, which fixes both attentions", *policy.preset()),
                "leave it out, or change the preset by precision=\"text.attention=...\"");
  }
  return policy;
}

EngineOptions engine_options(const json& options) {
  EngineOptions result;
  if (const auto name = field<std::string>(options, "attn_implementation")) result.attention = parse_attention(*name);
  result.vision_attention = result.attention;
  if (const auto name = field<std::string>(options, "vision_attn_implementation")) result.vision_attention = parse_attention(*name);
  if (const auto name = field<std::string>(options, "dtype")) result.dtype = parse_dtype(*name);
  if (const auto name = field<std::string>(options, "guard")) result.guard.mode = parse_guard(*name);
  result.policy = policy_of(options);
  result.chat_template = field<std::string>(options, "chat_template").value_or("");
  return result;
}

MediaLimits media_limits(const json& options) {
  MediaLimits limits;
  limits.min_pixels = field<int64_t>(options, "min_pixels");
  limits.max_pixels = field<int64_t>(options, "max_pixels");
  limits.max_image_tokens = field<int64_t>(options, "max_image_tokens");
  limits.max_total_image_tokens = field<int64_t>(options, "max_total_image_tokens");
  limits.fps = field<double>(options, "fps");
  return limits;
}

// The rules of `fovea run`: a temperature, top_p or top_k samples, a temperature of 0 is greedy.
GenerationOptions generation_options(const json& given, GenerationOptions options) {
  SamplingOptions& sampling = options.sampling;
  const auto temperature = field<double>(given, "temperature"), top_p = field<double>(given, "top_p");
  const auto top_k = field<int64_t>(given, "top_k");
  const auto do_sample = field<bool>(given, "do_sample");
  if (temperature || top_p || top_k || do_sample == true) sampling.greedy = false;
  if (do_sample == false || temperature == 0.0) options.choose_greedy();
  if (temperature) sampling.temperature = *temperature;
  if (top_p) sampling.top_p = *top_p;
  if (top_k) sampling.top_k = *top_k;
  sampling.seed = field<uint64_t>(given, "seed").value_or(sampling.seed);
  sampling.repetition_penalty = field<double>(given, "repetition_penalty").value_or(sampling.repetition_penalty);
  sampling.no_repeat_ngram_size = field<int64_t>(given, "no_repeat_ngram_size").value_or(sampling.no_repeat_ngram_size);
  options.max_new_tokens = field<int64_t>(given, "max_new_tokens").value_or(options.max_new_tokens);
  options.stop = field<std::vector<std::string>>(given, "stop").value_or(options.stop);
  options.ignore_eos = field<bool>(given, "ignore_eos").value_or(false);
  options.prefill_chunk = field<int64_t>(given, "prefill_chunk").value_or(options.prefill_chunk);
  if (const auto tokens = field<int64_t>(given, "prompt_lookup_num_tokens")) options.prompt_lookup_num_tokens = *tokens;
  return options;
}

ordered_json answer_json(const Answer& answer, const Prompt& prompt) {
  const Timings& t = answer.timings;
  return {{"text", answer.text},
          {"token_ids", answer.token_ids},
          {"finish_reason", answer.finish_reason},
          {"prompt_tokens", prompt.ids.size()},
          {"warnings", prompt.warnings},
          {"timings", {{"preprocess_s", prompt.preprocess_seconds}, {"vision_s", t.vision_s}, {"prefill_s", t.prefill_s}, {"decode_s", t.decode_s}}}};
}

std::string text_of(const ordered_json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

Matrix matrix_of(Buffer<float>&& values, int64_t columns) {
  auto* kept = new Buffer<float>(std::move(values));
  const nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<Buffer<float>*>(p); });
  return Matrix(kept->data(), {static_cast<size_t>(columns > 0 ? kept->size() / columns : 0), static_cast<size_t>(columns)}, owner);
}

// What Python holds of a prepared conversation; shared, never copied.
struct PreparedPrompt {
  Prompt prompt;
  explicit PreparedPrompt(Prompt&& prepared) : prompt(std::move(prepared)) {}
  PreparedPrompt(const PreparedPrompt&) = delete;
  PreparedPrompt& operator=(const PreparedPrompt&) = delete;
};

class PythonEngine {
 public:
  PythonEngine(const std::string& model, const std::string& hub_cache, const std::string& options)
      : engine_(Engine::open(find_model(model, hub_cache), engine_options(json::parse(options)), {})) {}

  std::string info() const {
    const ModelConfig& config = engine_.checkpoint().config();
    return text_of({{"dir", engine_.checkpoint().dir().string()},
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
    return std::make_shared<PreparedPrompt>(engine_.prepare(parse_messages(messages), media_limits(json::parse(limits)), false));
  }

  // on_text: called with the GIL, on this thread; an exception in it ends the request.
  std::string generate(const PreparedPrompt& prompt, const std::string& options, const nb::object& on_text, const Cancel& cancel) const {
    nb::gil_scoped_release released;
    const GenerationOptions generation = generation_options(json::parse(options), engine_.default_generation());
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
  std::string batch(const std::vector<std::shared_ptr<PreparedPrompt>>& prompts, const std::vector<std::string>& options, int64_t kv_cache_bytes,
                    int64_t max_num_seqs, const Cancel& cancel) const {
    nb::gil_scoped_release released;
    FOVEA_CHECK(prompts.size() == options.size());
    BatchLimits limits;
    limits.max_num_seqs = max_num_seqs;
    limits.max_queue = static_cast<int64_t>(prompts.size()) + 1;
    limits.kv_cache_bytes = kv_cache_bytes;
    BatchEngine batch(engine_, limits);
    ordered_json answers = ordered_json::array();
    for (size_t i = 0; i < prompts.size(); ++i) answers.push_back(nullptr);
    const auto failed = [&](size_t i, const Error& error) {
      answers[i] = {{"error", {{"kind", name_of(error.kind())}, {"message", error.message()}, {"remedy", error.remedy()}}}};
    };
    std::vector<RequestId> ids;
    for (size_t i = 0; i < prompts.size(); ++i) {
      RequestCallbacks callbacks;
      callbacks.on_answer = [&, i](const Answer& answer) { answers[i] = answer_json(answer, prompts[i]->prompt); };
      callbacks.on_failure = [&, i](const std::exception_ptr& failure) {
        try {
          std::rethrow_exception(failure);
        } catch (const Error& error) {
          failed(i, error);
        }
      };
      try {
        ids.push_back(batch.add(copy_of(prompts[i]->prompt), generation_options(json::parse(options[i]), engine_.default_generation()), callbacks));
      } catch (const Error& error) {
        failed(i, error);
      }
    }
    while (!cancel.flag.load() && batch.step()) {
    }
    if (cancel.flag.load()) {
      for (const RequestId id : ids) batch.cancel(id);
    }
    return text_of(answers);
  }

  int64_t kv_bytes_of_tokens(int64_t tokens) const { return (tokens + kPageTokens - 1) / kPageTokens * BatchEngine::block_bytes(engine_); }

  std::string audit(const std::string& suite_path, const std::string& given, const nb::object& progress, const Cancel& cancel) const {
    nb::gil_scoped_release released;
    const json options = json::parse(given);
    AuditOptions audit;
    audit.compare = parse_configurations(field<std::string>(options, "compare").value_or("eager-bf16,sdpa,flash-bf16,eager-qkv-fp32"));
    audit.reference = parse_configuration(field<std::string>(options, "reference").value_or("fp32"));
    audit.limit = field<int64_t>(options, "limit").value_or(0);
    audit.attribute = field<bool>(options, "attribute").value_or(true);
    audit.search = field<bool>(options, "search").value_or(false);
    audit.target = field<double>(options, "target").value_or(audit.target);
    audit.evaluation.drift = field<bool>(options, "drift").value_or(true);
    audit.evaluation.max_new_tokens = field<int64_t>(options, "max_new_tokens").value_or(audit.evaluation.max_new_tokens);
    audit.media = media_limits(options);
    AuditFollower follower;
    follower.cancel = &cancel.flag;
    if (!progress.is_none()) {
      follower.progress = [&](std::string_view stage, int64_t done, int64_t total) {
        nb::gil_scoped_acquire held;
        progress(nb::str(stage.data(), stage.size()), done, total);
      };
    }
    return text_of(run_audit(engine_, read_suite(suite_path), audit, follower).json);
  }

  std::string plan(const PreparedPrompt& prompt, int64_t answer_tokens) const {
    nb::gil_scoped_release released;
    PlanRequest request;
    request.text_tokens = static_cast<int64_t>(prompt.prompt.ids.size());
    request.answer_tokens = answer_tokens;
    request.vision_budget_bytes = engine_.options().vision_budget_bytes;
    for (const Picture& picture : prompt.prompt.pictures) {
      const MediaOptions options = media_options(engine_.checkpoint().preprocessor(), {}, {});
      request.text_tokens -= picture.tokens(options.merge_size);
      Picture measured = picture_without_patches(picture);
      request.pictures.push_back({std::move(measured), options});
    }
    const Plan plan = make_plan(engine_.checkpoint(), engine_.precision(), request);
    ordered_json parts;
    for (const PlanPart& part : parts_of(plan)) parts[part.name] = {{"bytes", part.bytes}, {"when", part.phase}};
    return text_of({{"peak_bytes", plan.peak()}, {"peak_phase", plan.peak_phase()}, {"context", plan.context}, {"prompt_tokens", plan.prompt_tokens},
                    {"image_tokens", plan.image_tokens}, {"parts", parts}});
  }

 private:
  static Picture picture_without_patches(const Picture& picture) {
    Picture measured;
    measured.source = picture.source;
    measured.is_video = picture.is_video;
    measured.listed = picture.listed;
    measured.original_height = picture.original_height;
    measured.original_width = picture.original_width;
    measured.interim = picture.interim;
    measured.resized_height = picture.resized_height;
    measured.resized_width = picture.resized_width;
    measured.grid = picture.grid;
    measured.frames = picture.frames;
    measured.second_per_grid = picture.second_per_grid;
    measured.tokens_wanted = picture.tokens_wanted;
    return measured;
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
      Picture& one = copy.pictures.emplace_back(picture_without_patches(picture));
      one.patches.resize(picture.patches.size());
      std::copy_n(picture.patches.data(), picture.patches.size(), one.patches.data());
    }
    return copy;
  }

  Engine engine_;
};

}  // namespace

void add_engine(nb::module_& module) {
  nb::class_<Cancel>(module, "Cancel").def(nb::init<>()).def("set", [](Cancel& cancel) { cancel.flag = true; });
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
      .def(nb::init<const std::string&, const std::string&, const std::string&>(), nb::call_guard<nb::gil_scoped_release>())
      .def("info", &PythonEngine::info)
      .def("prepare", &PythonEngine::prepare)
      .def("generate", &PythonEngine::generate, nb::arg("prompt"), nb::arg("options"), nb::arg("on_text").none(), nb::arg("cancel"))
      .def("logits", &PythonEngine::logits)
      .def("encode", &PythonEngine::encode)
      .def("batch", &PythonEngine::batch)
      .def("kv_bytes_of_tokens", &PythonEngine::kv_bytes_of_tokens)
      .def("audit", &PythonEngine::audit, nb::arg("suite"), nb::arg("options"), nb::arg("progress").none(), nb::arg("cancel"))
      .def("plan", &PythonEngine::plan);
}

}  // namespace fovea::python
