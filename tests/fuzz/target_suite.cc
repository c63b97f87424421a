// A suite file: lines that cannot be used become problems, never a crash; every answer can be judged.
#include "scratch.h"
#include "suite/reader.h"
#include "target.h"

FOVEA_FUZZ_TARGET(suite) {
  static const fovea::fuzz::Scratch scratch;
  const fovea::Suite suite = fovea::read_suite(scratch.write("suite.jsonl", bytes), 1 << 16);
  for (const fovea::SuiteItem& item : suite.items) {
    fovea::fuzz::require(!item.answers.empty(), "a question has an answer");
    fovea::is_right("The answer is 7 (B).", item.answers, item.match);
  }
}
