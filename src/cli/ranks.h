// What commands do when mpirun started several of them (comm/world.h).
#pragma once

#include <functional>
#include <nlohmann/json.hpp>

#include "audit/evaluator.h"
#include "runtime/device_map.h"

namespace fovea {

bool first_rank();

// Work that other ranks may have to wait for at its end. With several ranks an error in it ends all of them
// at once, with its words, instead of leaving the others to finish first.
void among_ranks(const std::function<void()>& work);

// Rank 0 asks an engine whose model all ranks compute together, while the others compute for it; without
// others it asks. An error ends all ranks as in among_ranks.
void ask_of_ranks(const Engine& engine, const std::function<void()>& ask);

// All ranks of this run share the questions.
Sharing sharing_among_ranks();

// --device-map: this rank's parts and its largest resident set, gathered: [{"parts", "peak_memory_bytes"},
// ...] in rank order. Collective.
nlohmann::ordered_json gather_parts(const DeviceMap& map);

// What gather_parts() returned, a line for each rank, to standard error.
void print_parts(const nlohmann::ordered_json& ranks);

// What the first rank reads, on every rank: mpirun hands its standard input to that one alone. Collective.
std::string from_first_rank(const std::function<std::string()>& read);

// Every rank's text, in rank order. Collective.
std::vector<std::string> gather_texts(const std::string& own);

}  // namespace fovea
