// The result of an audit in words.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "audit/attribution.h"
#include "audit/search.h"
#include "audit/verdict.h"

namespace fovea {

// Sentences: what is safe, what is not, why, and what to use. `reference` may be null, as may `attribution`
// and `search`. tolerated: of verdict_of.
std::vector<std::string> conclude(const Compared* reference, std::span<const Compared> compared,
                                  const Attribution* attribution, const SearchResult* search,
                                  double tolerated);

// What a search of the storage found, in one sentence.
std::string say_storage(const SearchResult& search);

}  // namespace fovea
