"""Goal: on the demo model the probe finds in transformers what `fovea audit` finds in fovea, leaves the model as it was, and
finds what looks like attention and is not. Method: both are run on the same questions, and the reports compared."""

import json
import subprocess

import pytest
import torch
import transformers
from PIL import Image

import fovea
from conftest import DEMO
from fovea.probe import PillowProcessor
from fovea.probe.questions import read_suite

COUNT = 6
IS_4 = transformers.__version__.startswith("4.")


@pytest.fixture(scope="module")
def audit(program, suite, tmp_path_factory):
    file = tmp_path_factory.mktemp("audit") / "audit.json"
    subprocess.run([program, "audit", "-m", str(DEMO), "--suite", str(suite), "--limit", str(COUNT), "--compare", "eager-bf16,sdpa", "--drift",
                    "--attribute", "--max-new-tokens", "8", "--json", str(file)], check=True, capture_output=True)
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def before(demo):
    return {name: value.clone() for name, value in [*demo.named_parameters(), *demo.named_buffers()]}


@pytest.fixture(scope="module")
def report(demo, demo_processor, suite, before):
    return fovea.probe(demo, demo_processor, suite, ["eager", "sdpa"], limit=COUNT, max_new_tokens=8)


def by_name(json_):
    return {c["name"]: c for c in json_["configurations"]}


def test_same_answers_verdicts_and_guilty_node(report, audit):
    theirs, ours = by_name(audit), by_name(report.json)
    assert [i["answer"] for i in ours["fp32"]["items"]] == [i["answer"] for i in theirs["fp32"]["items"]]
    assert [i["answer"] for i in ours["sdpa"]["items"]] == [i["answer"] for i in theirs["sdpa"]["items"]]
    assert [i["context"] for i in ours["fp32"]["items"]] == [i["context"] for i in theirs["fp32"]["items"]]
    assert theirs["eager-bf16"]["correct"] < theirs["fp32"]["correct"] >= 5  # otherwise nothing here says anything
    said = "\n".join(audit["conclusion"])
    assert "Not safe here: eager-bf16" in said and "Undecided: sdpa" in said
    assert report.verdicts == {"eager": "unsafe", "sdpa": "undecided"}
    assert report.guilty == audit["attribution_of"]["guilty"] == "text.scores+text.scaled"
    assert report.json["safety"] == audit["safety"]


def test_same_rows_and_largest_scores(report, audit):
    """At most 1 % of rows differ in being at risk, and each layer's largest score by what bf16 activations differ by in two
    libraries: a few roundings of q and k, 2^-8 each."""
    for theirs_name, ours_name in (("fp32", "fp32"), ("eager-bf16", "eager"), ("sdpa", "sdpa")):
        theirs, ours = by_name(audit)[theirs_name], by_name(report.json)[ours_name]
        assert ours["rows"] == theirs["rows"]
        assert (ours["rows_at_risk"] is None) == (theirs["rows_at_risk"] is None)
        assert len(ours["layers"]) == len(theirs["layers"])
        for mine, other in zip(ours["layers"], theirs["layers"]):
            place = (ours_name, mine["tower"], mine["layer"])
            assert (mine["tower"], mine["layer"], mine["rows"]) == (other["tower"], other["layer"], other["rows"])
            if other["rows_at_risk"] is not None:
                assert abs(mine["rows_at_risk"] - other["rows_at_risk"]) <= 0.01 * other["rows"], place
        first = [layer for layer in ours["layers"] if layer["tower"] == "text"][0]
        other = [layer for layer in theirs["layers"] if layer["tower"] == "text"][0]
        assert first["largest_score"] == pytest.approx(other["largest_score"], rel=4 * 2 ** -8), ours_name
    assert by_name(report.json)["eager"]["rows_at_risk"] > 0


def test_which_layer_is_said(report):
    layers = {layer["layer"]: layer for layer in by_name(report.json)["eager"]["layers"] if layer["tower"] == "text"}
    assert layers[0]["alone"]["kl"] > 0.5 > layers[1]["alone"]["kl"]  # the biases stand in layers 0 and 2
    assert any(sentence.startswith("Where: ") and "decoder layer 0" in sentence for sentence in report.conclusion)
    assert layers[0]["kernel_error"] > 0.3
    sdpa = by_name(report.json)["sdpa"]
    assert all(layer["kernel_error"] < 0.005 for layer in sdpa["layers"])  # one rounding of P and one of the output
    assert sdpa["logits_error"] < 0.05 < by_name(report.json)["eager"]["logits_error"]


def test_the_model_is_left_as_it_was(demo, report, before):
    after = dict([*demo.named_parameters(), *demo.named_buffers()])
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name].dtype == value.dtype and torch.equal(after[name], value), name
    assert demo.config._attn_implementation == "sdpa" == demo.config.vision_config._attn_implementation
    assert not demo.training and "forward" not in vars(demo.model.visual)
    with pytest.raises(fovea.Error, match="fovea.probe only"):
        demo.set_attn_implementation("fovea_probe")
        try:
            demo(input_ids=torch.tensor([[5, 6]]))
        finally:
            demo.set_attn_implementation("sdpa")


def test_json_is_the_audits(report, audit):
    """Every field of the audit is there; what the probe adds is said in the guide."""
    text = json.dumps(report.json, allow_nan=False)
    assert json.loads(text)["format"] == "fovea-audit"
    assert audit.keys() <= report.json.keys()
    for ours, theirs in zip(report.json["configurations"], audit["configurations"]):
        assert theirs.keys() <= ours.keys()
        assert theirs["items"][0].keys() <= ours["items"][0].keys()
        assert theirs["layers"][0].keys() <= ours["layers"][0].keys()
    assert audit["attribution"][0].keys() == report.json["attribution"][0].keys()
    assert "fovea_probe" not in text


def test_page(report, monkeypatch, program):
    monkeypatch.setenv("FOVEA_PROGRAM", program)
    page = report.html()
    assert "Not safe here" in page and "text.scores+text.scaled" in page and "transformers " + transformers.__version__ in page
    assert "srcdoc" in report._repr_html_()


def test_page_without_compiled_code_says_so(report, monkeypatch):
    monkeypatch.delenv("FOVEA_PROGRAM", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(fovea.Error, match="FOVEA_PROGRAM"):
        report.html()
    assert report._repr_html_().startswith("<pre>")


def inputs_of(processor, suite, count):
    from fovea.probe.questions import inputs_of
    return [inputs_of(processor, question, {"mm_token_type_ids"}) for question in read_suite(suite).items[:count]]


def test_positions_of_text_are_found(demo, demo_processor, suite):
    inputs = inputs_of(demo_processor, suite, 2)
    for one in inputs:
        one.pop("mm_token_type_ids")
    found = fovea.probe(demo, demo_processor, inputs, ["sdpa"], drift=False, attribute=False, max_new_tokens=2)
    kinds = [finding["kind"] for finding in found.findings]
    if IS_4:  # it computes them from the ids
        assert "text_only_positions" not in kinds
        return
    assert "text_only_positions" in kinds
    finding = found.findings[kinds.index("text_only_positions")]
    assert "2 of 2" in finding["message"] and "mm_token_type_ids" in finding["remedy"]
    assert any("mm_token_type_ids" in sentence for sentence in found.conclusion)


def test_a_missing_mask_is_found_and_a_present_one_is_not(demo, demo_processor, suite):
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface
    AttentionInterface.register("maskless", ALL_ATTENTION_FUNCTIONS["sdpa"])
    ask = lambda: fovea.probe(demo, demo_processor, inputs_of(demo_processor, suite, 1), ["eager", "sdpa", "maskless"], drift=False,
                              attribute=False, max_new_tokens=1)
    try:
        found = [finding for finding in ask().findings if finding["kind"] == "missing_mask"]
        assert len(found) == 1 and found[0]["message"].startswith("maskless: ") and "AttentionMaskInterface" in found[0]["remedy"]
        AttentionMaskInterface.register("maskless", sdpa_mask)
        assert not [finding for finding in ask().findings if finding["kind"] == "missing_mask"]
    finally:
        AttentionInterface._global_mapping.pop("maskless")
        AttentionMaskInterface._global_mapping.pop("maskless", None)


def test_pixels_and_padding_side(demo, tmp_path):
    Image.new("RGB", (30, 30), "red").save(tmp_path / "small.png")
    question = {"id": "small", "messages": [{"role": "user", "content": [{"type": "image", "image": str(tmp_path / "small.png")},
                                                                        {"type": "text", "text": "What colour is the picture?"}]}]}
    kinds = lambda processor: {f["kind"]: f for f in fovea.probe(demo, processor, [question], ["sdpa"], drift=False, attribute=False,
                                                                  max_new_tokens=1).findings}
    processor = PillowProcessor(DEMO)
    processor.tokenizer.padding_side = "left"
    assert not kinds(processor)
    processor.tokenizer.padding_side = "right"
    processor.image_processor.min_pixels = 784
    processor.image_processor.size = dict(shortest_edge=784, longest_edge=1003520)
    found = kinds(processor)
    assert set(found) == {"pixels", "padding_side"}
    assert "784" in found["pixels"]["message"] and "3,136" in found["pixels"]["message"]


def test_command_line(suite, tmp_path, capsys):
    from fovea.probe.__main__ import main
    assert main([str(DEMO), "--suite", str(suite), "--limit", "1", "--compare", "sdpa", "--no-attribute", "--no-drift", "--pillow",
                 "--max-new-tokens", "2", "--json", str(tmp_path / "a.json")]) == 0
    assert "Undecided: sdpa" in capsys.readouterr().out
    assert json.loads((tmp_path / "a.json").read_text())["suite"]["used"] == 1
    with pytest.raises(fovea.Error, match="no configuration 'nonsense'"):
        main([str(DEMO), "--suite", str(suite), "--compare", "nonsense", "--pillow"])
