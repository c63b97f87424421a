// The sentences of the suites: filler that says nothing, facts to find again, questions about facts and
// cards.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "suite/card.h"
#include "suite/random.h"

namespace fovea {

inline constexpr size_t kNameCount = 64;

// "The code of Mara is 7."
struct Fact {
  size_t name = 0;   // below kNameCount
  int64_t code = 0;  // 0 .. 9
};

std::string fact_sentence(const Fact& fact);
std::string fact_question(const Fact& fact);
// "The old boat waits near the quiet harbour."
std::string filler_sentence(SuiteRandom& random);

// A question about one of several cards and its answer.
struct Question {
  std::string text, answer;
};
// `place` counts from 1; without it the question is about the only card.
Question card_question(const Card& card, size_t place, SuiteRandom& random);
Question only_card_question(const Card& card, SuiteRandom& random);

// Words and punctuation marks: what a tokenizer that knows all words would make of it.
int64_t count_words(std::string_view text);

}  // namespace fovea
