// fovea chat: a conversation in the terminal. What an earlier turn computed is not computed again.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/answer_form_flags.h"
#include "cli/batch_limits.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/help.h"
#include "cli/interrupt.h"
#include "cli/line_editor.h"
#include "cli/output.h"
#include "cli/ranks.h"
#include "cli/run_summary.h"
#include "cli/sampling_flags.h"
#include "cli/text_file.h"
#include "cli/warnings.h"
#include "runtime/batch_engine.h"

namespace fovea {

namespace {

constexpr const char* kCommands =
    "  /image PATH    show a picture with the next question; several may be named one after the other\n"
    "  /video PATH    likewise a video\n"
    "  /system TEXT   what the model is told first; without TEXT: nothing\n"
    "  /retry         answer the last question again, with other random numbers\n"
    "  /save FILE     write the conversation as JSON, which fovea run --messages reads\n"
    "  /clear         begin again; the system text stays\n"
    "  /stats         what the last answer took\n"
    "  /help          this list\n"
    "  /exit          leave; Ctrl-D does, too. Ctrl-C stops an answer\n";

struct ChatFlags {
  EngineFlags engine;
  SamplingFlags sampling;
  AnswerFormFlags form;
  BatchLimitFlags limits;
  std::optional<std::string> system;
  std::vector<std::string> images, videos;
};

ContentPart picture_part(ContentPart::Type type, const std::string& source) {
  ContentPart part;
  part.type = type;
  part.source = source;
  return part;
}

nlohmann::ordered_json json_of(const std::vector<Message>& messages) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Message& message : messages) {
    nlohmann::ordered_json content = nlohmann::ordered_json::array();
    for (const ContentPart& part : message.content) {
      if (part.type == ContentPart::Type::text) content.push_back({{"type", "text"}, {"text", part.text}});
      if (part.type == ContentPart::Type::image)
        content.push_back({{"type", "image"}, {"image", part.source}});
      if (part.type == ContentPart::Type::video)
        content.push_back({{"type", "video"}, {"video", part.source}});
    }
    list.push_back({{"role", message.role}, {"content", content}});
  }
  return list;
}

class Chat {
 public:
  Chat(const ChatFlags& flags, const Engine& engine)
      : flags_(flags), engine_(engine), options_(engine.default_generation()), batch_(engine, limits()) {
    flags.sampling.apply(options_);
    flags.form.apply(options_, engine);
    if (flags.system) set_system(*flags.system);
    for (const std::string& image : flags.images)
      pictures_.push_back(picture_part(ContentPart::Type::image, image));
    for (const std::string& video : flags.videos)
      pictures_.push_back(picture_part(ContentPart::Type::video, video));
  }

  void run() {
    LineEditor editor;
    if (editor.at_terminal())
      print_note("{}: /help lists what else can be said\n", engine_.checkpoint().dir().filename().string());
    while (true) {
      watch_interrupts();
      const std::optional<std::string> line = editor.read("> ");
      if (!line || *line == "/exit" || *line == "/quit") break;
      watch_interrupts();
      if (line->empty()) continue;
      try {
        line->front() == '/' ? command(*line) : ask(*line);
      } catch (const OutputError&) {
        throw;
      } catch (const Error& error) {
        print_warning("fovea: {}\n", error.what());
      }
    }
    if (editor.at_terminal()) print_note("\n");
  }

 private:
  // One conversation may fill the whole cache.
  BatchLimits limits() const {
    BatchLimits limits = flags_.limits.limits(engine_);
    limits.max_num_seqs = 1;
    return limits;
  }

  void command(const std::string& line) {
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space),
                      rest = space == line.npos ? ""
                                                : line.substr(line.find_first_not_of(' ', space) == line.npos
                                                                  ? line.size()
                                                                  : line.find_first_not_of(' ', space));
    if (name == "/image") return add_picture(ContentPart::Type::image, rest);
    if (name == "/video") return add_picture(ContentPart::Type::video, rest);
    if (name == "/system") return set_system(rest);
    if (name == "/retry") return retry();
    if (name == "/save") return save(rest);
    if (name == "/clear") return clear();
    if (name == "/stats") return stats();
    if (name != "/help") print_warning("fovea: there is no {}\n", name);
    print_warning("{}", kCommands);
  }

  void add_picture(ContentPart::Type type, const std::string& path) {
    if (path.empty())
      throw Error(ErrorKind::invalid_argument, "no file is named", "give its path: /image cat.jpg");
    pictures_.push_back(picture_part(type, path));
  }

  void set_system(const std::string& text) {
    if (!messages_.empty() && messages_.front().role == "system") messages_.erase(messages_.begin());
    if (text.empty()) return;
    ContentPart part;
    part.text = text;
    messages_.insert(messages_.begin(), Message{"system", {part}, {}});
  }

  void clear() {
    const bool system = !messages_.empty() && messages_.front().role == "system";
    messages_.resize(system ? 1 : 0);
    pictures_.clear();
  }

  void save(const std::string& path) {
    if (path.empty())
      throw Error(ErrorKind::invalid_argument, "no file is named", "give its path: /save talk.json");
    write_file(path, json_of(messages_).dump(2) + "\n");
  }

  void retry() {
    if (messages_.empty() || messages_.back().role != "assistant") {
      throw Error(ErrorKind::invalid_argument, "there is no answer yet", "ask something first");
    }
    messages_.pop_back();
    ++options_.sampling.seed;
    answer();
  }

  void ask(const std::string& text) {
    Message question{"user", pictures_, {}};
    ContentPart words;
    words.text = text;
    question.content.push_back(words);
    messages_.push_back(std::move(question));
    try {
      answer();
    } catch (const Error&) {  // as if it had not been asked; its pictures are to be named again
      if (messages_.back().role == "user") messages_.pop_back();
      pictures_.clear();
      throw;
    }
    pictures_.clear();
  }

  void answer() {
    Prompt prompt = engine_.prepare(messages_, flags_.engine.media_limits(), flags_.engine.add_vision_id);
    print_warnings(prompt.warnings);
    const BatchMetrics before = batch_.metrics();
    bool over = false;
    std::exception_ptr failure;
    RequestCallbacks callbacks;
    callbacks.on_text = [](std::string_view piece) {
      write_output(piece);
      flush_output();
    };
    callbacks.on_answer = [&](Answer answer) {
      last_ = std::move(answer);
      over = true;
    };
    callbacks.on_failure = [&](const std::exception_ptr& error) {
      failure = error;
      over = true;
    };
    const RequestId id = batch_.add(std::move(prompt), options_, callbacks);
    while (!over) {
      if (interrupted()) batch_.cancel(id);
      if (!over) batch_.step();
    }
    print_output("\n");
    flush_output();
    if (failure) std::rethrow_exception(failure);
    last_metrics_ = batch_.metrics();
    computed_rows_ = last_metrics_.rows - before.rows;
    pictures_encoded_ = last_metrics_.pictures_encoded - before.pictures_encoded;
    ContentPart words;
    words.text = last_->text;
    messages_.push_back(Message{"assistant", {words}, {}});
    if (last_->finish_reason == "length") print_note("(ended by --max-new-tokens)\n");
  }

  void stats() {
    if (!last_) throw Error(ErrorKind::invalid_argument, "there is no answer yet", "ask something first");
    const Timings& t = last_->timings;
    print_warning("{} tokens of conversation, {} of answer; {} computed, {} pictures encoded\n",
                  t.prompt_tokens, t.generated_tokens, computed_rows_, pictures_encoded_);
    print_warning("first token after {}, then {:.1f} tokens a second\n", seconds_text(t.prefill_s),
                  t.generated_tokens > 1
                      ? static_cast<double>(t.generated_tokens - 1) / std::max(t.decode_s, 1e-9)
                      : 0.);
    print_warning("{} of {} tokens of the KV cache are kept for what comes next\n",
                  last_metrics_.schedule.cached_blocks * kPageTokens, last_metrics_.blocks * kPageTokens);
  }

  const ChatFlags& flags_;
  const Engine& engine_;
  GenerationOptions options_;
  BatchEngine batch_;
  std::vector<Message> messages_;
  std::vector<ContentPart> pictures_;  // for the next question
  std::optional<Answer> last_;
  BatchMetrics last_metrics_;
  int64_t computed_rows_ = 0, pictures_encoded_ = 0;
};

void run(const ChatFlags& flags) {
  watch_interrupts();
  Observer observer;
  const Engine engine = open_for_batches(flags.engine, observer, "a chat", "fovea run");
  ask_of_ranks(engine, [&] { Chat(flags, engine).run(); });
}

}  // namespace

void add_chat_command(CLI::App& app) {
  const auto flags = std::make_shared<ChatFlags>();
  CLI::App* command = app.add_subcommand("chat", "talk about images, videos and text");
  flags->engine.add_engine_to(*command);
  command->add_option("--image", flags->images, "pictures for the first question")
      ->type_name("FILE")
      ->group(kCommonOptions);
  command->add_option("--video", flags->videos, "videos for the first question")
      ->type_name("FILE")
      ->group(kCommonOptions);
  command->add_option("--system,--system-prompt", flags->system, "what the model is told first")
      ->type_name("TEXT")
      ->group(kCommonOptions);
  flags->sampling.add_length_to(*command);
  flags->sampling.add_to(*command);
  flags->form.add_to(*command);
  flags->limits.add_memory_to(*command);
  flags->engine.add_tensor_parallel_to(*command);
  flags->engine.add_device_map_to(*command);
  command->footer(
      std::string("In the conversation:\n") + kCommands +
      "\nExamples:\n"
      "  fovea chat -m Qwen2.5-VL-3B-Instruct --image page.png\n"
      "  printf '/image a.png\\nWhat is this?\\nAnd its colour?\\n' | fovea chat -m DIR --greedy");
  command->callback([flags] { run(*flags); });
}

}  // namespace fovea
