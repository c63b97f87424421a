"""Goal: attn_implementation="fovea" computes in transformers what sdpa computes, never ignores a mask, and refuses by name what
it does not do. Method: the demo model's both towers and tiny Llamas, in whole, padded, cached, beamed."""

import pytest
import torch
import transformers
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

import fovea
from conftest import DEMO

pytestmark = pytest.mark.usefixtures("plug_in")


@pytest.fixture(scope="module")
def plug_in(compiled):
    import fovea.transformers as plug_in
    return plug_in


def logits_of(model, attention, **inputs):
    model.set_attn_implementation(attention)
    for module in model.modules():
        if getattr(module, "rope_deltas", None) is not None:
            module.rope_deltas = None
    with torch.no_grad():
        return model(**inputs, use_cache=False).logits


def wider_error(model, **inputs):
    """transformers' own rounding error of these logits in fp32: its distance from fp64."""
    own = logits_of(model, "sdpa", **inputs)
    kept = [p.data for p in model.parameters()]
    try:
        for p in model.parameters():
            p.data = p.data.double()
        return relative(own, logits_of(model, "sdpa", **inputs))
    finally:
        for p, data in zip(model.parameters(), kept):
            p.data = data


def relative(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.fixture(scope="module")
def question(suite, demo_processor):
    from fovea.probe.questions import inputs_of, read_suite
    inputs = inputs_of(demo_processor, read_suite(suite).items[0], {"mm_token_type_ids"})
    if transformers.__version__.startswith("4."):
        inputs.pop("mm_token_type_ids")
    return inputs


@pytest.fixture(scope="module")
def demo32():
    return transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(DEMO, dtype=torch.float32).eval()


def test_both_towers_in_fp32(demo32, question):
    """Each of the two attentions may be as far from the truth as transformers is: twice that between them, and as much again."""
    theirs, ours = logits_of(demo32, "sdpa", **question), logits_of(demo32, "fovea", **question)
    assert demo32.config.vision_config._attn_implementation == "fovea"
    assert relative(ours, theirs) <= 4 * wider_error(demo32, **question)
    theirs, ours = (_generate(demo32, name, question, max_new_tokens=6) for name in ("sdpa", "fovea"))
    assert theirs == ours


def _generate(model, attention, inputs, **options):
    model.set_attn_implementation(attention)
    torch.manual_seed(11)
    return model.generate(**inputs, **{"do_sample": False, **options})[:, inputs["input_ids"].shape[1]:].tolist()


def test_bf16_differs_from_sdpa_by_a_rounding_and_eager_differs_more(demo, question, plug_in):
    theirs = logits_of(demo, "sdpa", **question)
    with plug_in.attention("eager"):
        eager = logits_of(demo, "fovea", **question)
    flash = logits_of(demo, "fovea", **question)
    with plug_in.attention("reference"):
        exact = logits_of(demo, "fovea", **question)
    demo.set_attn_implementation("sdpa")
    assert relative(flash, theirs) < 0.03 and relative(exact, theirs) < 0.03 < 0.3 < relative(eager, theirs)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "temperature": 0.7}, {"cache_implementation": "static"},
                                     {"use_cache": False}])
def test_generation_gives_the_tokens_of_sdpa(tiny_llama, options):
    inputs = {"input_ids": torch.randint(3, 97, (2, 23), generator=torch.Generator().manual_seed(2))}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    theirs, ours = (_generate(tiny_llama, name, inputs, max_new_tokens=12, **options) for name in ("sdpa", "fovea"))
    assert theirs == ours


def padded(side, pads=5):
    """Two rows, the second shorter; what is behind the padding tokens is noise that must not be seen."""
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(3, 97, (2, 20), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, :pads] = 0
    if side == "right":
        mask = mask.flip(1)
    return ids, mask


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_never_seen(tiny_llama, side):
    ids, mask = padded(side)
    ours, theirs = (logits_of(tiny_llama, name, input_ids=ids, attention_mask=mask) for name in ("fovea", "sdpa"))
    allowed = 4 * wider_error(tiny_llama, input_ids=ids, attention_mask=mask)
    assert relative(ours[mask.bool()], theirs[mask.bool()]) <= allowed
    other = ids.clone()
    other[1][mask[1] == 0] = 50
    again = logits_of(tiny_llama, "fovea", input_ids=other, attention_mask=mask)
    assert torch.equal(again[mask.bool()], ours[mask.bool()])
    tokens = [_generate(tiny_llama, name, {"input_ids": ids, "attention_mask": mask}, max_new_tokens=6) for name in ("sdpa", "fovea")]
    assert tokens[0] == tokens[1]


def test_without_the_registered_mask_padding_would_be_seen(tiny_llama):
    """The control of the test above: transformers then hands over no mask at all."""
    ids, mask = padded("left")
    theirs = logits_of(tiny_llama, "sdpa", input_ids=ids, attention_mask=mask)
    kept = AttentionMaskInterface._global_mapping.pop("fovea")
    try:
        ours = logits_of(tiny_llama, "fovea", input_ids=ids, attention_mask=mask)
    finally:
        AttentionMaskInterface._global_mapping["fovea"] = kept
    assert relative(ours[mask.bool()], theirs[mask.bool()]) > 0.01
    assert "fovea" in ALL_MASK_ATTENTION_FUNCTIONS._global_mapping


def test_masks_of_the_caller(tiny_llama):
    ids, mask = padded("left")
    whole = torch.ones(20, 20, dtype=torch.bool).tril()[None, None] & mask.bool()[:, None, None]
    additive = torch.zeros(whole.shape).masked_fill(~whole, torch.finfo(torch.float32).min)
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    wanted = logits_of(tiny_llama, "fovea", input_ids=ids, attention_mask=mask, position_ids=positions)
    for own in (whole, additive):
        assert torch.equal(logits_of(tiny_llama, "fovea", input_ids=ids, attention_mask=own, position_ids=positions)[mask.bool()], wanted[mask.bool()])
    with pytest.raises(fovea.Error, match="adds something"):
        logits_of(tiny_llama, "fovea", input_ids=ids, attention_mask=additive - 0.5)
    holes = whole.clone()
    holes[:, :, 9, 3] = False
    with pytest.raises(fovea.Error, match="not causal with padding"):
        logits_of(tiny_llama, "fovea", input_ids=ids, attention_mask=holes)


def test_chunks_of_a_prompt_give_the_bits_of_the_whole(tiny_llama):
    tiny_llama.set_attn_implementation("fovea")
    query, key, value = (torch.randn(1, heads, 30, 16, generator=torch.Generator().manual_seed(heads)) for heads in (4, 2, 2))
    from fovea.transformers import fovea_attention

    class Module:
        is_causal = True

    whole = fovea_attention(Module, query, key, value, None)[0]
    parts = [fovea_attention(Module, query[:, :, a:b], key[:, :, :b], value[:, :, :b], None)[0] for a, b in ((0, 13), (13, 29), (29, 30))]
    assert torch.equal(torch.cat(parts, 1), whole)
    moved = fovea_attention(Module, query, key.transpose(1, 2).contiguous().transpose(1, 2), value, None)[0]  # another layout of the same
    assert torch.equal(moved, whole)


def test_refusals_have_names(tiny_llama, plug_in):
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])
    tiny_llama.set_attn_implementation("fovea")
    with pytest.raises(fovea.Error, match="gradient"):
        tiny_llama(input_ids=ids)
    config = transformers.MistralConfig(vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
                                        num_key_value_heads=1, sliding_window=4)
    mistral = transformers.MistralForCausalLM(config).eval()
    with pytest.raises(fovea.Error, match="sliding|causal"):
        logits_of(mistral, "fovea", input_ids=ids)
    assert torch.isfinite(logits_of(mistral, "fovea", input_ids=ids[:, :3])).all()  # shorter than the window
    with pytest.raises(fovea.Error, match="turbo"), plug_in.attention("turbo"):
        pass
    q = torch.zeros(1, 2, 3, 8)
    for mutated, word in (({"query": q.double()}, "float64"), ({"query": q.to("meta")}, "meta"), ({"dropout": 0.5}, "dropout"),
                          ({"softcap": 30.0}, "softcap"), ({"output_attentions": True}, "maps"), ({"attention_mask": torch.zeros(3, 3)}, "shape")):
        arguments = {"module": None, "query": q, "key": q, "value": q, "attention_mask": None, **mutated}
        with pytest.raises(fovea.Error, match=word):
            plug_in.fovea_attention(**arguments)


def test_wrong_arrays_are_refused_and_never_read(compiled):
    q = torch.zeros(1, 4, 3, 8)
    call = lambda q=q, k=q, v=q, out=torch.empty(1, 3, 4, 8), ranges=(): compiled.attend(q, k, v, out, 1.0, False, "sdpa", list(ranges), 1)
    call()
    for change in ({"k": torch.zeros(1, 3, 3, 8)}, {"k": torch.zeros(2, 4, 3, 8)}, {"v": torch.zeros(1, 4, 2, 8)}, {"k": q.half()},
                   {"out": torch.empty(1, 3, 4, 9)}, {"out": torch.empty(1, 3, 8, 8)[:, :, ::2]}, {"q": torch.zeros(1, 4, 3, 16)[..., ::2]},
                   {"ranges": [0, 4, 0, 3]}, {"ranges": [-1, 3, 0, 3]}, {"ranges": [0, 3, 0, 4]}, {"ranges": [0, 3, 0]}, {"ranges": [2, 2, 0, 3]},
                   {"k": torch.zeros(1, 1, 1, 8).expand(1, 4, 3, 8)}):
        with pytest.raises(fovea.Error):
            call(**change)
    with pytest.raises(TypeError):
        call(k=torch.zeros(4, 3, 8))
