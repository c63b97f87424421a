"""Goal: the probe works for any model whose attention goes through transformers' interface, and says so where it does not.
Method: tiny models of random weights; planted key biases must be found, and without them nothing is blamed."""

import pytest
import torch
import transformers

import fovea
from conftest import plant_key_bias


def prompts(count, tokens, vocabulary, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [{"input_ids": torch.randint(3, vocabulary, (1, tokens), generator=generator)} for _ in range(count)]


def test_llama_with_planted_biases(tiny_llama):
    for layer in (0, 2):
        plant_key_bias(tiny_llama.model.layers[layer].self_attn, 300.0)
    model = tiny_llama.to(torch.bfloat16)
    report = fovea.probe(model, None, prompts(4, 60, 97), ["eager", "sdpa", "eager-qk-fp32", "eager-bf16-kcentred"], max_new_tokens=4)
    kl = {c["name"]: c["kl"] for c in report.json["configurations"]}
    assert kl["eager"] > 0.05 > 10 * max(kl["sdpa"], kl["eager-qk-fp32"], kl["eager-bf16-kcentred"]), kl
    assert report.guilty == "text.scores+text.scaled"
    assert any(s.startswith("Not safe here: eager ") for s in report.conclusion)
    assert any("Without expected answers" in s for s in report.conclusion)
    assert not any("Not safe here: sdpa" in s for s in report.conclusion)


def test_llama_without_them_is_blamed_for_nothing(tiny_llama):
    report = fovea.probe(tiny_llama.to(torch.bfloat16), None, prompts(2, 40, 97), ["eager"], max_new_tokens=3)
    assert report.guilty == "" and "nothing" in report.json["attribution_of"]["verdict"]
    assert report.json["configurations"][1]["rows_at_risk"] == 0


def test_fp16_overflow_is_a_stop_with_a_name(tiny_llama):
    plant_key_bias(tiny_llama.model.layers[0].self_attn, 2000.0)
    report = fovea.probe(tiny_llama.to(torch.float16), None, prompts(1, 20, 97), ["eager", "sdpa"], max_new_tokens=2)
    eager, sdpa = report.json["configurations"][1:]
    assert eager["errors"] == 1 and "decoder layer 0, scores (eager, fp16)" in eager["problems"][0]["message"]
    assert sdpa["errors"] == 0
    assert report.guilty == "text.scores+text.scaled"


def test_an_fp32_model_is_examined_in_16_bits_and_given_back(tiny_llama):
    before = {name: p.clone() for name, p in tiny_llama.named_parameters()}
    report = fovea.probe(tiny_llama, None, prompts(1, 20, 97), ["eager-bf16", "eager-fp16"], max_new_tokens=2, attribute=False)
    assert [c["name"] for c in report.json["configurations"]] == ["fp32", "eager-bf16", "eager-fp16"]
    assert all(c["kl"] > 0 for c in report.json["configurations"][1:])
    for name, p in tiny_llama.named_parameters():
        assert p.dtype == torch.float32 and torch.equal(p, before[name]), name


def test_references(tiny_llama):
    model = tiny_llama.to(torch.bfloat16)
    kl = {reference: fovea.probe(model, None, prompts(1, 30, 97), ["sdpa"], reference=reference, max_new_tokens=2, attribute=False).json["configurations"][1]["kl"]
          for reference in ("fp32", "fp64", "attention-fp32")}
    assert kl["fp32"] == pytest.approx(kl["fp64"], rel=0.05)
    assert kl["attention-fp32"] < kl["fp32"]  # only attention differs


QWEN = dict(vocab_size=151, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=512, initializer_range=0.2)


def qwen3_vl():
    vision = dict(depth=2, hidden_size=48, intermediate_size=64, num_heads=4, out_hidden_size=64, patch_size=14, spatial_merge_size=2,
                  temporal_patch_size=2, deepstack_visual_indexes=[0], num_position_embeddings=64)
    rope = dict(rope_type="default", mrope_section=[2, 3, 3], mrope_interleaved=True, rope_theta=10000.0)
    text = QWEN | dict(head_dim=16, rope_scaling=rope, rope_parameters=rope)
    config = transformers.Qwen3VLConfig(text_config=text, vision_config=vision, image_token_id=140, video_token_id=141, vision_start_token_id=142,
                                        vision_end_token_id=143)
    return transformers.Qwen3VLForConditionalGeneration(config)


def qwen2_vl():
    vision = dict(depth=2, embed_dim=48, hidden_size=64, num_heads=4, mlp_ratio=2, patch_size=14, spatial_merge_size=2, temporal_patch_size=2)
    rope = dict(type="mrope", rope_type="default", mrope_section=[2, 3, 3], rope_theta=10000.0)
    ids = dict(image_token_id=140, video_token_id=141, vision_start_token_id=142, vision_end_token_id=143)
    text = QWEN | dict(rope_scaling=rope, rope_parameters=rope)
    config = transformers.Qwen2VLConfig(text_config=text, vision_config=vision, **ids)
    return transformers.Qwen2VLForConditionalGeneration(config)


@pytest.mark.parametrize("make", [qwen3_vl, qwen2_vl])
def test_other_vision_language_models(make):
    torch.manual_seed(3)
    model = make().eval()
    if make is qwen2_vl:
        plant_key_bias(model.model.language_model.layers[0].self_attn, 300.0)
    model = model.to(torch.bfloat16)
    model.generation_config.pad_token_id = 0
    generator = torch.Generator().manual_seed(1)
    ids = torch.tensor([[5, 142, *[140] * 6, 143, *range(20, 40)]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.randn(24, 1176, generator=generator),
              "image_grid_thw": torch.tensor([[1, 4, 6]]), "mm_token_type_ids": (ids == 140).int()}
    if transformers.__version__.startswith("4."):
        inputs.pop("mm_token_type_ids")
    report = fovea.probe(model, None, [inputs], ["eager", "sdpa"], max_new_tokens=3)
    assert {f["kind"] for f in report.findings} == set()
    model_json = report.json["model"]
    assert (model_json["text_layers"], model_json["vision_blocks"]) == (2, 2)
    layers = report.json["configurations"][1]["layers"]
    assert [(layer["tower"], layer["layer"]) for layer in layers] == [("vision", 0), ("vision", 1), ("text", 0), ("text", 1)]
    assert all(layer["rows"] > 0 and layer["kernel_error"] > 0 for layer in layers)
    if make is qwen2_vl:
        assert layers[2]["rows_at_risk"] > 0
        assert report.json["configurations"][1]["kl"] > 5 * report.json["configurations"][2]["kl"]


def test_a_model_beside_the_interface_is_refused_by_name():
    config = transformers.BloomConfig(vocab_size=97, hidden_size=32, n_layer=1, n_head=2)
    model = transformers.BloomForCausalLM(config)
    with pytest.raises(fovea.Error, match="BloomForCausalLM|interface"):
        fovea.probe(model, None, prompts(1, 8, 97), ["eager"], max_new_tokens=1)
    assert model.training


def test_misuse_has_words(tiny_llama):
    for questions, compare, word in (([], ["eager"], "no question"), (prompts(1, 5, 97), ["eager", "eager"], "twice"),
                                     (prompts(1, 5, 97), ["flash_attention_2"], "flash|registered")):
        with pytest.raises(fovea.Error, match=word):
            fovea.probe(tiny_llama, None, questions, compare, max_new_tokens=1)
    with pytest.raises(fovea.Error, match="batch of one"):
        fovea.probe(tiny_llama, None, [{"input_ids": torch.ones(2, 4, dtype=torch.long)}], ["eager"])
    with pytest.raises(fovea.Error, match="reference"):
        fovea.probe(tiny_llama, None, prompts(1, 5, 97), ["eager"], reference="bf16")
    tiny_llama.to("meta")
    with pytest.raises(fovea.Error, match="offloaded"):
        fovea.probe(tiny_llama, None, prompts(1, 5, 97), ["eager"])
