// A fuzz target: one reader of bytes that come from outside. libFuzzer calls it with inputs of its own making
// (libfuzzer.cc), and fuzz_corpus_test with those kept in corpus/ (corpus_test.cc).
#pragma once

#include <string_view>
#include <vector>

namespace fovea::fuzz {

struct Target {
  const char* name;                      // also that of its folder in corpus/
  void (*read)(std::string_view bytes);  // may throw Error and nothing else
};

// Those that are linked into this program.
const std::vector<Target>& targets();

// Reads `bytes`; false when they were refused with an Error and its words. Anything else leaves as it came,
// which ends the program.
bool run(const Target& target, std::string_view bytes);

// For a property that must hold for what was read: ends the program when it does not.
void require(bool holds, const char* property);

struct Registration {
  Registration(const char* name, void (*read)(std::string_view));
};

}  // namespace fovea::fuzz

// FOVEA_FUZZ_TARGET(name) { ... reads `bytes` ... }
#define FOVEA_FUZZ_TARGET(name)                                            \
  static void read_##name(std::string_view bytes);                         \
  static const fovea::fuzz::Registration registration(#name, read_##name); \
  static void read_##name(std::string_view bytes)
