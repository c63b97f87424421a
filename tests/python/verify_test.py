"""Goal: fovea.verify finds the tiny checkpoints and the demo equal in fp32, and a changed tensor by its name. Method: both
programs on what is committed; one tensor is changed in a copy."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import fovea
from conftest import DEMO, ROOT

GOLDEN = ROOT / "tests" / "golden"
STILL = ["one_image", "two_images", "three_images", "five_images", "text_only", "conversation", "resized_images"]
pytestmark = pytest.mark.usefixtures("program_in_path")


@pytest.fixture
def program_in_path(program, monkeypatch):
    monkeypatch.setenv("FOVEA_PROGRAM", program)


@pytest.mark.parametrize("name", STILL)
def test_tiny_checkpoints_are_equal(name):
    if name == "five_images" and transformers.__version__.startswith("4."):
        pytest.skip("its config.json says rope_parameters, which transformers 5 writes and 4.57 does not read")
    case = GOLDEN / name
    messages = json.loads((case / "inputs" / "messages.json").read_text())
    for message in messages:
        for part in message["content"] if isinstance(message["content"], list) else []:
            if part.get("type") == "image":  # relative to the file
                part["image"] = str(case / "inputs" / part["image"])
    found = fovea.verify(case, messages=messages, max_new_tokens=8)
    assert found.equal, str(found)
    steps = [row["step"] for row in found.rows]
    assert steps[0] == "token ids" and steps[-1] == "greedy tokens" and "position ids" in steps
    assert ("pixels" in steps) == (name != "text_only")
    assert found.weights == []


def test_the_demo_is_equal_in_fp32(suite):
    found = fovea.verify(DEMO, images=sorted((suite / "images").glob("*.png"))[:3], prompt="What number is in picture 2?", max_new_tokens=4)
    assert found.equal, str(found)
    assert "| logits" in str(found) and "All equal." in str(found)


def test_a_changed_tensor_is_found_and_named(suite, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(DEMO, changed)
    tensors = load_file(changed / "model.safetensors")
    name = next(n for n in tensors if n.endswith("layers.1.mlp.up_proj.weight"))
    tensors[name] = tensors[name].clone()
    tensors[name][3, 5] += 1.0
    save_file(tensors, changed / "model.safetensors", metadata={"format": "pt"})
    from fovea.verify.__main__ import main
    words = [str(DEMO), "--fovea-model", str(changed), "--prompt", "The code of Mara is 7. What is the code of Mara?", "--max-new-tokens", "2",
             "--json", str(tmp_path / "v.json")]
    assert main(words) == 1
    found = json.loads((tmp_path / "v.json").read_text())
    assert not found["equal"]
    assert [row["equal"] for row in found["steps"] if row["step"] in ("token ids", "position ids")] == [True, True]
    assert [row["equal"] for row in found["steps"] if row["step"] == "logits"] == [False]
    assert len(found["weights"]) == 1 and found["weights"][0]["tensor"] == name
    assert "1 of" in found["weights"][0]["what"] and "[3, 5]" in found["weights"][0]["what"]


def test_a_changed_model_in_memory_is_found(demo):
    name, parameter = next((n, p) for n, p in demo.named_parameters() if n.endswith("blocks.2.attn.proj.bias"))
    copy, kept = demo, parameter.detach().clone()
    with torch.no_grad():
        parameter[0] += 4.0
    try:
        from fovea.verify.weights import compare_weights
        found = compare_weights(DEMO, copy)
    finally:
        with torch.no_grad():
            parameter.copy_(kept)
    assert [w["tensor"].split("visual.")[-1] for w in found] == [name.split("visual.")[-1]]
    assert compare_weights(DEMO, demo) == []


def test_refusals_have_words(monkeypatch):
    with pytest.raises(fovea.Error, match="float32"):
        fovea.verify(DEMO, dtype="int8")
    monkeypatch.setenv("FOVEA_PROGRAM", "/nonexistent/fovea")
    with pytest.raises(fovea.Error, match="/nonexistent/fovea"):
        fovea.verify(DEMO, prompt="The code of Mara is 7.", max_new_tokens=1)
