// Every field of a chat request that clients are known to send, and what is done with it: the one table from
// which reading, refusing and the documents come.
#pragma once

#include <span>

namespace fovea {

struct RequestField {
  enum class Use {
    read,     // it says what is computed or sent back; chat_request.cc reads it
    neutral,  // accepted whatever it says: it changes nothing that fovea computes or sends back
    hint,     // accepted with a warning: it asks for something that fovea's answer may be without
    only,     // accepted where it asks for nothing, refused by name otherwise
  };
  const char* name;
  Use use;
  const char* nothing;  // with `only`: a JSON list of the values, besides null, that ask for nothing
  const char* what;     // with `read`, what it means; with others, what it would be
};

// In the order of the documents. A field that stands nowhere here is accepted with a warning that names it,
// as vLLM's and llama.cpp's servers accept it (OpenAI's refuses it): clients are ahead of servers, and most
// of what they add is for somebody else.
std::span<const RequestField> request_fields();
// Those of /v1/completions.
std::span<const RequestField> completion_fields();

}  // namespace fovea
