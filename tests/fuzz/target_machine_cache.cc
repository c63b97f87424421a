// What advise keeps of machines. Nonsense costs a note, never the advice; what is added can be read again.
#include "advise/machine_cache.h"
#include "base/error.h"
#include "scratch.h"
#include "target.h"

FOVEA_FUZZ_TARGET(machine_cache) {
  static const fovea::fuzz::Scratch scratch;
  const auto file = scratch.write("machine.json", bytes);
  std::string note;
  const auto found = fovea::read_measured(file, "mine", note);
  fovea::fuzz::require(!found || found->limits.read_gbps > 0, "a limit that is believed is positive");
  const fovea::Measured measured{{40, 470, 234, 940}, "2026-12-01 05:40 UTC", 0.25};
  fovea::fuzz::require(fovea::keep_measured(file, "other", measured).empty(), "an entry can be added");
  note.clear();
  fovea::fuzz::require(fovea::read_measured(file, "other", note).has_value() && note.empty(),
                       "what was added is found");
  if (!found) throw fovea::Error(fovea::ErrorKind::not_found, "the file says nothing", "measure again");
}
