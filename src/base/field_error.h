// An Error about one field of what somebody sent.
#pragma once

#include <string>

#include "base/error.h"

namespace fovea {

// The message is "<field> <words>", or the words alone where no field is to blame.
class FieldError : public Error {
 public:
  FieldError(ErrorKind kind, const std::string& field, const std::string& words, std::string remedy)
      : Error(kind, field.empty() ? words : field + ' ' + words, std::move(remedy)), field_(field) {}
  // Its path from the document's top: "messages[1].content[0].image_url".
  const std::string& field() const { return field_; }

 private:
  std::string field_;
};

}  // namespace fovea
