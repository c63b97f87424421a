#include "grammar/schema_rules.h"

#include <algorithm>

#include "base/printable.h"
#include "grammar/number_rules.h"
#include "grammar/readings.h"
#include "grammar/string_rules.h"

namespace fovea {

namespace {

using namespace json_types;

constexpr int kDeepestRules = 256;
constexpr size_t kMostProperties = 1000;

const SchemaJson* find(const SchemaJson& schema, const char* name) {
  const auto found = schema.find(name);
  return found == schema.end() ? nullptr : &*found;
}

bool is_read(const std::string& keyword) { return use_of_keyword(keyword) == KeywordUse::read; }

// The types whose keywords the schema states; all where it states none.
unsigned implied_types(const SchemaJson& schema) {
  unsigned types = 0;
  const auto imply = [&](unsigned type, std::initializer_list<const char*> keywords) {
    for (const char* keyword : keywords) {
      if (schema.contains(keyword)) types |= type;
    }
  };
  imply(kObject, {"properties", "required", "additionalProperties"});
  imply(kArray, {"items", "prefixItems", "minItems", "maxItems"});
  imply(kString, {"minLength", "maxLength", "pattern", "format"});
  imply(kNumber, {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"});
  return types == 0 ? kAll : types;
}

int32_t count_of(const SchemaJson& schema, const char* name, int32_t otherwise) {
  const SchemaJson* stated = find(schema, name);
  return stated == nullptr ? otherwise : static_cast<int32_t>(stated->get<double>());
}

// Errors that know no place get it here.
template <class Make>
int32_t at_place(const std::string& place, const Make& make) {
  try {
    return make();
  } catch (const Error& error) {
    throw FieldError(error.kind(), printable(place), "cannot be held to: " + error.message(), error.remedy());
  }
}

// Whether a rule that nothing else uses accepts a text.
bool accepts(const Automaton& automaton, const std::string& text) {
  FrameStack stack(automaton, kDeepestStack);
  Readings now, next;
  stack.enter(stack.push(automaton.start(automaton.root()), 0, Frame::kBottom), now);
  for (const char byte : text) {
    stack.read(now, static_cast<uint8_t>(byte), next);
    std::swap(now, next);
  }
  return now.complete;
}

}  // namespace

int32_t SchemaRules::rule_of(const SchemaJson& schema, const std::string& place) {
  check_keywords(schema, place);
  if (schema.is_boolean()) return schema == true ? rules_.any_value() : rules_.nothing();
  const std::string text = schema.dump();
  rules_.automaton().charge(text.size() / 16 + 1);
  if (const auto known = known_.find(text); known != known_.end()) return known->second;
  if (depth_ == kDeepestRules) {
    throw FieldError(ErrorKind::exhausted, place, "is nested too deep, references followed",
                     "make it flatter");
  }
  ++depth_;
  Automaton& automaton = rules_.automaton();
  const int32_t rule = known_[text] = automaton.add_rule();
  const int32_t made = build(schema, place);
  if (automaton.start(made) >= 0) {
    automaton.set_start(rule, automaton.start(made));
  } else {  // a rule that is still being made, for it refers to itself
    const int32_t start = automaton.add_node(), end = automaton.add_node(true);
    automaton.on_call(start, made, end);
    automaton.set_start(rule, start);
  }
  --depth_;
  return rule;
}

int32_t SchemaRules::build(const SchemaJson& schema, const std::string& place) {
  const SchemaJson* ref = find(schema, "$ref");
  const auto read = std::count_if(schema.items().begin(), schema.items().end(),
                                  [](const auto& item) { return is_read(item.key()); });
  if (ref != nullptr && read == 1) {
    return rule_of(document_.resolve(*ref, place), document_.where() + ref->get<std::string>());
  }
  const auto exclusive = [&](const char* name) {
    return schema.contains(name) && schema.at(name).is_boolean();
  };
  if (ref != nullptr || schema.contains("allOf") || schema.contains("const") || schema.contains("nullable") ||
      exclusive("exclusiveMinimum") || exclusive("exclusiveMaximum")) {
    return rule_of(merge_.flat(schema, place), place);
  }
  if (schema.contains("anyOf")) return alternatives(schema, "anyOf", place);
  if (schema.contains("oneOf")) return alternatives(schema, "oneOf", place);
  if (schema.contains("enum")) return values(schema, place);
  return by_type(schema, place);
}

// oneOf is anyOf where no two alternatives can hold at once, which must be certain.
int32_t SchemaRules::alternatives(const SchemaJson& schema, const char* keyword, const std::string& place) {
  const SchemaJson list = schema.at(keyword);
  SchemaJson rest = SchemaJson::object();
  for (const auto& [name, value] : schema.items()) {
    if (name != keyword && is_read(name)) rest[name] = value;
  }
  std::vector<int32_t> rules;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string here = fmt::format("{}/{}/{}", place, keyword, i);
    rules_.automaton().charge(1);
    rules.push_back(
        rule_of(rest.empty() ? list[i] : merge_.merged(rest, merge_.flat(list[i], here), here), here));
  }
  if (std::string_view(keyword) == "anyOf") return rules_.any_of(rules);
  for (size_t i = 0; i < list.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      if (merge_.disjoint(list[k], list[i], place)) continue;
      SchemaDocument::not_supported(
          place + "/oneOf", fmt::format("has alternatives {} and {} that may both hold at once", k, i),
          "write anyOf, or give each a required property with a const of its own");
    }
  }
  return rules_.any_of(rules);
}

int32_t SchemaRules::values(const SchemaJson& schema, const std::string& place) {
  SchemaJson rest = SchemaJson::object();
  for (const auto& [name, value] : schema.items()) {
    if (name != "enum" && is_read(name)) rest[name] = value;
  }
  Automaton own;
  bool any = rest.empty(), none = false;
  if (!any) {
    JsonRules rules(own);
    none = !own.finish(SchemaRules(document_, rules).rule_of(rest, place));
  }
  std::vector<std::string> texts;
  for (const SchemaJson& value : schema.at("enum")) {
    std::string text = value.dump();
    if (any || (!none && accepts(own, text))) texts.push_back(std::move(text));
  }
  return rules_.one_of_texts(texts);
}

int32_t SchemaRules::by_type(const SchemaJson& schema, const std::string& place) {
  const unsigned types = schema.contains("type") ? stated_types(schema, place) : implied_types(schema);
  if (types == kAll && implied_types(schema) == kAll) return rules_.any_value();
  std::vector<int32_t> rules;
  if (types & kObject) rules.push_back(objects(schema, place));
  if (types & kArray) rules.push_back(arrays(schema, place));
  if (types & kString) rules.push_back(strings(schema, place));
  if (types & kNumber) rules.push_back(numbers(schema, (types & kDecimals) == 0, place));
  if (types & kBoolean) rules.push_back(rules_.one_of_texts({"true", "false"}));
  if (types & kNull) rules.push_back(rules_.text("null"));
  return rules_.any_of(rules);
}

int32_t SchemaRules::numbers(const SchemaJson& schema, bool integer, const std::string& place) {
  NumberBounds bounds;
  const auto decimal = [&](const char* name) {
    const auto value = decimal_of(schema.at(name).dump());
    if (!value) {
      SchemaDocument::not_supported(place + '/' + name,
                                    "is " + shown_json(schema.at(name)) + ", which has too many digits",
                                    "leave it out, or give a number of at most 18 digits");
    }
    return value;
  };
  const auto larger = [&](const char* name, const char* other) {
    return !schema.contains(other) || schema.at(name).get<double>() > schema.at(other).get<double>();
  };
  if (schema.contains("minimum")) bounds.minimum = decimal("minimum");
  if (schema.contains("exclusiveMinimum") &&
      (!schema.contains("minimum") || !larger("minimum", "exclusiveMinimum"))) {
    bounds.minimum = decimal("exclusiveMinimum");
    bounds.exclusive_minimum = true;
  }
  if (schema.contains("maximum")) bounds.maximum = decimal("maximum");
  if (schema.contains("exclusiveMaximum") &&
      (!schema.contains("maximum") || !larger("exclusiveMaximum", "maximum"))) {
    bounds.maximum = decimal("exclusiveMaximum");
    bounds.exclusive_maximum = true;
  }
  if (!bounds.minimum && !bounds.maximum) return integer ? rules_.integer() : rules_.number();
  return at_place(place, [&] { return add_bounded_rule(rules_.automaton(), bounds, integer); });
}

int32_t SchemaRules::strings(const SchemaJson& schema, const std::string& place) {
  const int32_t least = count_of(schema, "minLength", 0),
                most = count_of(schema, "maxLength", AutomatonNode::kNoMost);
  const SchemaJson *pattern = find(schema, "pattern"), *format = find(schema, "format");
  if (pattern == nullptr && format == nullptr) return rules_.string_of_length(least, most);
  if (pattern != nullptr && format != nullptr) {
    SchemaDocument::not_supported(place + "/format", "stands beside a pattern", "leave one of them out");
  }
  const char* name = pattern != nullptr ? "pattern" : "format";
  std::optional<std::string> expression =
      pattern != nullptr ? pattern->get<std::string>() : pattern_of_format(format->get<std::string>());
  if (!expression) {
    SchemaDocument::not_supported(place + "/format", "is " + shown_json(*format) + ", which is not supported",
                                  "leave it out, or use one of " + known_formats());
  }
  if (least > most) return rules_.nothing();
  return at_place(place + '/' + name,
                  [&] { return add_pattern_rule(rules_.automaton(), *expression, least, most); });
}

int32_t SchemaRules::arrays(const SchemaJson& schema, const std::string& place) {
  const SchemaJson *first = find(schema, "prefixItems"), *items = find(schema, "items");
  if (items != nullptr && items->is_array()) {
    SchemaDocument::not_supported(place + "/items", "is a list of schemas, as drafts before 2020 had it",
                                  "write prefixItems");
  }
  std::vector<int32_t> fixed;
  if (first != nullptr) {
    for (size_t i = 0; i < first->size(); ++i) {
      fixed.push_back(rule_of((*first)[i], fmt::format("{}/prefixItems/{}", place, i)));
    }
  }
  std::optional<int32_t> more;
  if (items != nullptr && *items != false) more = rule_of(*items, place + "/items");
  if (items == nullptr && first == nullptr) more = rules_.any_value();
  return rules_.array(fixed, more, count_of(schema, "minItems", 0),
                      count_of(schema, "maxItems", AutomatonNode::kNoMost));
}

int32_t SchemaRules::objects(const SchemaJson& schema, const std::string& place) {
  const SchemaJson *stated = find(schema, "properties"), *more = find(schema, "additionalProperties"),
                   *required = find(schema, "required");
  SchemaJson properties = stated != nullptr ? *stated : SchemaJson::object();
  const auto is_required = [&](const std::string& name) {
    return required != nullptr &&
           std::find(required->begin(), required->end(), SchemaJson(name)) != required->end();
  };
  if (required != nullptr) {
    for (const SchemaJson& name : *required) {
      const auto& key = name.get_ref<const std::string&>();
      if (!properties.contains(key)) properties[key] = more != nullptr ? *more : SchemaJson(true);
    }
  }
  if (properties.size() > kMostProperties) {
    SchemaDocument::not_supported(
        place + "/properties",
        fmt::format("has {} entries, the limit is {}", properties.size(), kMostProperties),
        "group them into objects");
  }
  std::vector<JsonRules::Member> members;
  std::vector<std::string> names;
  for (const auto& [name, value] : properties.items()) {
    members.push_back(
        {rules_.member(name, rule_of(value, place + "/properties/" + name)), is_required(name)});
    names.push_back(name);
  }
  std::optional<int32_t> others;
  if (more != nullptr ? *more != false : stated == nullptr) {
    const int32_t value =
        more != nullptr ? rule_of(*more, place + "/additionalProperties") : rules_.any_value();
    others = rules_.member_besides(names, value);
  }
  return rules_.object(members, others);
}

}  // namespace fovea
