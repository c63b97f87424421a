// Asks a model about a picture, word by word, and several questions at once.
//   answer MODEL [PICTURE]
#include <fovea/engine.h>

#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

namespace {

std::string bytes_of(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

fovea::Request question(const std::string& words, const std::string& picture) {
  fovea::Message message{"user", {}};
  if (!picture.empty()) message.content.push_back(fovea::Part::of_image(picture));
  message.content.push_back(fovea::Part::of_text(words));
  fovea::Request request;
  request.messages = {message};
  request.temperature = 0;
  request.max_tokens = 32;
  return request;
}

void ask(const char* model, const std::string& picture) {
  fovea::Engine engine(model);
  std::cout << "fovea " << fovea::version() << ", " << engine.info().dtype << " on " << engine.info().threads
            << " threads\n";

  // One question; its answer comes in pieces.
  fovea::Events events;
  events.on_text = [](std::string_view piece) { std::cout << piece << std::flush; };
  const fovea::Answer answer = engine.generate(question("What is in the picture?", picture), events);
  std::cout << "  (" << answer.token_ids.size() << " tokens, " << answer.finish_reason << ")\n";

  // Several at once: they share the picture and the steps of the model, and each gets the answer that it
  // would get alone.
  const std::vector<std::string> questions = {"What is in the picture?", "Which colour is it?",
                                              "Describe it."};
  std::vector<std::string> answers(questions.size());
  for (size_t i = 0; i < questions.size(); ++i) {
    fovea::Events each;
    each.on_answer = [&answers, i](const fovea::Answer& done) { answers[i] = done.text; };
    each.on_error = [&answers, i](const fovea::Error& error) { answers[i] = error.message(); };
    engine.submit(question(questions[i], picture), each);
  }
  engine.run();
  for (size_t i = 0; i < questions.size(); ++i) std::cout << questions[i] << " " << answers[i] << '\n';
  if (answers[0] != answer.text) throw std::runtime_error("an answer depends on its company");
}

}  // namespace

int main(int count, char** words) {
  if (count < 2 || count > 3) {
    std::cerr << "usage: answer MODEL [PICTURE]\n";
    return 2;
  }
  try {
    ask(words[1], count == 3 ? bytes_of(words[2]) : "");
  } catch (const fovea::Error& error) {
    std::cerr << name_of(error.code()) << ": " << error.what() << '\n';
    return 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 0;
}
