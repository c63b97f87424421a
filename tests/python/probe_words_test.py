"""Goal: suites are read, answers judged and words chosen as in C++. Method: the tables of src/suite/scoring_test.cc and
of src/audit's tests; nothing here runs a model."""

import base64
import io
import json
import random
import re
import subprocess
import sys

import pytest
import torch
from PIL import Image

from conftest import ROOT
from fovea import Error
from fovea.probe import asked, scoring, statistics
from fovea.probe.configuration import parse_configuration
from fovea.probe.questions import Question, read_suite, suite_of
from fovea.probe.verdict import ranges

BF16 = torch.bfloat16
CASES = {
    "exact": [("7", "7", True), ("7 ", "7", False), ("Red", "red", False), ("", "7", False)],
    "normalized": [(" Red.\n", "red", True), ("the  red\t fox", "The red fox", True), ('"7"', "7", True), ("**7**", "7", True),
                   ("“Zürich”", "zürich", True), ("Zu\u0308rich", "Z\u00fcrich", True), ("ÉTÉ", "été", False), ("-7", "7", False),
                   ("50%", "50", False), (".5", "5", False), ("red fox", "redfox", False), ("seven 7", "7", False), ("...", "!", False),
                   ("!", "!", True), ("", "!", False), (" \n", " ", False)],
    "choice": [("B", "B", True), ("(B)", "B", True), ("b.", "B", True), ("The answer is C) seven", "c", True), ("I think it is B", "B", True),
               ("a cat, so b", "B", True), ("A", "A", True), ("a", "A", True), ("A because it is red", "A", True), ("I", "I", True),
               ("Banana", "B", False), ("it's D'", "D", False), ("B2", "B", False), ("7", "B", False), ("", "B", False)],
    "number": [("7", "7.0", True), ("There are 1,234 cats.", "1234", True), ("7 + 5 = 12", "12", True), ("-3.50", "-3.5", True), ("−3", "-3", True),
               ("3-4", "4", True), ("007", "7", True), ("-0", "0", True), (".5", "0.50", True), ("1.2e3", "1200", True), ("12e-1", "1.2", True),
               ("1,2,3", "3", True), ("12,34", "34", True), ("$7.", "7", True), ("17", "7", False), ("7", "-7", False), ("seven", "7", False),
               ("0.30000000000000001", "0.3", False)],
    "substring": [("It is a Red  Fox!", "red fox", True), ("17", "7", True), ("red", "red fox", False), ("what?!", "?!", True), ("", "x", False)],
}


@pytest.mark.parametrize("rule,answer,expected,right", [(rule, *case) for rule, cases in CASES.items() for case in cases])
def test_answers_are_judged_as_in_cpp(rule, answer, expected, right):
    assert scoring.is_right(answer, [expected], rule) is right


def test_numbers_with_exponents_beyond_three_digits_are_two_numbers():
    assert scoring.last_number("1e99999") == "99999"
    assert scoring.last_number("no digit") is None


def test_expected_answers_that_cannot_be_met_are_refused():
    for expected, rule in ((" ", "exact"), ("seven", "number"), ("seven", "choice")):
        with pytest.raises(Error):
            scoring.check_expected(expected, rule)
    scoring.check_expected("!", "normalized")
    with pytest.raises(Error, match="fuzzy"):
        scoring.rule_named("fuzzy")


def test_statistics_are_those_of_the_audit():
    assert statistics.wilson_interval(0, 0) == [0, 1]
    low, high = statistics.wilson_interval(9, 10)  # Wilson 1927, by hand: centre 0.7889, half 0.1934
    assert (round(low, 3), round(high, 3)) == (0.596, 0.982)
    # The table of docs/guide/audit.md, "What safe means".
    table = {(0, .05): 59, (0, .02): 149, (0, .01): 299, (1, .05): 93, (2, .02): 313, (3, .01): 773}
    assert {place: statistics.right_answers_needed(*place) for place in table} == table
    assert statistics.right_answers_needed(0, 0) is None
    assert statistics.sign_test(5, 0) == pytest.approx(1 / 32)
    p = torch.tensor([[0.0, 1.0, 2.0]])
    assert statistics.kl_divergence(p, p + 5) == [pytest.approx(0, abs=1e-15)]
    assert statistics.kl_divergence(torch.zeros(1, 2), torch.tensor([[0.0, -100.0]]))[0] == pytest.approx(50 - 0.6931471805599453)


def test_ranges_of_layers():
    assert ranges([0, 1, 2, 7]) == "0-2, 7"
    assert ranges([0, 2, 4, 6, 8, 9]) == "0, 2, 4, 6 and 2 more"


def test_configurations():
    assert parse_configuration("eager", BF16).own == "eager"
    emulated = parse_configuration("eager-bf16:text.scores=fp32;text.layers.-1.scaled=fp32", BF16)
    assert emulated.own is None
    assert emulated.text.nodes_at(0, 3).scaled == "bf16" and emulated.text.nodes_at(2, 3).scaled == "fp32"
    assert emulated.vision.nodes.scores == "bf16" and emulated.text.nodes.scores == "fp32"
    assert parse_configuration("eager-fp16", BF16).dtype == torch.float16
    for text, word in (("eager-bf17", "eager-bf16"), ("eager:text.scores=fp32", "preset"), ("eager-bf16:text.qkv=fp32", "fovea audit"),
                       ("eager-bf16:text.scores=int8", "bf16"), ("eager-bf16:nonsense", "TOWER|text.NODE"), ("flash-bf16:text.scores=bf16", "eager")):
        with pytest.raises(Error, match=word):
            parse_configuration(text, BF16)


def test_a_suite_with_broken_lines(tmp_path):
    good = {"id": "a", "messages": [{"role": "user", "content": "Which?"}], "answer": "7"}
    lines = [json.dumps(good), "{", json.dumps(good), json.dumps(good | {"id": "b", "answer": ["x", "y"], "match": "number"}),
             json.dumps(good | {"id": "c", "messages": [{"role": "user", "content": [{"type": "image", "image": "gone.png"}]}]}), "", "[1]"]
    (tmp_path / "suite.jsonl").write_text("\n".join(lines))
    suite = read_suite(tmp_path)
    assert [q.id for q in suite.items] == ["a"]
    assert suite.lines == 6
    assert [p["line"] for p in suite.problems] == [2, 3, 4, 5, 7]
    assert "gone.png" in suite.problems[3]["message"]
    with pytest.raises(Error, match="no question"):
        (tmp_path / "empty.jsonl").write_text("\n")
        read_suite(tmp_path / "empty.jsonl")


def test_questions_of_the_caller():
    suite = suite_of(["one", [{"role": "user", "content": "two"}], {"input_ids": torch.tensor([[1]])}])
    assert [q.prompt for q in suite.items] == ["one", None, None]
    assert suite.items[1].messages and suite.items[2].inputs is not None
    with pytest.raises(Error):
        suite_of([])


def test_import_of_fovea_loads_nothing():
    words = "import fovea, sys; assert 'torch' not in sys.modules and 'transformers' not in sys.modules; print(fovea.__version__)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_version_is_the_programs():
    found = re.search(r"regex = '(.*)'", (ROOT / "pyproject.toml").read_text()).group(1)
    assert re.search(found, (ROOT / "CMakeLists.txt").read_text()).group("value")


@pytest.mark.parametrize("command", ["probe", "verify"])
def test_a_command_refuses_a_missing_folder_in_a_sentence(command, tmp_path):
    suite = ["--suite", str(tmp_path)] if command == "probe" else []
    done = subprocess.run([sys.executable, "-m", f"fovea.{command}", str(tmp_path / "nowhere"), *suite], capture_output=True, text=True)
    assert done.returncode == 2
    assert "nowhere: no such folder" in done.stderr and "remedy: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name,line", [
    ("fp32", "all in fp32; attention in fp32 between its inputs and its output (sdpa)"),
    ("eager-bf16", "bf16; attention scores rounded to bf16 before softmax, probabilities rounded to bf16"),
    ("eager-fp16-old", "fp16; attention scores rounded to fp16 before softmax, infinite ones made 0, probabilities rounded to fp16; "
     "vision tower: attention scores rounded to fp16 before softmax, probabilities rounded to fp16"),
    ("flash-bf16", "bf16; attention scores in fp32, probabilities rounded to bf16 (FlashAttention-2)"),
    ("eager-qkv-fp32", "bf16; attention scores kept in fp32"),
    ("eager-bf16:text.layers.0.scores=fp32;text.layers.0.scaled=fp32",
     "bf16; attention scores rounded to bf16 before softmax, probabilities rounded to bf16 (1 of 3 layers otherwise); "
     "vision tower: attention scores rounded to bf16 before softmax, probabilities rounded to bf16"),
    ("eager", "bf16; attention scores rounded to bf16 before softmax, probabilities rounded to bf16"),
    ("mine", "bf16; attention as transformers' mine computes it"),
])
def test_one_line_says_what_a_configuration_is(name, line):
    assert asked.describe(parse_configuration(name, BF16, ("mine",)), {"text": 3, "vision": 4}) == line


def test_thumbnails_are_small_pngs_without_anything_else():
    noise = Image.frombytes("RGB", (900, 700), random.Random(7).randbytes(900 * 700 * 3))
    noise.info.update(icc_profile=b"profile", comment="a secret")
    for image in (noise, noise.crop((0, 0, 3, 700)), Image.new("L", (1, 1))):
        head, _, data = asked.thumbnail(image).partition(",")
        png = base64.b64decode(data, validate=True)
        assert head == "data:image/png;base64" and len(png) <= asked.THUMBNAIL_BYTES
        assert max(Image.open(io.BytesIO(png)).size) <= 128
        chunks, at = [], 8
        while at < len(png):
            chunks.append(png[at + 4:at + 8])
            at += 12 + int.from_bytes(png[at:at + 4], "big")
        assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}


def test_prompts_say_where_pictures_stand():
    picture = {"type": "image", "image": "a.png"}
    question = lambda *messages: Question("q", messages=list(messages))
    assert asked.shown_prompt(question({"role": "user", "content": [{"text": "A: "}, picture, {"text": "What?"}]})) == "A: [picture 1] What?"
    assert asked.shown_prompt(question({"role": "system", "content": "Be short."}, {"role": "user", "content": [picture, {"text": "What?"}]})) == \
        "system: Be short.\nuser: [picture 1] What?"
    shown = asked.shown_prompt(Question("q", prompt="begin " + "ä" * 2000 + " end?"))
    assert shown.startswith("begin ä") and shown.endswith(" end?") and "bytes left out" in shown and "\ufffd" not in shown
