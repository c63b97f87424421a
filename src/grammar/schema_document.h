// A JSON schema as it was written, in its own order; untrusted.
#pragma once

#include <string>
#include <string_view>

#include "base/field_error.h"
#include "text/ordered_json.h"

namespace fovea {

using SchemaJson = OrderedJson;

class SchemaDocument {
 public:
  // `where` is what errors call the schema ("response_format.json_schema.schema"). Throws as
  // parse_ordered_json().
  SchemaDocument(std::string_view text, std::string where);

  const SchemaJson& root() const { return root_; }
  const std::string& where() const { return where_; }
  // What "$ref" at `place` names: "#", or a pointer within this document (RFC 6901). Throws FieldError.
  const SchemaJson& resolve(const SchemaJson& ref, const std::string& place) const;

  [[noreturn]] static void refuse(const std::string& place, const std::string& words,
                                  const std::string& remedy);
  [[noreturn]] static void not_supported(const std::string& place, const std::string& words,
                                         const std::string& remedy);

 private:
  SchemaJson root_;
  std::string where_;
};

// What becomes of a keyword of JSON Schema or OpenAPI.
enum class KeywordUse { read, note, unsupported, unknown };
KeywordUse use_of_keyword(std::string_view keyword);

// Checks that every keyword of a schema is read or changes nothing, and the form of those that are read.
// Throws FieldError(invalid_argument | unsupported) naming it.
void check_keywords(const SchemaJson& schema, const std::string& place);

}  // namespace fovea
