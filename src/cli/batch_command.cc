// fovea batch: the lines of a file answered side by side.
#include <chrono>
#include <limits>
#include <list>

#include "api/batch_input.h"
#include "api/batch_output.h"
#include "api/chat_response.h"
#include "api/generation.h"
#include "base/error.h"
#include "cli/batch_limits.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/help.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "cli/ranks.h"
#include "runtime/batch_engine.h"
#include "runtime/constraint.h"
#include "runtime/logprobs.h"

namespace fovea {

namespace {

struct BatchFlags {
  EngineFlags engine;
  BatchLimitFlags limits;
  std::string input, output;
};

// A line whose answers are computed: `n` of them.
struct LineUnderWay {
  BatchLine line;
  ResponseHead head;
  std::vector<ChatChoice> choices;
  std::vector<RequestId> requests;
  ChatUsage usage;
  int64_t unanswered = 0;
  std::exception_ptr failure;
};

class BatchRun {
 public:
  BatchRun(const BatchFlags& flags, const Engine& engine)
      : flags_(flags),
        engine_(engine),
        rules_{.identity = engine.identity()},
        survey_(survey_batch(flags.input, rules_)),
        input_(flags.input, rules_),
        output_(flags.output, survey_.ids),
        limits_(limits(flags, engine)),
        batch_(engine, limits_),
        grammars_(engine.tokenizer()),
        done_(std::ssize(output_.completed())) {}

  // Until all lines are answered, or Ctrl-C.
  void run() {
    if (done_ > 0) print_note("{} of {} lines were answered before\n", done_, survey_.lines);
    const ProgressFn progress = bar_.callback();
    bool more = true;
    while (!interrupted()) {
      while (more && has_room()) more = take_line();
      const bool worked = batch_.step();
      write_finished();
      if (progress) progress("batch", done_, survey_.lines);
      if (!worked && !more && under_way_.empty()) break;
    }
    bar_.clear();
  }

  void summarise(double seconds) const {
    const BatchMetrics metrics = batch_.metrics();
    print_note("{} of {} lines, {} failed; {} tokens in, {} out, {:.1f} s: {:.1f} tokens out a second\n",
               done_, survey_.lines, failed_, prompt_tokens_, completion_tokens_, seconds,
               static_cast<double>(completion_tokens_) / std::max(seconds, 1e-9));
    print_detail(
        "{} steps of {:.1f} rows; pictures encoded {}, known {}; blocks found {}, copied {}, evicted {}; {} "
        "preempted\n",
        metrics.steps,
        static_cast<double>(metrics.rows) / std::max<double>(1, static_cast<double>(metrics.steps)),
        metrics.pictures_encoded, metrics.picture_hits, metrics.schedule.blocks.hits,
        metrics.schedule.blocks.copies, metrics.schedule.blocks.evictions, metrics.schedule.preemptions);
    if (failed_ > 0) print_warning("fovea: warning: {} lines failed; the output says why\n", failed_);
  }

 private:
  // Nobody reads along: steps may be as long as is best for all of them.
  static BatchLimits limits(const BatchFlags& flags, const Engine& engine) {
    BatchLimits limits = flags.limits.limits(engine);
    limits.step_seconds = std::numeric_limits<double>::infinity();
    return limits;
  }

  // Lines are read ahead, so that none that runs waits for one that is read, but not their pictures without
  // end.
  bool has_room() const {
    return std::ssize(under_way_) < 2 * limits_.max_num_seqs &&
           batch_.metrics().pixel_bytes < engine_.options().vision_budget_bytes;
  }

  // False at the end of the file.
  bool take_line() {
    std::optional<BatchLine> line = input_.next();
    if (!line) return false;
    if (output_.completed().contains(line->custom_id)) return true;
    if (line->refusal) {
      write(batch_failure(*line, *line->refusal));
      ++failed_;
      return true;
    }
    start(std::move(*line));
    return true;
  }

  void start(BatchLine line) {
    LineUnderWay& under_way = under_way_.emplace_back();
    under_way.line = std::move(line);
    const ChatRequest& request = *under_way.line.request;
    under_way.head = {"chatcmpl-" + under_way.line.id, now(),
                      request.model.empty() ? engine_.checkpoint().dir().filename().string() : request.model};
    under_way.choices.resize(static_cast<size_t>(request.n));
    try {
      for (size_t i = 0; i < under_way.choices.size(); ++i) add_choice(under_way, i);
    } catch (const Error&) {
      fail(under_way, std::current_exception());
    }
  }

  void add_choice(LineUnderWay& line, size_t choice) {
    const ChatRequest& request = *line.line.request;
    Prompt prompt = engine_.prepare(request.messages, flags_.engine.media_limits(), false);
    line.usage.prompt_tokens = std::ssize(prompt.ids);
    GenerationOptions options =
        generation_options(request, engine_.default_generation(), static_cast<int64_t>(choice));
    constrain(options, grammar_of(request.form, grammars_));
    ++line.unanswered;
    try {
      line.requests.push_back(batch_.add(std::move(prompt), options, callbacks(line, choice)));
    } catch (const Error&) {
      --line.unanswered;
      throw;
    }
  }

  RequestCallbacks callbacks(LineUnderWay& line, size_t choice) {
    RequestCallbacks callbacks;
    if (line.line.request->logprobs) {
      line.choices[choice].logprobs.emplace();
      callbacks.on_token = [this, &line, choice](int32_t id, std::span<const float> logits) {
        const Logprobs logprobs = logprobs_of(logits, id, line.line.request->top_logprobs);
        ChoiceToken token{named(logprobs.chosen), {}};
        for (const TokenLogprob& other : logprobs.top) token.top.push_back(named(other));
        line.choices[choice].logprobs->push_back(std::move(token));
      };
    }
    if (choice == 0) callbacks.on_start = [&line](int64_t cached) { line.usage.cached_tokens = cached; };
    callbacks.on_answer = [&line, choice](Answer answer) {
      line.choices[choice].content = std::move(answer.text);
      line.choices[choice].finish_reason = answer.finish_reason;
      if (!line.line.request->tools.empty()) {
        take_tool_calls(line.head, static_cast<int64_t>(choice), line.choices[choice]);
      }
      line.usage.completion_tokens += answer.timings.generated_tokens;
      --line.unanswered;
    };
    callbacks.on_failure = [this, &line](const std::exception_ptr& failure) {
      --line.unanswered;
      fail(line, failure);
    };
    return callbacks;
  }

  TokenProbability named(const TokenLogprob& token) const {
    return {std::string(engine_.tokenizer().token_bytes(token.id)), token.logprob};
  }

  void fail(LineUnderWay& line, const std::exception_ptr& failure) {
    if (!line.failure) line.failure = failure;
  }

  void write_finished() {
    for (auto line = under_way_.begin(); line != under_way_.end();) {
      if (line->failure) {  // its other answers are of no use
        for (const RequestId id : line->requests) batch_.cancel(id);
      }
      if (line->unanswered > 0) {
        ++line;
        continue;
      }
      finish(*line);
      line = under_way_.erase(line);
    }
  }

  void finish(const LineUnderWay& line) {
    if (!line.failure) {
      prompt_tokens_ += line.usage.prompt_tokens;
      completion_tokens_ += line.usage.completion_tokens;
      return write(batch_answer(line.line, chat_completion(line.head, line.choices, line.usage)));
    }
    ++failed_;
    try {
      std::rethrow_exception(line.failure);
    } catch (const Error& error) {
      write(batch_failure(line.line, error));
    }
  }

  void write(const nlohmann::ordered_json& line) {
    output_.append(line);
    ++done_;
  }

  static int64_t now() {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }

  const BatchFlags& flags_;
  const Engine& engine_;
  BatchRules rules_;
  BatchSurvey survey_;
  BatchInput input_;
  BatchOutput output_;
  BatchLimits limits_;
  std::list<LineUnderWay> under_way_;  // callbacks point into it; it outlives the engine of the batch
  BatchEngine batch_;
  GrammarCompiler grammars_;
  ProgressBar bar_;
  int64_t done_ = 0, failed_ = 0, prompt_tokens_ = 0, completion_tokens_ = 0;
};

void run(const BatchFlags& flags) {
  stop_on_interrupt();
  Observer observer;
  observer.cancel = &interrupted();
  const Engine engine = open_for_batches(flags.engine, observer, "a batch", "fovea eval with --ram");
  const auto start = std::chrono::steady_clock::now();
  ask_of_ranks(engine, [&] {
    BatchRun batch(flags, engine);
    batch.run();
    batch.summarise(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  });
  if (engine.device_map() != nullptr) {
    const nlohmann::ordered_json parts = gather_parts(*engine.device_map());
    if (first_rank()) print_parts(parts);
  }
  if (!interrupted() || !first_rank()) return;
  print_note("stopped; the same command goes on where this one ended\n");
  throw ExitWith{kInterrupted};
}

}  // namespace

void add_batch_command(CLI::App& app) {
  const auto flags = std::make_shared<BatchFlags>();
  CLI::App* command = app.add_subcommand("batch", "answer the lines of a file, many at once");
  flags->engine.add_engine_to(*command);
  command
      ->add_option("-i,--input,--input-file", flags->input,
                   "JSON lines: OpenAI batch requests (custom_id, method, url, body), or records of a suite")
      ->required()
      ->type_name("FILE")
      ->group(kCommonOptions);
  command
      ->add_option(
          "-o,--output,--output-file", flags->output,
          "a line for each, as they finish; what it has already is kept, so that a stopped run goes on")
      ->required()
      ->type_name("FILE")
      ->group(kCommonOptions);
  flags->limits.add_to(*command);
  flags->engine.add_tensor_parallel_to(*command);
  flags->engine.add_device_map_to(*command);
  command->footer(
      "Every answer is the one that the request gets alone, bit for bit. Equal beginnings and equal pictures "
      "of "
      "requests are computed once.\n\n"
      "Examples:\n"
      "  fovea batch -m Qwen2.5-VL-3B-Instruct --input requests.jsonl --output answers.jsonl\n"
      "  fovea batch -m DIR -i suite/suite.jsonl -o answers.jsonl --max-num-seqs 32");
  command->callback([flags] { run(*flags); });
}

}  // namespace fovea
