// tokenizer.json read as a stream: its two large tables go straight into the definition, the rest becomes a
// small JSON document. A document of everything takes several times as long to build.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "text/tokenizer_definition.h"

namespace fovea {

// Fills vocabulary and merges of `definition`; in the document returned, model.vocab is an empty object and
// model.merges an empty list. Throws Error(corrupt) naming `file` and the place.
nlohmann::json read_tokenizer_document(std::string_view text, const std::string& file,
                                       TokenizerDefinition& definition);

}  // namespace fovea
