// Goal: a grammar lets through what its schema says and ends exactly where the value does; what cannot be
// held to is refused by name; hostile schemas cost bounded time and memory. Method: texts accepted or not,
// byte by byte; messages looked for.
#include <gtest/gtest.h>

#include <chrono>

#include "base/field_error.h"
#include "grammar/grammar_compiler.h"
#include "grammar/json_rules.h"
#include "text/small_tokenizer_testing.h"

namespace fovea {
namespace {

const Tokenizer& small() {
  static const Tokenizer tokenizer = open_tokenizer(small_tokenizer());
  return tokenizer;
}

GrammarMatcher matcher_of(const std::string& schema) {
  GrammarCompiler compiler(small());
  return GrammarMatcher(compiler.json_schema(schema, "schema"));
}

bool takes(const std::string& schema, const std::string& text) {
  GrammarMatcher matcher = matcher_of(schema);
  return matcher.accept(text) && matcher.is_complete();
}

std::string refusal(const std::string& schema, ErrorKind kind = ErrorKind::unsupported) {
  try {
    matcher_of(schema);
  } catch (const FieldError& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_FALSE(error.remedy().empty());
    return error.message();
  }
  return "taken";
}

TEST(Grammar, EndsExactlyWhereTheValueIsWhole) {
  GrammarMatcher matcher =
      matcher_of(R"({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})");
  for (const char* piece : {"{\"a\": ", "1", "2"}) {
    ASSERT_TRUE(matcher.accept(piece));
    EXPECT_FALSE(matcher.is_complete());
    EXPECT_FALSE(matcher.allowed()->empty());
  }
  ASSERT_TRUE(matcher.accept("}"));
  EXPECT_TRUE(matcher.is_complete());
  EXPECT_TRUE(matcher.allowed()->empty());
  EXPECT_FALSE(matcher.accept(" "));
  EXPECT_TRUE(matcher.is_complete());  // what did not fit changed nothing

  GrammarMatcher number = matcher_of(R"({"type": "integer"})");
  ASSERT_TRUE(number.accept("12"));
  EXPECT_TRUE(number.is_complete() && !number.allowed()->empty());  // or another digit
}

TEST(Grammar, TokensThatSpanStructureCountByTheirBytes) {
  // 256 is "ab", 257 "abc", 258 "bc".
  GrammarMatcher matcher = matcher_of(R"({"enum": ["ab", "abcd"]})");
  ASSERT_TRUE(matcher.accept("\""));
  std::vector<uint64_t> words(8);
  matcher.allowed()->add_to(words);
  EXPECT_TRUE(words[256 / 64] & 1);
  EXPECT_TRUE(words[257 / 64] >> 1 & 1);
  EXPECT_FALSE(words[258 / 64] >> 2 & 1);
  EXPECT_FALSE(words[259 / 64] >> 3 & 1);  // special
  ASSERT_TRUE(matcher.accept(256));
  EXPECT_FALSE(matcher.accept(256));
  ASSERT_TRUE(matcher.accept("\""));
  EXPECT_TRUE(matcher.is_complete());
}

TEST(Grammar, WhiteSpaceIsBoundedAndWithinTheValue) {
  const std::string schema =
      R"({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "null"}}}})";
  for (const char* text :
       {"[]", "[ ]", "[{}]", "[{\"a\":null}, {\"a\": null}]", "[\n  {\n    \"a\": null\n  }\n]"}) {
    EXPECT_TRUE(takes(schema, text)) << text;
  }
  for (const char* text : {" []", "[] ", "[  ]", "[{} ,{}]", "[{\"a\" :null}]", "[\t]", "[\n\n]"}) {
    EXPECT_FALSE(takes(schema, text)) << text;
  }
  EXPECT_TRUE(takes(schema, "[\n" + std::string(kMostIndent, ' ') + "]"));
  EXPECT_FALSE(takes(schema, "[\n" + std::string(kMostIndent + 1, ' ') + "]"));
}

TEST(Grammar, StringsAreUtf8WithTheEscapesOfJson) {
  const std::string schema = R"({"type": "string"})";
  for (const char* text :
       {"\"\"", "\"\xc3\xa9\xf0\x9f\x98\x80\"", R"("\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00\ud7ff\uE000")"}) {
    EXPECT_TRUE(takes(schema, text)) << text;
  }
  for (const char* text :
       {"\"\n\"", "\"\xc3\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xff\"",
        R"("\x")", R"("\u12")", R"("\ud83d")", R"("\ud83d\u0041")", R"("\ude00")", "\"\x1f\""}) {
    EXPECT_FALSE(takes(schema, text)) << text;
  }
}

TEST(Grammar, CountsCharactersNotBytes) {
  const std::string schema = R"({"type": "string", "minLength": 2, "maxLength": 3})";
  for (const char* text : {"\"ab\"", "\"\xc3\xa9\xf0\x9f\x98\x80\"", R"("\u00e9\n\ud83d\ude00")"}) {
    EXPECT_TRUE(takes(schema, text)) << text;
  }
  for (const char* text : {"\"\"", "\"a\"", "\"\xf0\x9f\x98\x80\"", "\"abcd\"", R"("\ud83d\ude00")"}) {
    EXPECT_FALSE(takes(schema, text)) << text;
  }
  const std::string matched = R"({"type": "string", "pattern": "^(a|b)+$", "minLength": 2, "maxLength": 3})";
  EXPECT_TRUE(takes(matched, "\"ab\"") && takes(matched, "\"aba\""));
  EXPECT_FALSE(takes(matched, "\"a\"") || takes(matched, "\"abab\"") || takes(matched, "\"ac\""));
}

TEST(Grammar, PropertiesComeInTheOrderOfTheSchema) {
  const std::string schema =
      R"({"type": "object", "properties": {"b": {}, "a": {"type": "null"}, "c": {"type": "null"}}, "required": ["a"]})";
  for (const char* text : {R"({"b":1,"a":null})", R"({"a":null,"c":null})", R"({"a":null})"}) {
    EXPECT_TRUE(takes(schema, text)) << text;
  }
  for (const char* text :
       {R"({"a":null,"b":1})", R"({"b":1})", R"({})", R"({"a":null,"d":1})", R"({"a":null,})"}) {
    EXPECT_FALSE(takes(schema, text)) << text;
  }
}

TEST(Grammar, AdditionalPropertiesHaveOtherNames) {
  const std::string schema =
      R"({"properties": {"name": {"type": "null"}}, "additionalProperties": {"type": "integer"}})";
  for (const char* text : {R"({"name":null,"nam":1,"names":2,"":3,"é":4})", R"({"x":1})", "{}"}) {
    EXPECT_TRUE(takes(schema, text)) << text;
  }
  for (const char* text : {R"({"name":1})", R"({"x":1,"name":2})", R"({"n\u0061me":1})", R"({"x":null})"}) {
    EXPECT_FALSE(takes(schema, text)) << text;
  }
}

TEST(Grammar, ReferencesMayRecurse) {
  const std::string schema =
      R"({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "array", "items": {"$ref": "#/$defs/a~1b"}}}})";
  EXPECT_TRUE(takes(schema, "[[],[[[]]]]"));
  EXPECT_FALSE(takes(schema, "[1]"));
  // Deeper than a stack may be is not begun; what was begun can be ended.
  GrammarMatcher deep = matcher_of(schema);
  int opened = 0;
  while (deep.accept("[")) ++opened;
  EXPECT_GT(opened, 100);
  EXPECT_TRUE(deep.accept(std::string(static_cast<size_t>(opened), ']')));
  EXPECT_TRUE(deep.is_complete());
  EXPECT_NE(refusal(R"({"$ref": "#"})", ErrorKind::invalid_argument).find("leads back to itself"),
            std::string::npos);
  EXPECT_NE(
      refusal(R"({"anyOf": [{"$ref": "#"}, {"type": "null"}]})", ErrorKind::invalid_argument).find("$ref"),
      std::string::npos);
  EXPECT_NE(refusal(R"({"allOf": [{"$ref": "#"}]})", ErrorKind::invalid_argument).find("leads back"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"$ref": "#/$defs/none"})", ErrorKind::invalid_argument).find("$ref"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"$ref": "other.json#/x"})").find("not within the schema"), std::string::npos);
}

TEST(Grammar, BoundsOfNumbersHoldDigitByDigit) {
  struct Case {
    const char* schema;
    std::vector<const char*> inside, outside;
  };
  const Case cases[] = {
      {R"({"type":"integer","minimum":-12,"maximum":105})",
       {"-12", "-9", "0", "99", "100", "105"},
       {"-13", "106", "-0", "00", "01", "1050", "1.0", "-100"}},
      {R"({"type":"integer","exclusiveMinimum":0})", {"1", "123456789012345678"}, {"0", "-1"}},
      {R"({"type":"integer","minimum":0.5,"exclusiveMaximum":3})", {"1", "2"}, {"0", "3"}},
      {R"({"type":"integer","maximum":4,"exclusiveMaximum":true})", {"3", "-3"}, {"4"}},
      {R"({"type":"number","minimum":-1.5,"exclusiveMaximum":2.25})",
       {"-1.5", "-1.49", "0", "2.2", "2.249999", "-0.1"},
       {"-1.51", "2.25", "2.3", "-2", "2.250", "1e0", "-0"}},
      {R"({"type":"number","exclusiveMinimum":0.1})", {"0.11", "1", "0.100001"}, {"0.1", "0.10", "0.0", "0"}},
      {R"({"type":"number"})",
       {"0", "-0.5e-300", "1E+20", "12.50"},
       {"01", "1.", ".5", "1e999", "+1", "NaN"}}};
  for (const Case& one : cases) {
    for (const char* text : one.inside) EXPECT_TRUE(takes(one.schema, text)) << one.schema << text;
    for (const char* text : one.outside) EXPECT_FALSE(takes(one.schema, text)) << one.schema << text;
  }
  for (int low = -23; low < 25; low += 6) {
    for (int high = low; high < 120; high += 17) {
      const std::string schema = fmt::format(R"({{"type":"integer","minimum":{},"maximum":{}}})", low, high);
      GrammarCompiler compiler(small());
      const auto grammar = compiler.json_schema(schema, "schema");
      for (int value = -130; value < 130; ++value) {
        GrammarMatcher matcher(grammar);
        const bool taken = matcher.accept(std::to_string(value)) && matcher.is_complete();
        EXPECT_EQ(taken, value >= low && value <= high) << schema << value;
      }
    }
  }
}

TEST(Grammar, KeywordsThatCannotBeHeldToAreRefusedByName) {
  for (const char* keyword :
       {"not", "if", "then", "else", "patternProperties", "propertyNames", "contains", "minProperties",
        "maxProperties", "multipleOf", "dependentRequired", "unevaluatedProperties", "$dynamicRef"}) {
    const std::string schema =
        fmt::format(R"({{"type": "object", "properties": {{"p": {{"{}": 1}}}}}})", keyword);
    EXPECT_NE(refusal(schema).find(fmt::format("schema/properties/p/{} ", keyword)), std::string::npos)
        << keyword;
  }
  EXPECT_NE(refusal(R"({"uniqueItems": true})").find("uniqueItems"), std::string::npos);
  EXPECT_EQ(refusal(R"({"uniqueItems": false, "title": "t", "description": "d", "default": 1, "x-note": 1})"),
            "taken");
  EXPECT_NE(refusal(R"({"propertis": {}})").find("propertis is no keyword"), std::string::npos);
  EXPECT_NE(refusal(R"({"format": "uri"})").find("\"uri\""), std::string::npos);
  EXPECT_NE(refusal(R"({"items": [{}]})").find("items is a list of schemas"), std::string::npos);
  EXPECT_NE(refusal(R"({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]})").find("oneOf"),
            std::string::npos);
  for (const char* pattern : {"(?=a)", "(?<!a)", "\\\\1", "\\\\bword", "\\\\p{L}", "a^b", "(a$)b", "a**"}) {
    EXPECT_NE(refusal(fmt::format(R"({{"pattern": "{}"}})", pattern)).find("not supported"),
              std::string::npos)
        << pattern;
  }
}

TEST(Grammar, SchemasThatAreNoneOrAdmitNothingAreRefused) {
  constexpr auto kInvalid = ErrorKind::invalid_argument;
  EXPECT_NE(refusal("{", kInvalid).find("not valid JSON"), std::string::npos);
  EXPECT_NE(refusal("[]", kInvalid).find("not a schema"), std::string::npos);
  EXPECT_NE(refusal(R"({"type": "text"})", kInvalid).find("no type"), std::string::npos);
  EXPECT_NE(refusal(R"({"minLength": -1})", kInvalid).find("minLength"), std::string::npos);
  EXPECT_NE(refusal(R"({"required": [1]})", kInvalid).find("required"), std::string::npos);
  EXPECT_NE(refusal(R"({"a": 1, "a": 2})", kInvalid).find("twice"), std::string::npos);
  for (const char* schema :
       {"false", R"({"enum": []})", R"({"type": "integer", "minimum": 2, "maximum": 1})",
        R"({"type": "string", "minLength": 3, "maxLength": 2})", R"({"const": 1, "type": "string"})",
        R"({"allOf": [{"type": "string"}, {"type": "null"}]})",
        R"({"properties": {"a": false}, "required": ["a"]})",
        R"({"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]})"}) {
    EXPECT_NE(refusal(schema, kInvalid).find("admits no value"), std::string::npos) << schema;
  }
}

TEST(Grammar, HostileSchemasCostBoundedTimeAndMemory) {
  const auto start = std::chrono::steady_clock::now();
  constexpr auto kTooMuch = ErrorKind::exhausted;
  EXPECT_NE(refusal(std::string(300'000, ' '), kTooMuch).find("bytes"), std::string::npos);
  std::string deep;
  for (int i = 0; i < 200; ++i) deep += R"({"items":)";
  EXPECT_NE(refusal(deep, kTooMuch).find("nested"), std::string::npos);
  for (const char* pattern : {"(?:a|b)*a(?:a|b){30}", "((a{100}){100}){100}", "[^x]{9999}"}) {
    EXPECT_NE(refusal(fmt::format(R"({{"pattern": "{}"}})", pattern), kTooMuch).find("too"),
              std::string::npos)
        << pattern;
  }
  EXPECT_NE(refusal(R"({"pattern": ".*", "maxLength": 1000000})", kTooMuch).find("too"), std::string::npos);
  std::string doubling = R"({"$defs":{"d0":{"type":"null"})";
  for (int i = 1; i < 40; ++i) {
    doubling +=
        fmt::format(R"(,"d{0}":{{"allOf":[{{"anyOf":[{{"$ref":"#/$defs/d{1}"}},{{"type":"integer"}}]}},)"
                    R"({{"anyOf":[{{"$ref":"#/$defs/d{1}"}},{{"type":"string"}}]}}]}})",
                    i, i - 1);
  }
  refusal(doubling + R"(},"$ref":"#/$defs/d39"})", kTooMuch);
  // Alternatives that begin alike for ever: so many readings are followed, and no more.
  GrammarMatcher many = matcher_of(
      R"({"$defs":{"a":{"anyOf":[{"type":"array","items":{"$ref":"#/$defs/a"},"maxItems":9},)"
      R"({"type":"array","items":{"$ref":"#/$defs/a"},"maxItems":8},{"type":"null"}]}},"$ref":"#/$defs/a"})");
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(many.accept("["));
  EXPECT_FALSE(many.allowed()->empty());
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 60);
}

TEST(Grammar, MasksAreKeptWithinABound) {
  GrammarCompiler compiler(small());
  const auto grammar = compiler.json_schema(R"({"type": "string", "maxLength": 100000})", "schema");
  GrammarMatcher matcher(grammar);
  ASSERT_TRUE(matcher.accept("\""));
  for (int i = 0; i < 3000; ++i) {
    ASSERT_TRUE(matcher.accept("a"));
    EXPECT_FALSE(matcher.allowed()->empty());
  }
  // Far from both bounds all counts are alike.
  EXPECT_LT(grammar->bytes(), 100'000);
}

TEST(Grammar, CallsOfToolsHaveQwensForm) {
  GrammarCompiler compiler(small());
  const std::vector<ToolSignature> tools = {
      {"weather", R"({"type":"object","properties":{"city":{"type":"string"}},"required":["city"]})",
       "tools[0]"},
      {"now", "", "tools[1]"}};
  const std::string call =
      "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Ulm\"}}\n</tool_call>";
  for (const bool several : {false, true}) {
    const auto grammar = compiler.tool_calls(tools, several);
    GrammarMatcher matcher(grammar);
    ASSERT_TRUE(matcher.accept(call));
    EXPECT_TRUE(matcher.is_complete());
    EXPECT_EQ(matcher.accept("\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"), several);
    EXPECT_FALSE(GrammarMatcher(grammar).accept("<tool_call>\n{\"name\": \"now\", \"arguments\": 1"));
    EXPECT_FALSE(GrammarMatcher(grammar).accept("Well"));
  }
  EXPECT_EQ(compiler.tool_calls(tools, true), compiler.tool_calls(tools, true));
}

}  // namespace
}  // namespace fovea
