// What goes wrong: every function of the library that fails throws fovea::Error. No input aborts.
#pragma once

#include <stdexcept>
#include <string>

#include "fovea/namespace.h"

namespace fovea {
FOVEA_INLINE namespace v0 {
  enum class ErrorCode {
    invalid_argument,  // the call or the request itself is wrong
    not_found,         // a file, tensor or field is missing
    corrupt,           // bytes that contradict their own format
    unsupported,       // valid, but fovea does not do it
    exhausted,         // memory, disk, the queue or another stated limit
    io,                // the operating system refused
    numeric,           // a value that is not finite appeared in this request's computation
    internal,          // a mistake of fovea's own: please report it
  };

  // "invalid_argument" and so on.
  FOVEA_API const char* name_of(ErrorCode code);

  // what() is the message and the remedy, ready to be shown to a person.
  class FOVEA_API Error : public std::runtime_error {
   public:
    Error(ErrorCode code, const std::string& message, const std::string& remedy,
          const std::string& field = "");
    ~Error() override;

    ErrorCode code() const { return code_; }
    const std::string& message() const { return message_; }
    // What the caller can do about it.
    const std::string& remedy() const { return remedy_; }
    // Which part of the request is to blame: "messages[1].content[0].image"; empty where none is.
    const std::string& field() const { return field_; }

   private:
    ErrorCode code_;
    std::string message_, remedy_, field_;
  };

}  // namespace v0
}  // namespace fovea
