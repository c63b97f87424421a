#!/usr/bin/env python3
"""Writes the goldens of JSON schemas: random schemas, compact instances, and what jsonschema says of them.

  python3 tools/make_schema_goldens.py      (needs `pip install jsonschema==4.26.0 rfc3339-validator==0.1.4`; seeded)

Instances are made to fit, with properties in the order of the schema and none besides those that it lists unless
additionalProperties is stated, as answers are written; then some are damaged. The judge decides which are valid.
Output: tests/data/grammar/schemas.json.xz, a list of {"schema": text, "valid": [texts], "invalid": [texts]}.
"""
import copy
import importlib.metadata
import json
import lzma
import random
import uuid
from pathlib import Path

import jsonschema

ROOT = Path(__file__).resolve().parent.parent
WORDS = ["", "a", "red", "été", "日本", "😀", "a\"b", "back\\slash", "tab\tx", "line\nend", "\u0001", "x" * 20, "null", "{}", "/"]
PATTERNS = [  # with strings that match, and that do not; ASCII, where Python and ECMA-262 agree
    ("^[a-z]{2,4}$", ["ab", "abcd"], ["a", "abcde", "AB", ""]),
    ("^\\d{3}-\\d{4}$", ["555-1234"], ["5551234", "55-12345"]),
    ("^(red|green)$", ["red", "green"], ["blue", "redgreen"]),
    ("foo", ["foo", "a foo b", "foofoo"], ["fo", "bar", ""]),
    ("^a.*z$", ["az", "a to z", "a\\z", "a\"z"], ["a", "zb", "ba z!"]),
    ("^[^\\s\"]+$", ["word", "a\\b"], ["two words", "quo\"te", ""]),
    ("^(?:[A-Z][a-z]* ?)+$", ["John Smith", "A"], ["john", ""]),
    ("^[\\w.+-]+@[\\w-]+\\.[a-z]{2,}$", ["me@example.org"], ["me@", "@example.org"]),
    ("^$|^x+$", ["", "xxx"], ["xy"]),
    ("\\.(?:png|jpe?g)$", ["a.png", ".jpeg"], ["png", "a.gif"]),
]
FORMATS = {
    "date": (["2024-02-29", "1999-12-31", "0001-01-01"], ["2023-02-29", "2024-13-01", "2024-00-10", "24-01-01"]),
    "time": (["12:34:56Z", "00:00:00.5+01:00"], ["24:00:00Z", "12:60:00Z", "noon"]),
    "date-time": (["2024-02-29T23:59:59Z", "1970-01-01T00:00:00.25-05:30"], ["2024-02-30T00:00:00Z", "2024-01-01"]),
    "uuid": ([str(uuid.UUID(int=7 << 100)), "12345678-90ab-cdef-ABCD-0123456789ab"], ["12345678", "g" * 36]),
    "ipv4": (["127.0.0.1", "255.255.255.255", "0.0.0.0"], ["256.1.1.1", "1.2.3", "01.2.3.4"]),
    "email": (["me@example.org", "a.b+c@d.e.co"], ["example.org", "nobody"]),
}


class Maker:
    def __init__(self, rng):
        self.rng = rng
        self.defs = {}

    def schema(self, depth):
        simple = [self.string, self.integer, self.number, self.boolean, self.enum, self.types]
        deep = [self.array, self.object, self.object, self.any_of, self.all_of, self.one_of, self.ref, self.tree]
        return self.rng.choice(simple if depth == 0 else simple + deep * 2)(depth)

    def string(self, _):
        kind = self.rng.randrange(4)
        if kind == 0:
            return {"type": "string"}
        if kind == 1:
            low = self.rng.choice([0, 0, 1, 3])
            return {"type": "string", "minLength": low, "maxLength": low + self.rng.randrange(0, 30)}
        if kind == 2:
            return {"type": "string", "pattern": self.rng.choice(PATTERNS)[0]}
        return {"type": "string", "format": self.rng.choice(list(FORMATS))}

    def integer(self, _):
        bounds = {}
        low = self.rng.choice([0, 1, -5, 17, -1234, 99999])
        if self.rng.random() < 0.6:
            bounds[self.rng.choice(["minimum", "exclusiveMinimum"])] = low
        if self.rng.random() < 0.6:
            bounds[self.rng.choice(["maximum", "exclusiveMaximum"])] = low + self.rng.choice([2, 3, 100, 54321])
        return {"type": "integer", **bounds}

    def number(self, _):
        bounds = {}
        low = self.rng.choice([0, 0.5, -1.25, 3, -1000, 12.125])
        if self.rng.random() < 0.5:
            bounds[self.rng.choice(["minimum", "exclusiveMinimum"])] = low
        if self.rng.random() < 0.5:
            bounds[self.rng.choice(["maximum", "exclusiveMaximum"])] = low + self.rng.choice([0.5, 1, 2000])
        return {"type": "number", **bounds}

    def boolean(self, _):
        return {"type": self.rng.choice(["boolean", "null"])}

    def enum(self, _):
        values = self.rng.sample([*WORDS, 1, 2.5, True, None, [1, "x"], {"a": 1}], self.rng.randint(1, 5))
        return {"const": values[0]} if len(values) == 1 else {"enum": values}

    def types(self, _):
        return {"type": self.rng.sample(["string", "integer", "null", "boolean", "number"], 2)}

    def array(self, depth):
        schema = {"type": "array"}
        if self.rng.random() < 0.3:
            schema["prefixItems"] = [self.schema(depth - 1) for _ in range(self.rng.randint(1, 3))]
            schema["items"] = self.rng.choice([False, self.schema(depth - 1)])
        else:
            schema["items"] = self.schema(depth - 1)
        if self.rng.random() < 0.5:
            schema["minItems"] = self.rng.randrange(3)
        if self.rng.random() < 0.5:
            schema["maxItems"] = schema.get("minItems", 0) + self.rng.randrange(4)
        if schema["items"] is False and schema.get("minItems", 0) > len(schema["prefixItems"]):
            del schema["minItems"]
        return schema

    def object(self, depth, names="abcdefgh"):
        keys = self.rng.sample([*names, "a b", "q\"", "ключ", "name", "names"], self.rng.randrange(5))
        schema = {"type": "object", "properties": {key: self.schema(depth - 1) for key in keys}}
        schema["required"] = [key for key in keys if self.rng.random() < 0.6]
        more = self.rng.choice([False, False, True, None, {"type": "integer"}])
        if more is not None:
            schema["additionalProperties"] = more
        return schema

    def any_of(self, depth):
        return {"anyOf": [self.schema(depth - 1) for _ in range(self.rng.randint(2, 3))]}

    def one_of(self, depth):
        alternatives = []
        for tag in ["cat", "dog", "cow"][:self.rng.randint(2, 3)]:
            one = self.object(depth, "stuv")
            one["properties"] = {"kind": {"const": tag}, **one["properties"]}
            one["required"] = ["kind", *one["required"]]
            alternatives.append(one)
        return {"oneOf": alternatives}

    def all_of(self, depth):
        parts = [self.object(depth, "abc"), self.object(depth, "defg")]
        for part in parts:
            part.pop("additionalProperties", None)
        parts[1]["properties"] = {k: v for k, v in parts[1]["properties"].items() if k not in parts[0]["properties"]}
        parts[1]["required"] = [key for key in parts[1]["required"] if key in parts[1]["properties"]]
        return {"allOf": parts}

    def ref(self, depth):
        name = f"d{len(self.defs)}"
        self.defs[name] = True
        self.defs[name] = self.schema(depth - 1)
        return {"$ref": f"#/$defs/{name}"}

    def tree(self, depth):
        name = f"t{len(self.defs)}"
        node = {"type": "object", "additionalProperties": False, "required": ["value", "next"]}
        self.defs[name] = node
        node["properties"] = {"value": self.schema(0), "next": {"anyOf": [{"type": "null"}, {"$ref": f"#/$defs/{name}"}]},
                              "more": {"type": "array", "items": {"$ref": f"#/$defs/{name}"}, "maxItems": 2}}
        return {"$ref": f"#/$defs/{name}"}

    # An instance that should fit; `deep` runs out.
    def instance(self, schema, deep=6):
        rng = self.rng
        if schema is True:
            return rng.choice([1, "x", None, [], {}, [True, {"k": 2}]])
        if "$ref" in schema:
            return self.instance(self.defs[schema["$ref"].split("/")[-1]], deep - 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return rng.choice(schema["enum"])
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self.instance(schema[key][0] if deep <= 0 else rng.choice(schema[key]), deep - 1)
        if "allOf" in schema:
            return {k: v for part in schema["allOf"] for k, v in self.instance(part, deep).items()}
        kind = schema["type"] if isinstance(schema["type"], str) else rng.choice(schema["type"])
        return getattr(self, f"an_{kind}")(schema, deep)

    def an_null(self, *_):
        return None

    def an_boolean(self, *_):
        return self.rng.random() < 0.5

    def an_integer(self, schema, _):
        low = schema.get("minimum", schema.get("exclusiveMinimum", -(10 ** self.rng.randrange(1, 9))))
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 10 ** self.rng.randrange(1, 9)))
        return self.rng.choice([low, high, low + 1, high - 1, self.rng.randint(int(min(low, high)), int(max(low, high)))])

    def an_number(self, schema, deep):
        bounded = any(key.lower().endswith("mum") for key in schema)
        if not bounded and self.rng.random() < 0.5:
            return self.rng.choice([1e-7, 1.5e300 / 1e100, -2.25, 6.02e23, 0.1, 1e22, 123456.75])
        low = schema.get("minimum", schema.get("exclusiveMinimum", -50))
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 100))
        # Of a bounded number no -0 is written.
        return self.rng.choice([low, high, round(self.rng.uniform(low, high), self.rng.randrange(5)) + 0.0, int(low) + 1])

    def an_string(self, schema, _):
        if "pattern" in schema:
            return self.rng.choice(next(p[1] for p in PATTERNS if p[0] == schema["pattern"]))
        if "format" in schema:
            return self.rng.choice(FORMATS[schema["format"]][0])
        if "maxLength" in schema:
            length = self.rng.randint(schema["minLength"], schema["maxLength"])
            return "".join(self.rng.choice(["a", "é", "\"", "😀", "\\", " ", "\n", "7"]) for _ in range(length))
        return self.rng.choice(WORDS)

    def an_array(self, schema, deep):
        first = schema.get("prefixItems", [])
        least, most = schema.get("minItems", 0), schema.get("maxItems", 4)
        if deep <= 0:
            most = least
        if schema["items"] is False:
            most = min(most, len(first))
        count = self.rng.randint(min(least, most), most)
        return [self.instance(first[i] if i < len(first) else schema["items"], deep - 1) for i in range(count)]

    def an_object(self, schema, deep):
        value = {}
        for key, part in schema["properties"].items():
            if key in schema["required"] or (deep > 0 and self.rng.random() < 0.5):
                value[key] = self.instance(part, deep - 1)
        more = schema.get("additionalProperties", False)
        if more is not False and deep > 0:
            for key in self.rng.sample(["z", "na", "nam", "", "é"], self.rng.randrange(3)):
                if key not in schema["properties"]:
                    value[key] = self.instance(more, 0)
        return value

    # Something else in one place.
    def damaged(self, value):
        rng = self.rng
        value = copy.deepcopy(value)
        if isinstance(value, dict) and value and rng.random() < 0.8:
            key = rng.choice(list(value))
            action = rng.randrange(3)
            if action == 0:
                del value[key]
            elif action == 1:
                value["extra"] = 1.5
            else:
                value[key] = self.damaged(value[key])
            return value
        if isinstance(value, list) and value and rng.random() < 0.8:
            place = rng.randrange(len(value))
            if rng.random() < 0.5:
                value[place] = self.damaged(value[place])
            else:
                value.append(value[place])
            return value
        if isinstance(value, str) and rng.random() < 0.7:
            return rng.choice([value + "!", value[1:], value * 40, rng.choice(WORDS)])
        if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.7:
            return rng.choice([value + 1, -value, value * 1000, value + 0.5])
        return rng.choice([None, True, 0, -1, 0.5, "x", [], {}, [1], {"a": None}])


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def case(seed):
    maker = Maker(random.Random(seed))
    schema = maker.schema(seed % 4)
    if maker.defs:
        schema = {**schema, "$defs": maker.defs}
    judge = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    jsonschema.Draft202012Validator.check_schema(schema)
    valid, invalid = set(), set()
    for _ in range(8):
        made = maker.instance(schema)
        if judge.is_valid(made):
            valid.add(compact(made))
        for wrong in (made, maker.damaged(made), maker.damaged(maker.damaged(made))):
            if not judge.is_valid(wrong):
                invalid.add(compact(wrong))
    return {"schema": compact(schema), "valid": sorted(valid), "invalid": sorted(invalid)}


def bad_strings():
    """Each pattern and format against strings that it must not take."""
    for pattern, good, bad in PATTERNS:
        yield {"type": "string", "pattern": pattern}, good, bad
    for name, (good, bad) in FORMATS.items():
        yield {"type": "string", "format": name}, good, bad


def main():
    cases = [case(seed) for seed in range(500)]
    for schema, good, bad in bad_strings():
        judge = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        assert all(map(judge.is_valid, good)) and not any(map(judge.is_valid, bad)), schema
        cases.append({"schema": compact(schema), "valid": list(map(compact, good)), "invalid": list(map(compact, bad))})
    document = {"jsonschema": importlib.metadata.version("jsonschema"), "cases": cases}
    path = ROOT / "tests/data/grammar/schemas.json.xz"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(lzma.compress(text.encode(), preset=9))
    print(f"{len(cases)} schemas, {sum(len(c['valid']) for c in cases)} valid, "
          f"{sum(len(c['invalid']) for c in cases)} invalid instances, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
