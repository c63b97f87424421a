// The rules of a JSON schema's values. docs/guide/structured-output.md has the table of keywords.
//
// What follows from the order of an answer's bytes, and is stricter than the schema itself: properties come
// in the order of the schema; an object that lists properties has no others unless additionalProperties says
// so, and a list with prefixItems has no more items unless items says so; keywords of one type without a
// "type" mean that type.
#pragma once

#include "grammar/json_rules.h"
#include "grammar/schema_merge.h"

namespace fovea {

class SchemaRules {
 public:
  // Both are borrowed.
  SchemaRules(const SchemaDocument& document, JsonRules& rules)
      : document_(document), rules_(rules), merge_(document) {}

  // Throws FieldError(invalid_argument | unsupported | exhausted) naming the place in the schema. Whether any
  // value fits is for Automaton::finish() to say.
  int32_t root() { return rule_of(document_.root(), document_.where()); }
  int32_t rule_of(const SchemaJson& schema, const std::string& place);

 private:
  int32_t build(const SchemaJson& schema, const std::string& place);
  int32_t alternatives(const SchemaJson& schema, const char* keyword, const std::string& place);
  int32_t values(const SchemaJson& schema, const std::string& place);
  int32_t by_type(const SchemaJson& schema, const std::string& place);
  int32_t numbers(const SchemaJson& schema, bool integer, const std::string& place);
  int32_t strings(const SchemaJson& schema, const std::string& place);
  int32_t arrays(const SchemaJson& schema, const std::string& place);
  int32_t objects(const SchemaJson& schema, const std::string& place);

  const SchemaDocument& document_;
  JsonRules& rules_;
  SchemaMerge merge_;
  std::map<std::string, int32_t> known_;  // by the text of the schema
  int depth_ = 0;
};

}  // namespace fovea
