"""Goal: attention node by node computes what transformers' code computes, its blocks change nothing and bound memory, and
exact attention of a few rows judges as src/audit does. Method: random heads, also with a planted constant key."""

import math
import subprocess
import sys

import pytest
import torch
from transformers.models.llama import modeling_llama

from fovea.probe import attention
from fovea.probe.attention import Visibility, attend, examine
from fovea.probe.configuration import PRESETS, parse_configuration
from fovea.probe.nodes import nodes_of

HEADS, GROUPS, TOKENS, DIM = 4, 2, 70, 32
SCALE = DIM ** -0.5


class Module:
    num_key_value_groups, training, is_causal = HEADS // GROUPS, False, True


def heads(seed, planted=0.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, count, TOKENS, DIM, generator=generator) for count in (HEADS, GROUPS, GROUPS))
    if planted:
        q[..., 0], k[..., 0] = 40 + q[..., 0], planted
    return q.to(dtype), k.to(dtype), v.to(dtype)


def causal(tokens=TOKENS):
    return Visibility(None, tokens, tokens, True, torch.device("cpu"))


def exact(q, k, v):
    return attend(q.double().to(torch.float32), k.float(), v.float(), causal(), SCALE, nodes_of("exact", "fp32"))


def relative(a, b):
    return float((a.float() - b.float()).norm() / b.float().norm())


def test_eager_in_nodes_is_transformers_eager():
    """Both sum q.k in fp32 in some order, so that a score may fall on the neighbouring bf16 number, twice (product and
    scale): a weight then changes by at most the factor e^(2 ulp), an output by that share of sum p |v|, and P and the
    output are rounded once more (one ulp of 2^-8 each)."""
    q, k, v = heads(1, dtype=torch.bfloat16)
    mask = torch.zeros(1, 1, TOKENS, TOKENS).masked_fill(~torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril(), torch.finfo(torch.bfloat16).min)
    theirs, weights = modeling_llama.eager_attention_forward(Module, q, k, v, mask.to(torch.bfloat16), scaling=SCALE)
    ours = attend(q, k, v, causal(), SCALE, nodes_of("eager", "bf16"))
    largest = float((q.float() @ k.float().repeat_interleave(2, 1).transpose(-1, -2)).abs().max()) * SCALE
    spread = (weights.float() @ v.float().abs().repeat_interleave(2, 1)).transpose(1, 2)
    bound = (math.expm1(2 * 2 ** -7 * largest) + 2 * 2 ** -8) * spread + 2 ** -8 * theirs.float().abs()
    assert ((ours.float() - theirs.float()).abs() <= bound).all()
    assert (ours == theirs).float().mean() > 0.9  # and mostly they are the same bits


@pytest.mark.parametrize("kind", ["sdpa", "flash_attention_2", "exact"])
def test_fp32_attention_is_torch_sdpa(kind):
    """Both within the fp32 error of a sum of DIM products and TOKENS weights."""
    q, k, v = heads(2)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)
    ours = attend(q, k, v, causal(), SCALE, nodes_of(kind, "fp32"))
    assert (ours - theirs).abs().max() <= 2 * (DIM + TOKENS) * 2 ** -24 * v.abs().max() * 8


def test_a_planted_key_ruins_eager_and_each_cure_cures_it():
    q, k, v = heads(3, planted=300.0, dtype=torch.bfloat16)
    truth = exact(q, k, v)
    error = {name: relative(attend(q, k, v, causal(), SCALE, parse_configuration(name, torch.bfloat16).text.nodes), truth)
             for name in PRESETS if "fp16" not in name}
    for name in ("eager-bf16", "eager-bf16-old", "sdpa-math-low"):
        assert error[name] > 0.2, (name, error)
    for name in ("fp32", "reference", "eager-qkv-fp32", "eager-qk-fp32", "flash-bf16", "eager-bf16-maxshift", "eager-bf16-kcentred",
                 "eager-bf16-kcentred256"):
        assert error[name] < 0.02, (name, error)


def test_old_fp16_eager_shows_the_future():
    q, k, v = heads(4, dtype=torch.float16)
    q[..., 0], k[..., 0] = 40, -20.0  # every score is about -140: masked ones become -inf, and then 0
    old = attend(q, k, v, causal(), SCALE, parse_configuration("eager-fp16-old", torch.float16).text.nodes)
    new = attend(q, k, v, causal(), SCALE, parse_configuration("eager-fp16", torch.float16).text.nodes)
    assert relative(new[0, 0], v[0, :, 0].repeat_interleave(2, 0)) < 2 ** -9  # row 0 sees key 0 alone
    assert relative(old[0, 0], v[0, :, 0].repeat_interleave(2, 0)) > 0.5


@pytest.mark.parametrize("name", ["fp32", "eager-bf16", "eager-bf16-kcentred256", "flash-bf16", "sdpa-math-low"])
def test_blocks_of_queries_change_nothing(name, monkeypatch):
    """Rows are independent; another shape of the same product may sum in another order, once in fp32."""
    q, k, v = heads(5, dtype=torch.bfloat16)
    nodes = parse_configuration(name, torch.bfloat16).text.nodes
    whole = attend(q, k, v, causal(), SCALE, nodes)
    monkeypatch.setattr(attention, "BLOCK_BYTES", 4 * 2 * TOKENS * 7)
    blocks = attend(q, k, v, causal(), SCALE, nodes)
    assert relative(blocks, whole) <= (2 ** -20 if name == "fp32" else 2 ** -8)
    assert (blocks == whole).float().mean() > 0.9


def test_every_form_of_a_mask_hides_the_same_keys():
    q, k, v = heads(6)
    hidden = torch.ones(1, TOKENS, dtype=torch.bool)
    hidden[:, :9] = False  # padding on the left
    boolean = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()[None, None] & hidden[:, None, None]
    additive = torch.zeros(boolean.shape).masked_fill(~boolean, torch.finfo(torch.float32).min)
    nodes = nodes_of("sdpa", "fp32")
    outs = [attend(q, k, v, Visibility(mask, TOKENS, TOKENS, True, q.device), SCALE, nodes)[:, 9:] for mask in (boolean, additive, hidden)]
    assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2])
    assert relative(outs[0], attend(q, k, v, causal(), SCALE, nodes)[:, 9:]) > 0.1  # and they do hide


def test_examined_rows_against_the_definition():
    """Largest score, rows at risk and error of one row, computed here by hand."""
    q, k, v = heads(7, planted=300.0, dtype=torch.bfloat16)
    nodes = nodes_of("eager", "bf16")
    out = attend(q, k, v, causal(), SCALE, nodes)
    found = examine(q, k, v, out, causal(), [50], SCALE, nodes, True)
    for head in range(HEADS):
        scores = (k[0, head // 2, :51].double() @ q[0, head, 50].double()) * SCALE
        weights = scores.softmax(0)
        truth = weights @ v[0, head // 2, :51].double()
        error = (out[0, 50, head].double() - truth).norm() / truth.norm()
        spread = ((weights ** 2) @ ((v[0, head // 2, :51].double() - truth) ** 2).sum(1)).sqrt() / truth.norm()
        assert float(found["largest"][head]) == pytest.approx(float(scores.abs().max()), rel=1e-12)
        assert float(found["at_risk"][head]) == float(scores.abs().max() * 2 ** -8 > 0.125) == 1
        assert float(found["kernel_error"][head]) == pytest.approx(float(error), rel=1e-6)
        assert float(found["spread"][head]) == pytest.approx(float(spread), rel=1e-6)
        x = 0.424 * math.sqrt(2) * 2 ** -8 * float(scores.abs().max()) * float(spread)
        squared = x * x / (1 + x * x) + (0.42 * float(spread) * 2 ** -7) ** 2 + (0.42 * 2 ** -7) ** 2
        assert float(found["predicted_error"][head]) == pytest.approx(math.sqrt(squared), rel=1e-9)
    assert float(examine(q, k, v, out, causal(), [50], SCALE, nodes_of("sdpa", "bf16"), False)["at_risk"].sum()) == 0


def test_overflow_is_of_the_raw_score_in_fp16():
    nodes, scores = nodes_of("eager", "fp16"), torch.tensor([65519.0, 65520.0, 400000.0]) * SCALE
    assert nodes.overflows(scores, SCALE).tolist() == [False, True, True]
    assert not nodes_of("eager", "bf16").overflows(scores, SCALE).any()
    assert nodes.row_at_risk(torch.tensor([255.0, 257.0])).tolist() == [False, True]


def test_memory_at_8000_tokens_grows_with_the_tokens_only():
    """2,000 of 8,000 queries over 8,000 keys, 4 heads: 256 MB of scores in fp32, and eager copies them a few times. Blocks
    hold 64 MiB of them."""
    words = """
import resource, torch
torch.set_num_threads(1)
from fovea.probe.attention import Visibility, attend
from fovea.probe.nodes import nodes_of
q, k = torch.randn(1, 4, 8000, 8), torch.randn(1, 1, 8000, 8)
seen = Visibility(None, 8000, 8000, True, q.device)
attend(q[:, :, :64], k, k, seen, 1.0, nodes_of("eager", "bf16"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
attend(q[:, :, :2000], k, k, Visibility(None, 2000, 8000, True, q.device), 1.0, nodes_of("eager", "bf16"))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout)
    assert (64 << 20) < grown < 6 * (64 << 20), grown  # a block and its copies; all 2,000 queries would be 256 MB a copy
