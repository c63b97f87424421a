#include "grammar/schema_merge.h"

#include <algorithm>

namespace fovea {

namespace {

using namespace json_types;

constexpr size_t kMostWork = 2'000'000, kMostAlternatives = 1000;
constexpr int kDeepest = 64;

constexpr std::pair<const char*, unsigned> kTypeNames[] = {
    {"null", kNull},     {"boolean", kBoolean}, {"number", kNumber}, {"integer", kInteger},
    {"string", kString}, {"array", kArray},     {"object", kObject}};

size_t size_of(const SchemaJson& value) {
  size_t size = 1;
  if (value.is_structured()) {
    for (const SchemaJson& part : value) size += size_of(part);
  }
  return size;
}

SchemaJson types_json(unsigned types) {
  SchemaJson names = SchemaJson::array();
  for (const auto& [name, type] : kTypeNames) {
    if ((types & type) != type) continue;
    names.push_back(name);
    types &= ~type;
  }
  return names;
}

SchemaJson both(const SchemaJson& a, const SchemaJson& b) {
  if (a == false || b == false) return false;
  if (a == true || a == b) return b;
  if (b == true) return a;
  return {{"allOf", {a, b}}};
}

const SchemaJson* find(const SchemaJson& schema, const char* name) {
  const auto found = schema.find(name);
  return found == schema.end() ? nullptr : &*found;
}

// Draft 4 has true beside the bound itself, later drafts have the bound in its place.
void state_exclusive_bounds(SchemaJson& schema) {
  for (const auto& [exclusive, bound] :
       {std::pair("exclusiveMinimum", "minimum"), {"exclusiveMaximum", "maximum"}}) {
    const SchemaJson* stated = find(schema, exclusive);
    if (stated == nullptr || !stated->is_boolean()) continue;
    if (*stated == true && schema.contains(bound)) {
      schema[exclusive] = SchemaJson(schema.at(bound));
      schema.erase(bound);
    } else {
      schema.erase(exclusive);
    }
  }
}

}  // namespace

unsigned stated_types(const SchemaJson& schema, const std::string& place) {
  const SchemaJson* stated = schema.is_object() ? find(schema, "type") : nullptr;
  if (stated == nullptr) return schema == false ? 0 : kAll;
  unsigned types = 0;
  const SchemaJson list = stated->is_array() ? *stated : SchemaJson::array({*stated});
  for (const SchemaJson& name : list) {
    const auto known = std::find_if(std::begin(kTypeNames), std::end(kTypeNames),
                                    [&](const auto& type) { return name == type.first; });
    if (known == std::end(kTypeNames)) {
      SchemaDocument::refuse(place + "/type", "is " + shown_json(name) + ", which is no type",
                             "write null, boolean, integer, number, string, array or object");
    }
    types |= known->second;
  }
  return types;
}

unsigned type_of_value(const SchemaJson& value) {
  if (value.is_null()) return kNull;
  if (value.is_boolean()) return kBoolean;
  if (value.is_number_integer()) return kInteger;
  if (value.is_number()) {
    const auto number = value.get<double>();
    return number == static_cast<double>(static_cast<int64_t>(std::clamp(number, -1e18, 1e18))) ? kInteger
                                                                                                : kDecimals;
  }
  if (value.is_string()) return kString;
  return value.is_array() ? kArray : kObject;
}

void SchemaMerge::charge(const SchemaJson& schema) {
  work_ += size_of(schema);
  if (work_ <= kMostWork) return;
  throw FieldError(ErrorKind::exhausted, document_.where(),
                   "grows too large where allOf, anyOf and $ref are joined", "write the joined schemas out");
}

SchemaJson SchemaMerge::flat(const SchemaJson& schema, const std::string& place) {
  check_keywords(schema, place);
  if (!schema.is_object()) return schema;
  charge(schema);
  if (++depth_ > kDeepest) {
    SchemaDocument::refuse(place, "leads back to itself by $ref or allOf",
                           "let it pass through a property or an item");
  }
  SchemaJson own = SchemaJson::object();
  for (const auto& [keyword, value] : schema.items()) {
    if (use_of_keyword(keyword) == KeywordUse::read && keyword != "$ref" && keyword != "allOf" &&
        keyword != "const" && keyword != "nullable") {
      own[keyword] = value;
    }
  }
  state_exclusive_bounds(own);
  if (schema.value("nullable", false) && own.contains("type")) {
    own["type"] = types_json(stated_types(own, place) | kNull);
  }
  if (const SchemaJson* one = find(schema, "const")) {
    own = merged(own, {{"enum", SchemaJson::array({*one})}}, place);
  }
  if (const SchemaJson* ref = find(schema, "$ref")) {
    own =
        merged(flat(document_.resolve(*ref, place), document_.where() + ref->get<std::string>()), own, place);
  }
  if (const SchemaJson* parts = find(schema, "allOf")) {
    for (size_t i = 0; i < parts->size(); ++i) {
      own = merged(own, flat((*parts)[i], fmt::format("{}/allOf/{}", place, i)), place);
    }
  }
  --depth_;
  return own;
}

SchemaJson SchemaMerge::merged(const SchemaJson& a, const SchemaJson& b, const std::string& place) {
  if (a == false || b == false) return false;
  if (!a.is_object()) return b;
  if (!b.is_object()) return a;
  charge(a);
  charge(b);
  SchemaJson result = a;
  merge_objects(result, b);
  merge_lists(result, b, place);
  for (const auto& [keyword, value] : b.items()) {
    if (keyword != "properties" && keyword != "additionalProperties" && keyword != "items" &&
        keyword != "prefixItems") {
      merge_keyword(result, keyword, value, place);
    }
  }
  return result;
}

// A property that only one of them names is an additional one of the other.
void SchemaMerge::merge_objects(SchemaJson& a, const SchemaJson& b) {
  if (!b.contains("properties") && !b.contains("additionalProperties")) return;
  const SchemaJson nothing = SchemaJson::object(), anything = true;
  const auto part = [](const SchemaJson& schema, const char* name,
                       const SchemaJson& otherwise) -> const SchemaJson& {
    const SchemaJson* found = find(schema, name);
    return found != nullptr ? *found : otherwise;
  };
  const SchemaJson of_a = part(a, "properties", nothing), more_a = part(a, "additionalProperties", anything);
  const SchemaJson &of_b = part(b, "properties", nothing),
                   &more_b = part(b, "additionalProperties", anything);
  SchemaJson properties = SchemaJson::object();
  for (const auto& [name, value] : of_a.items()) {
    properties[name] = both(value, of_b.contains(name) ? of_b.at(name) : more_b);
  }
  for (const auto& [name, value] : of_b.items()) {
    if (!of_a.contains(name)) properties[name] = both(more_a, value);
  }
  if (a.contains("properties") || b.contains("properties")) a["properties"] = std::move(properties);
  if (a.contains("additionalProperties") || b.contains("additionalProperties")) {
    a["additionalProperties"] = both(more_a, more_b);
  }
}

void SchemaMerge::merge_lists(SchemaJson& a, const SchemaJson& b, const std::string& place) {
  const SchemaJson *first_a = find(a, "prefixItems"), *first_b = find(b, "prefixItems");
  const SchemaJson *more_a = find(a, "items"), *more_b = find(b, "items");
  if (first_a != nullptr && first_b != nullptr && *first_a != *first_b) {
    SchemaDocument::not_supported(place + "/prefixItems",
                                  "is stated by several schemas that must hold at once", "state it once");
  }
  const auto all_with = [](SchemaJson list, const SchemaJson* also) {
    if (also != nullptr) {
      for (SchemaJson& one : list) one = both(one, *also);
    }
    return list;
  };
  if (first_a != nullptr && first_b == nullptr) {
    a["prefixItems"] = all_with(*first_a, more_b);
  } else if (first_b != nullptr && first_a == nullptr) {
    a["prefixItems"] = all_with(*first_b, more_a);
  }
  // Its own copy, for what was found may have moved.
  if (more_b == nullptr) return;
  const SchemaJson* now = find(a, "items");
  a["items"] = now != nullptr ? both(*now, *more_b) : *more_b;
}

void SchemaMerge::merge_keyword(SchemaJson& a, const std::string& keyword, const SchemaJson& value,
                                const std::string& place) {
  const auto found = a.find(keyword);
  if (found == a.end()) {
    a[keyword] = value;
    return;
  }
  SchemaJson& own = *found;
  if (own == value) return;
  if (keyword == "type") {
    own = types_json(stated_types(a, place) & stated_types({{"type", value}}, place));
  } else if (keyword == "enum") {
    SchemaJson kept = SchemaJson::array();
    for (const SchemaJson& one : own) {
      if (std::find(value.begin(), value.end(), one) != value.end()) kept.push_back(one);
    }
    own = std::move(kept);
  } else if (keyword == "required") {
    for (const SchemaJson& one : value) {
      if (std::find(own.begin(), own.end(), one) == own.end()) own.push_back(one);
    }
  } else if ((keyword.starts_with("min") || keyword == "exclusiveMinimum") && own.is_number() &&
             value.is_number()) {
    if (value.get<double>() > own.get<double>()) own = value;
  } else if ((keyword.starts_with("max") || keyword == "exclusiveMaximum") && own.is_number() &&
             value.is_number()) {
    if (value.get<double>() < own.get<double>()) own = value;
  } else if (keyword == "anyOf" || keyword == "oneOf") {
    SchemaJson pairs = SchemaJson::array();
    for (const SchemaJson& one : own) {
      for (const SchemaJson& other : value) {
        if (pairs.size() == kMostAlternatives) {
          SchemaDocument::not_supported(place + '/' + keyword,
                                        "has too many alternatives that must hold at once", "write fewer");
        }
        charge(one);
        charge(other);
        pairs.push_back(both(one, other));
      }
    }
    own = std::move(pairs);
  } else {
    SchemaDocument::not_supported(place + '/' + keyword,
                                  "is stated by several schemas that must hold at once", "state it once");
  }
}

bool SchemaMerge::disjoint(const SchemaJson& a, const SchemaJson& b, const std::string& place) {
  constexpr int kDeepestComparison = 8;
  if (depth_ > kDeepestComparison) return false;
  const SchemaJson x = flat(a, place), y = flat(b, place);
  if (x == false || y == false) return true;
  if (!x.is_object() || !y.is_object()) return false;
  ++depth_;
  const auto alternatives_of = [&](const SchemaJson& one, const SchemaJson& other) {
    for (const char* keyword : {"anyOf", "oneOf"}) {
      const SchemaJson* list = find(one, keyword);
      if (list == nullptr) continue;
      const bool all = std::all_of(list->begin(), list->end(),
                                   [&](const SchemaJson& each) { return disjoint(each, other, place); });
      if (all) return true;
    }
    return false;
  };
  const auto types_of = [&](const SchemaJson& schema) {
    unsigned types = stated_types(schema, place);
    if (const SchemaJson* values = find(schema, "enum")) {
      unsigned of_values = 0;
      for (const SchemaJson& one : *values) of_values |= type_of_value(one);
      types &= of_values;
    }
    return types;
  };
  const unsigned common = types_of(x) & types_of(y);
  bool apart = common == 0 || alternatives_of(x, y) || alternatives_of(y, x);
  const SchemaJson *values = find(x, "enum"), *others = find(y, "enum");
  if (!apart && values != nullptr && others != nullptr) {
    charge(*values);
    charge(*others);
    apart = std::none_of(values->begin(), values->end(), [&](const SchemaJson& one) {
      return std::find(others->begin(), others->end(), one) != others->end();
    });
  }
  if (!apart && common == kObject) apart = disjoint_objects(x, y, place) || disjoint_objects(y, x, place);
  --depth_;
  return apart;
}

// A property that `a` demands and that differs, or that `b` does not admit.
bool SchemaMerge::disjoint_objects(const SchemaJson& a, const SchemaJson& b, const std::string& place) {
  const SchemaJson *demanded = find(a, "required"), *of_a = find(a, "properties"),
                   *of_b = find(b, "properties"), *more = find(b, "additionalProperties");
  if (demanded == nullptr) return false;
  for (const SchemaJson& name : *demanded) {
    const auto& key = name.get_ref<const std::string&>();
    const bool known = of_b != nullptr && of_b->contains(key);
    if (!known && more != nullptr && *more == false) return true;
    if (!known || of_a == nullptr || !of_a->contains(key)) continue;
    if (disjoint(of_a->at(key), of_b->at(key), place)) return true;
  }
  return false;
}

}  // namespace fovea
