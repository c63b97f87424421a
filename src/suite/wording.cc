#include "suite/wording.h"

#include <fmt/format.h>

#include <array>
#include <cctype>

namespace fovea {
namespace {

constexpr std::array<std::string_view, kNameCount> kNames{
    "Ada",   "Alma",  "Amir",  "Anna", "Arlo",  "Bela",  "Boris", "Carl",  "Clara", "Dana",  "David",
    "Dora",  "Edgar", "Ella",  "Emil", "Erik",  "Eva",   "Felix", "Fiona", "Frida", "Georg", "Greta",
    "Hanna", "Hugo",  "Ida",   "Igor", "Ilse",  "Iris",  "Ivan",  "Jana",  "Jonas", "Julia", "Karin",
    "Klara", "Lars",  "Lena",  "Leo",  "Lina",  "Lotte", "Lucas", "Mara",  "Marco", "Maria", "Max",
    "Mila",  "Nadia", "Nils",  "Nina", "Nora",  "Olga",  "Omar",  "Oscar", "Otto",  "Paula", "Peter",
    "Petra", "Rosa",  "Ruben", "Sara", "Simon", "Sofia", "Tara",  "Tom",   "Vera"};
constexpr std::array<std::string_view, 24> kAdjectives{
    "old",    "quiet",  "small", "tall",  "warm",    "cold",  "bright", "dark",
    "narrow", "wide",   "heavy", "light", "early",   "late",  "soft",   "rough",
    "empty",  "broken", "clean", "plain", "distant", "young", "slow",   "gentle"};
constexpr std::array<std::string_view, 40> kNouns{
    "boat",   "harbour", "garden", "bridge", "tower",   "river", "mountain", "window",  "letter",  "station",
    "market", "field",   "forest", "road",   "kitchen", "clock", "school",   "library", "train",   "lamp",
    "door",   "table",   "island", "farmer", "teacher", "baker", "painter",  "sailor",  "captain", "doctor",
    "horse",  "bird",    "dog",    "cat",    "stone",   "cloud", "storm",    "song",    "story",   "village"};
constexpr std::array<std::string_view, 20> kVerbs{
    "waits",  "stands", "rests", "sleeps", "moves", "turns", "works",   "sings", "falls", "grows",
    "shines", "walks",  "stays", "begins", "ends",  "looks", "listens", "leans", "hides", "passes"};
constexpr std::array<std::string_view, 8> kPlaces{"near",  "behind", "under",  "beside",
                                                  "above", "beyond", "before", "inside"};

template <size_t N>
std::string_view pick(const std::array<std::string_view, N>& words, SuiteRandom& random) {
  return words[static_cast<size_t>(random.below(N))];
}

// Half the time the name has an adjective of its own.
std::string thing(SuiteRandom& random) {
  const bool described = random.below(2) == 0;
  const std::string_view adjective = pick(kAdjectives, random), noun = pick(kNouns, random);
  return described ? fmt::format("the {} {}", adjective, noun) : fmt::format("the {}", noun);
}

}  // namespace

std::string fact_sentence(const Fact& fact) {
  return fmt::format("The code of {} is {}.", kNames[fact.name], fact.code);
}

std::string fact_question(const Fact& fact) {
  return fmt::format("What is the code of {}?", kNames[fact.name]);
}

std::string filler_sentence(SuiteRandom& random) {
  std::string sentence = thing(random);
  sentence[0] = 'T';
  sentence += fmt::format(" {}", pick(kVerbs, random));
  if (random.below(4) != 0) sentence += fmt::format(" {} {}", pick(kPlaces, random), thing(random));
  if (random.below(4) == 0) sentence += fmt::format(" and {} {}", thing(random), pick(kVerbs, random));
  return sentence + ".";
}

Question card_question(const Card& card, size_t place, SuiteRandom& random) {
  const std::string number = std::to_string(card.number);
  switch (random.below(8)) {
    case 0:
      return {fmt::format("What colour is picture {}?", place), std::string(kColours[card.colour])};
    case 1:
      return {fmt::format("What shape is in picture {}?", place), std::string(kShapes[card.shape])};
    case 2:
    case 3:
    case 4:
      return {fmt::format("What number is in picture {}?", place), number};
    default:
      return {fmt::format("What number is on the {} {}?", kColours[card.colour], kShapes[card.shape]),
              number};
  }
}

Question only_card_question(const Card& card, SuiteRandom& random) {
  switch (random.below(4)) {
    case 0:
      return {"What colour is the picture?", std::string(kColours[card.colour])};
    case 1:
      return {"What shape is in the picture?", std::string(kShapes[card.shape])};
    default:
      return {"What number is in the picture?", std::to_string(card.number)};
  }
}

int64_t count_words(std::string_view text) {
  int64_t count = 0;
  bool inside = false;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool letter = std::isalpha(byte) != 0 || byte >= 0x80;
    if (letter ? !inside : std::isspace(byte) == 0) ++count;
    inside = letter;
  }
  return count;
}

}  // namespace fovea
