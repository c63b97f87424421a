// Question sets made from a seed: cards with handwritten digits, facts planted in filler text, and both.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/progress.h"
#include "suite/card.h"

namespace fovea {

// easy: one card or one fact, nothing else. multi-image: several cards, asked by place or by colour and
// shape. long-context: facts among filler. mixed: cards and facts among filler.
enum class SuiteKind { easy, multi_image, long_context, mixed };
const char* name_of(SuiteKind kind);
SuiteKind parse_suite_kind(std::string_view name);  // throws Error(invalid_argument)

struct CountRange {
  int64_t low = 0, high = 0;
};
// "6" or "2-8". Throws Error(invalid_argument) naming `what`.
CountRange parse_range(std::string_view text, std::string_view what);

struct SuiteRequest {
  SuiteKind kind = SuiteKind::easy;
  int64_t count = 100;
  CountRange tokens;       // words and punctuation marks of facts and filler
  CountRange images;       // cards, at most 32: colour and shape name a card
  CountRange facts;        // at most 64: a name has one code
  CountRange turns{1, 1};  // questions of a record; all but the last stand with their answers in the messages
  uint64_t seed = 0;
  DigitPool digits = DigitPool::unseen;
};
// What a kind has when nothing else is asked for.
SuiteRequest default_request(SuiteKind kind);

// Writes out/suite.jsonl and out/images/*.png. A record is {"id", "messages", "answer", "match", "tags"};
// image paths are relative to the folder. The same request gives the same bytes; record i does not depend on
// `count`. Throws Error for impossible numbers and those of OutputFolder; then nothing is left of it.
void make_suite(const SuiteRequest& request, const std::filesystem::path& out, bool replace,
                const ProgressFn& progress);

}  // namespace fovea
