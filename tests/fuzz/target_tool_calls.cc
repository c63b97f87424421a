// Calls of tools in an answer: however it is cut, the same words and calls come of it.
#include "target.h"
#include "text/tool_call_reader.h"

namespace {

std::string read_in_pieces(std::string_view bytes, size_t piece) {
  std::string seen;
  int64_t calls = 0;
  fovea::ToolCallReader reader({[&](std::string_view words) { seen += words; },
                                [&](int64_t index, const std::string& name) {
                                  fovea::fuzz::require(index == calls++, "calls are counted");
                                  seen += '[' + name + ']';
                                },
                                [&](int64_t, std::string_view arguments) { seen += arguments; }});
  for (size_t at = 0; at < bytes.size(); at += piece) reader.push(bytes.substr(at, piece));
  reader.finish();
  return seen;
}

}  // namespace

FOVEA_FUZZ_TARGET(tool_calls) {
  if (bytes.size() > 4096) return;
  const std::string whole = read_in_pieces(bytes, bytes.size() + 1);
  for (const size_t piece : {1, 2, 7}) {
    fovea::fuzz::require(read_in_pieces(bytes, piece) == whole, "the cut does not matter");
  }
}
