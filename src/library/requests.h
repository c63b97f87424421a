// A caller's request as the engine takes it.
#pragma once

#include <fovea/request.h>

#include <functional>
#include <string>

#include "grammar/grammar_compiler.h"
#include "runtime/engine.h"
#include "text/message.h"

namespace fovea {

using ResolveFn = std::function<std::string(const std::string& name)>;

// With the media's bytes; names are given to `resolve`. Throws FieldError, and what `resolve` throws.
std::vector<Message> messages_of(const v0::Request& request, const ResolveFn& resolve);
// Throws FieldError naming what is out of its range.
GenerationOptions generation_options_of(const v0::Request& request, const GenerationOptions& defaults,
                                        GrammarCompiler& grammars);
// Requests of one salt share what is cached, those of another do not.
uint64_t cache_space_of(const std::string& salt);

}  // namespace fovea
