// An answer of a model against an expected one: rule, expected and answer, separated by lines of "%%".
#include <string>

#include "scratch.h"
#include "suite/scoring.h"
#include "target.h"

FOVEA_FUZZ_TARGET(scoring) {
  const auto parts = fovea::fuzz::pieces(bytes);
  if (parts.size() < 3) return;
  const fovea::MatchRule rule = fovea::parse_match_rule(parts[0]);
  fovea::check_expected(std::string(parts[1]), rule);
  fovea::is_right(parts[2], {std::string(parts[1])}, rule);
}
