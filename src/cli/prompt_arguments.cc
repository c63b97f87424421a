#include "cli/prompt_arguments.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "cli/help.h"
#include "cli/option_values.h"
#include "cli/text_file.h"

namespace fovea {

namespace {

constexpr const char *kImage = "--image", *kVideo = "--video", *kPrompt = "--prompt",
                     *kArguments = "arguments";

std::string name_of(const CLI::Option& option) {
  return option.get_lnames().empty() ? option.get_name() : "--" + option.get_lnames().front();
}

bool exists(const std::string& path) {
  std::error_code unknown;
  return std::filesystem::exists(path, unknown);
}

bool names_a_file(const std::string& text) {
  for (const char* scheme : {"data:", "file://", "http://", "https://"}) {
    if (text.starts_with(scheme)) return true;
  }
  if (exists(text)) return true;
  if (text.find_first_of(" \t\n") != std::string::npos) return false;
  std::string ending = std::filesystem::path(text).extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  constexpr std::string_view kEndings[] = {".png",  ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif",
                                           ".tiff", ".pdf", ".heic", ".avif", ".mp4", ".mkv", ".webm",
                                           ".mov",  ".avi", ".m4v",  ".mpg",  ".mpeg"};
  return std::find(std::begin(kEndings), std::end(kEndings), ending) != std::end(kEndings);
}

[[noreturn]] void refuse_two_prompts(const std::string& one, const std::string& other) {
  const bool file = exists(one);
  throw Error(ErrorKind::invalid_argument,
              fmt::format("there are two prompts: {} and {}", in_quotes(one), in_quotes(other)),
              file ? "pictures stand behind --image, videos behind --video; the prompt is one argument"
                   : "put the prompt in quotes, so that it is one argument");
}

// What is there to be read: a pipe or a file, and no terminal.
bool input_is_given() {
  struct stat status {};
  return ::fstat(STDIN_FILENO, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISREG(status.st_mode));
}

class Sorter {
 public:
  void take(const std::string& option, const std::string& value) {
    if (option == kPrompt) return take_prompt(value);
    if (option == kImage || option == kVideo) {
      list_ = option == kImage ? &sorted_.images : &sorted_.videos;
      return list_->push_back(value);
    }
    if (list_ != nullptr && names_a_file(value)) return list_->push_back(value);
    if (exists(value)) {
      sorted_.notes.push_back(fmt::format(
          "the prompt is {}, the name of a file; pictures stand behind --image", in_quotes(value)));
    }
    take_prompt(value);
  }
  PromptArguments finish(const std::function<std::string(bool asked)>& input) {
    if (given_ && *given_ != "-") {
      sorted_.prompt = *given_;
    } else {
      sorted_.prompt = input(given_.has_value());
      if (sorted_.prompt.ends_with('\n')) sorted_.prompt.pop_back();
    }
    return std::move(sorted_);
  }

 private:
  void take_prompt(const std::string& value) {
    if (given_) refuse_two_prompts(*given_, value);
    given_ = value;
  }

  PromptArguments sorted_;
  std::vector<std::string>* list_ = nullptr;
  std::optional<std::string> given_;
};

}  // namespace

void add_prompt_options(CLI::App& command) {
  const auto add = [&](const char* name, const std::string& words, const char* type) {
    return command.add_option(name, CLI::callback_t(), words)->type_name(type)->group(kCommonOptions);
  };
  constexpr int kAny = CLI::detail::expected_max_vector_size;
  add(kImage, "image file or URL (file:, data:); several follow each other or repeat the option", "FILE")
      ->expected(1, kAny)
      ->allow_extra_args(false);
  add(kVideo, "video file; several as with --image", "FILE")->expected(1, kAny)->allow_extra_args(false);
  add("-p,--prompt", "the question, also without -p; - reads it from standard input", "TEXT");
  add(kArguments, "the question; <image> and <video> place the items given by options", "PROMPT")
      ->expected(0, kAny)
      ->allow_extra_args();
}

bool is_prompt_option(const CLI::Option* option) {
  const std::string name = name_of(*option);
  return name == kImage || name == kVideo || name == kPrompt || name == kArguments;
}

std::string prompt_of_input(bool asked) {
  return asked || input_is_given() ? read_text_file("-") : std::string();
}

PromptArguments prompt_arguments(const CLI::App& command,
                                 const std::function<std::string(bool asked)>& input) {
  Sorter sorter;
  std::map<const CLI::Option*, size_t> taken;
  for (const CLI::Option* option : command.parse_order()) {
    if (!is_prompt_option(option)) continue;
    const std::vector<std::string>& values = option->results();
    const size_t at = taken[option]++;
    if (at < values.size()) sorter.take(name_of(*option), values[at]);
  }
  return sorter.finish(input);
}

}  // namespace fovea
