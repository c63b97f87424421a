#!/usr/bin/env python3
"""Writes tests/lora: adapters that PEFT saved for the golden checkpoint one_image, and what PEFT computes with them.

  python tools/make_lora_goldens.py --golden tests/golden --out tests/lora    # torch, transformers 4.57, peft 0.18

Each folder is an adapter as save_pretrained leaves it, with random values; expected.safetensors holds the first rows of
every weight that it changes, merged by PEFT in fp32, and the logits of the unmerged model in fp32. Their sensitivity, in
the metadata, is how far a run in bf16 is from them.
"""
import argparse
import pathlib
import shutil

import peft
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import make_goldens

ROWS = 4
TEXT = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {
    "plain": dict(r=4, lora_alpha=8, target_modules=TEXT),
    "rslora": dict(r=4, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "v_proj"]),
    "patterns": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "self_attn.o_proj"],
                     rank_pattern={"q_proj": 2, "layers.1.self_attn.v_proj": 3},
                     alpha_pattern={"^model.language_model.layers.0.self_attn.q_proj": 5, "o_proj": 3}),
    "dora": dict(r=4, lora_alpha=8, use_dora=True, target_modules=["k_proj", "down_proj"]),
    "vision": dict(r=3, lora_alpha=6, target_modules=["qkv", "attn.proj", "merger.mlp.0", "merger.mlp.2"]),
    "saved": dict(r=2, lora_alpha=4, target_modules=["q_proj"], modules_to_save=["merger"]),
    "embedding": dict(r=2, lora_alpha=4, target_modules=["embed_tokens", "v_proj"]),
}


def randomize(model, seed):
    """Values as after training: every part is used, and changes the weights by about a fifth."""
    g = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        if "lora_A" in name or "lora_embedding_B" in name:
            value.data = torch.randn(value.shape, generator=g) * value.shape[-1]**-0.5
        elif "lora_B" in name or "lora_embedding_A" in name:
            value.data = torch.randn(value.shape, generator=g) * 0.1 * value.shape[0 if "_A" in name else 1]**-0.5
        elif "lora_magnitude_vector" in name:
            value.data = value.data * (1 + 0.1 * torch.randn(value.shape, generator=g))
        elif "modules_to_save" in name:
            value.data = value.data * (1 + 0.1 * torch.randn(value.shape, generator=g))


def first_rows(model):
    return {name: value.detach()[:ROWS].float().clone().contiguous() for name, value in model.state_dict().items()}


def write_case(name, options, base_folder, folder, seed):
    inputs = make_goldens.Inputs(base_folder)
    where = make_goldens.logit_positions(len(inputs.ids))

    def loaded(dtype):
        return make_goldens.load_model(base_folder, getattr(torch, dtype), "sdpa")

    before = first_rows(loaded("float32"))
    trained = get_peft_model(loaded("float32"), LoraConfig(**options))
    randomize(trained, seed)
    shutil.rmtree(folder, ignore_errors=True)
    trained.save_pretrained(folder)
    for other in folder.glob("*.md"):
        other.unlink()
    with torch.no_grad():
        exact = make_goldens.forward(PeftModel.from_pretrained(loaded("float32"), folder), inputs).logits[0][where]
        low = make_goldens.forward(PeftModel.from_pretrained(loaded("bfloat16"), folder), inputs).logits[0][where]
        plain = make_goldens.forward(loaded("float32"), inputs).logits[0][where]
        # A tied head shares the embedding's memory, and PEFT would merge into both.
        merged = PeftModel.from_pretrained(loaded("float32"), folder).merge_and_unload()
    after = first_rows(merged)
    rows = {f"rows.{key}": value for key, value in after.items()
            if not torch.equal(value, before[key]) and key != "lm_head.weight"}
    sensitivity = float((low.float() - exact).norm() / exact.norm())
    effect = float((plain - exact).norm() / exact.norm())
    assert effect > 0.05, (name, effect)
    save_file(dict(rows, logits=exact.contiguous(), logit_positions=torch.tensor(where, dtype=torch.int32)),
              folder / "expected.safetensors",
              dict(peft=peft.__version__, transformers=make_goldens.VERSION, sensitivity=f"{sensitivity:.6f}"))
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{name}: {len(rows)} tensors changed, effect {effect:.2f}, sensitivity {sensitivity:.4f}, {size / 1e3:.0f} kB",
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    for seed, (name, options) in enumerate(CASES.items()):
        if arguments.only in (None, name):
            write_case(name, options, arguments.golden / "one_image", arguments.out / name, seed)


if __name__ == "__main__":
    main()
