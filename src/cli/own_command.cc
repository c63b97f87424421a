#include "cli/own_command.h"

#include "comm/world.h"

namespace fovea {

namespace {

std::vector<std::string>& kept() {
  static std::vector<std::string> words;
  return words;
}

bool names_model(const std::string& word) {
  return word == "--model" || word.starts_with("--model=") || (word.starts_with("-m") && word[1] != '-');
}

}  // namespace

void keep_command(int argc, char** argv) { kept().assign(argv, argv + argc); }

std::vector<std::string> command_to_repeat(const std::string& model) {
  if (launch().size > 1) return {};
  std::vector<std::string> words;
  bool has_model = false;
  for (size_t i = 0; i < kept().size(); ++i) {
    const std::string& word = kept()[i];
    if (word.starts_with("--resume=")) continue;
    if (word == "--resume") {
      ++i;
      continue;
    }
    has_model |= names_model(word);
    words.push_back(word);
  }
  if (!has_model) words.insert(words.end(), {"-m", model});
  return words;
}

}  // namespace fovea
