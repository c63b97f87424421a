// A JSON schema that answers are held to: what was compiled can be written to its end, whatever allowed byte
// is taken first.
#include <map>

#include "base/temporary_folder_testing.h"
#include "grammar/grammar_compiler.h"
#include "target.h"
#include "text/small_tokenizer_testing.h"

namespace {

const fovea::Tokenizer& tokenizer() {
  static const fovea::Tokenizer small = fovea::open_tokenizer(fovea::small_tokenizer());
  return small;
}

// The allowed byte that a number chosen by the input points to; ids below 256 are the bytes.
int chosen_byte(const fovea::GrammarMatcher& matcher, uint64_t& state) {
  std::vector<uint64_t> words(static_cast<size_t>(tokenizer().size()) / 64 + 1);
  matcher.allowed()->add_to(words);
  state = state * 6364136223846793005u + 1442695040888963407u;
  const int first = static_cast<int>(state >> 56);
  for (int i = 0; i < 256; ++i) {
    const int byte = (first + i) % 256;
    if (words[static_cast<size_t>(byte) / 64] >> (byte % 64) & 1) return byte;
  }
  return -1;
}

}  // namespace

FOVEA_FUZZ_TARGET(json_schema) {
  if (bytes.size() > 4096) return;
  fovea::GrammarCompiler compiler(tokenizer());
  const auto grammar = compiler.json_schema(bytes, "schema");
  fovea::GrammarMatcher matcher(grammar);
  uint64_t state = bytes.size();
  for (int i = 0; i < 60; ++i) {
    const int byte = chosen_byte(matcher, state);
    if (byte < 0) {
      fovea::fuzz::require(matcher.is_complete(), "an answer that cannot go on is whole");
      return;
    }
    fovea::fuzz::require(matcher.accept(byte), "what is allowed fits");
  }
  fovea::fuzz::require(grammar->bytes() < int64_t{256} << 20, "a grammar's memory is bounded");
}
