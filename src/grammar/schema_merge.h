// Several schemas that must hold at once as one, and whether two can hold at once.
#pragma once

#include <optional>

#include "grammar/schema_document.h"

namespace fovea {

// The JSON types as bits; a number is an integer or has decimals.
namespace json_types {
inline constexpr unsigned kNull = 1, kBoolean = 2, kInteger = 4, kDecimals = 8, kString = 16, kArray = 32,
                          kObject = 64, kNumber = kInteger | kDecimals, kAll = 127;
}

// What "type" admits; all types where it is not stated.
unsigned stated_types(const SchemaJson& schema, const std::string& place);
unsigned type_of_value(const SchemaJson& value);

class SchemaMerge {
 public:
  explicit SchemaMerge(const SchemaDocument& document) : document_(document) {}

  // A schema without $ref, allOf, const and nullable that the same values satisfy; true or false where that
  // says it all. Parts of both that meet in one place stand there as an allOf. Throws FieldError(unsupported)
  // for what cannot be one schema, FieldError(exhausted) where it grows without end.
  SchemaJson flat(const SchemaJson& schema, const std::string& place);
  SchemaJson merged(const SchemaJson& a, const SchemaJson& b, const std::string& place);

  // Certainly no value satisfies both. Where false, some may.
  bool disjoint(const SchemaJson& a, const SchemaJson& b, const std::string& place);

 private:
  void charge(const SchemaJson& schema);
  void merge_objects(SchemaJson& a, const SchemaJson& b);
  void merge_lists(SchemaJson& a, const SchemaJson& b, const std::string& place);
  void merge_keyword(SchemaJson& a, const std::string& keyword, const SchemaJson& value,
                     const std::string& place);
  bool disjoint_objects(const SchemaJson& a, const SchemaJson& b, const std::string& place);

  const SchemaDocument& document_;
  size_t work_ = 0;
  int depth_ = 0;
};

}  // namespace fovea
