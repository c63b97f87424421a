"""When an answer is right: the five rules of src/suite/scoring.h."""

import re
import unicodedata

from ..errors import Error

RULES = ("exact", "normalized", "choice", "number", "substring")
_OUTER = " .,;:!?\"'`*_()[]{}“”‘’„«»…。、，！？：；（）·"
_SPACES = re.compile(r"[ \t\n\v\f\r]+")
_UPPER = {ord(c): c.lower() for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_NUMBER = re.compile(r"(?:(\d{1,3}(?:,\d{3}(?!\d))+|\d+)(\.\d+)?|(\.\d+))(?:[eE]([+-]?\d{1,3})(?!\w))?", re.ASCII)


def rule_named(name):
    name = "normalized" if name in (None, "normalised") else name
    if name not in RULES:
        raise Error("invalid_argument", f'unknown match "{str(name)[:100]}"',
                    "write exact, normalized, choice, number or substring")
    return name


def normalized_answer(text):
    text = _SPACES.sub(" ", unicodedata.normalize("NFC", text).translate(_UPPER))
    start, end = 0, len(text)
    while start < end and text[start] in _OUTER and not (text[start] == "." and text[start + 1:start + 2].isdecimal()):
        start += 1
    while end > start and text[end - 1] in _OUTER:
        end -= 1
    return text[start:end]


def _is_word(character):
    return character.isascii() and character.isalnum() or character == "_" or ord(character) >= 128


def _stands_alone(text, at):
    touches = lambda c: _is_word(c) or c == "'"
    return not (at > 0 and touches(text[at - 1])) and not (at + 1 < len(text) and touches(text[at + 1]))


def choice_letter(text):
    """The first stand-alone capital letter A-Z; if there is none, the first stand-alone small one, as a capital."""
    def before_a_word(at):
        return at + 2 < len(text) and text[at + 1] in " \t\n\v\f\r" and _is_word(text[at + 2])

    for letters, articles in (("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "I"), ("abcdefghijklmnopqrstuvwxyz", "ai")):
        for at, character in enumerate(text):
            if character in letters and _stands_alone(text, at) and not (character in articles and before_a_word(at)):
                return character.upper()
    return None


def last_number(text):
    """The last number, as a canonical decimal."""
    found = None
    for match in _NUMBER.finditer(text):
        found = match
    if found is None:
        return None
    whole, fraction = (found[1] or "").replace(",", ""), (found[2] or found[3] or "")[1:]
    exponent = int(found[4] or 0) - len(fraction)
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "0"
    kept = digits.rstrip("0")
    exponent += len(digits) - len(kept)
    left = text[:found.start()]
    negative = left[-1:] in ("-", "−") and not (len(left) > 1 and _is_word(left[-2]))
    sign = "-" if negative else ""
    if exponent >= 0:
        return sign + kept + "0" * exponent
    if len(kept) <= -exponent:
        return f"{sign}0.{kept.rjust(-exponent, '0')}"
    return f"{sign}{kept[:exponent]}.{kept[exponent:]}"


def _matches(answer, expected, rule):
    if rule == "exact":
        return answer == expected
    if rule == "normalized":
        wanted = normalized_answer(expected)
        return normalized_answer(answer) == wanted if wanted else answer.strip() == expected.strip()
    if rule == "choice":
        letter = choice_letter(answer)
        return letter is not None and letter == choice_letter(expected)
    if rule == "number":
        number = last_number(answer)
        return number is not None and number == last_number(expected)
    wanted = normalized_answer(expected)
    return wanted in normalized_answer(answer) if wanted else expected.strip() in answer


def is_right(answer, expected, rule):
    """An answer of nothing but white space is always wrong."""
    return bool(answer.strip(" \t\n\v\f\r")) and any(_matches(answer, one, rule) for one in expected)


def check_expected(expected, rule):
    """Refuses what the rule could never accept because of `expected` itself."""
    def refuse(what, remedy):
        raise Error("invalid_argument", f'answer "{expected[:100]}" {what}', remedy)

    if not expected.strip():
        refuse("is empty", "give the text that a right answer has")
    if rule == "choice" and choice_letter(expected) is None:
        refuse('holds no stand-alone letter, but match is "choice"', 'give the letter, say "B"')
    if rule == "number" and last_number(expected) is None:
        refuse('holds no number, but match is "number"', 'give the number, say "7"')
