#include "cli/help.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace fovea {

namespace {

constexpr size_t kIndent = 2;

// Appends the words of `text` from column `at` on, further lines indented by `indent`.
void append_wrapped(std::string& out, std::string_view text, size_t at, size_t indent, size_t width) {
  bool first = true;
  while (!text.empty()) {
    const size_t length = std::min(text.find_first_of(" \n"), text.size());
    const std::string_view word = text.substr(0, length);
    if (!first && at + 1 + word.size() > width) {
      out += "\n" + std::string(indent, ' ');
      at = indent;
    } else if (!first) {
      out += ' ';
      ++at;
    }
    out += word;
    at += word.size();
    first = false;
    text.remove_prefix(length);
    if (!text.empty()) text.remove_prefix(1);
  }
  out += '\n';
}

// Lines that begin with spaces (examples, tables) stay as they are; others are paragraphs.
std::string wrapped_paragraphs(std::string_view text, size_t width) {
  std::string out, paragraph;
  const auto end_paragraph = [&] {
    if (!paragraph.empty()) append_wrapped(out, paragraph, 0, 0, width);
    paragraph.clear();
  };
  while (!text.empty()) {
    const size_t length = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, length);
    text.remove_prefix(std::min(length + 1, text.size()));
    if (line.empty() || line.front() == ' ') {
      end_paragraph();
      out += std::string(line) + "\n";
    } else {
      paragraph += (paragraph.empty() ? "" : " ") + std::string(line);
    }
  }
  end_paragraph();
  return out;
}

bool is_positional(const CLI::Option& option) {
  return option.get_lnames().empty() && option.get_snames().empty();
}

// "-n, --max-new-tokens N"; further names are for those who know them.
std::string names_of(const CLI::Option& option) {
  const std::string type = option.get_items_expected_max() > 0 ? option.get_type_name() : "";
  if (is_positional(option)) return type;
  std::string text = option.get_snames().empty() ? "" : "-" + option.get_snames().front();
  if (!option.get_lnames().empty()) text += (text.empty() ? "--" : ", --") + option.get_lnames().front();
  return type.empty() ? text : text + " " + type;
}

std::string words_of(const CLI::Option& option) {
  std::string words = option.get_description();
  if (const std::string value = option.get_default_str(); !value.empty())
    words += fmt::format(" (default: {})", value);
  if (!option.get_envname().empty()) words += fmt::format(" (default: ${})", option.get_envname());
  std::string others;
  for (size_t i = 1; i < option.get_lnames().size(); ++i)
    others += (others.empty() ? "--" : ", --") + option.get_lnames()[i];
  return others.empty() ? words : words + fmt::format(" (also {})", others);
}

void append_entry(std::string& out, const std::string& name, const std::string& words, size_t width) {
  const size_t column = width < 70 ? 8 : 30;  // where the words begin
  out += std::string(kIndent, ' ') + name;
  const bool beside = kIndent + name.size() + 2 <= column;
  out += beside ? std::string(column - kIndent - name.size(), ' ') : "\n" + std::string(column, ' ');
  append_wrapped(out, words, column, column, width);
}

std::string usage_of(const CLI::App& app, const std::string& name) {
  std::string usage = "Usage: " + name;
  if (!app.get_subcommands([](const CLI::App*) { return true; }).empty()) return usage + " COMMAND ...\n";
  usage += " [options]";
  for (const CLI::Option* option : app.get_options()) {
    if (is_positional(*option)) usage += " [" + option->get_type_name() + "]";
    if (!is_positional(*option) && option->get_required()) usage += " " + names_of(*option);
  }
  return usage + "\n";
}

}  // namespace

std::string Help::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode) const {
  const auto width = static_cast<size_t>(width_);
  const std::string command = name.empty() ? app->get_name() : name;
  std::string out = wrapped_paragraphs(app->get_description(), width) + "\n" + usage_of(*app, command);
  const auto commands = app->get_subcommands([](const CLI::App*) { return true; });
  if (!commands.empty()) out += "\nCommands\n";
  for (const CLI::App* each : commands) append_entry(out, each->get_name(), each->get_description(), width);
  for (const std::string& group : app->get_groups()) {
    const auto options = app->get_options([&](const CLI::Option* o) { return o->get_group() == group; });
    if (group.empty() || options.empty()) continue;
    out += "\n" + group + "\n";
    for (const CLI::Option* option : options) append_entry(out, names_of(*option), words_of(*option), width);
  }
  const std::string footer = app->get_footer();
  return footer.empty() ? out : out + "\n" + wrapped_paragraphs(footer, width);
}

int help_width() {
  constexpr int kUnknown = 80, kLeast = 40, kMost = 120;
  int columns = 0;
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) columns = size.ws_col;
  if (const char* given = std::getenv("COLUMNS"); columns == 0 && given != nullptr) {
    const std::string_view text = given;
    std::from_chars(text.data(), text.data() + text.size(), columns);
  }
  return columns <= 0 ? kUnknown : std::clamp(columns, kLeast, kMost);
}

}  // namespace fovea
