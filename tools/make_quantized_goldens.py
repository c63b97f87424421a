#!/usr/bin/env python3
"""Writes tests/quantized: tiny checkpoints in the layouts of AutoAWQ and GPTQ, and what transformers computes from them.

  python tools/make_quantized_goldens.py --out tests/quantized     # needs what make_goldens.py needs

The weights are random, rounded to the nearest of each group's levels. The layouts are written and read back here by
the published formulas, in torch:
 - AWQ ("gemm"): qweight [in, out / 8] and qzeros [in / group, out / 8], int32; nibble i of a word holds column
   [0, 2, 4, 6, 1, 3, 5, 7][i] of its eight; scales [in / group, out] fp16; w = (q - zero) * scale.
 - GPTQ: qweight [in * bits / 32, out], qzeros [groups, out * bits / 32], int32, fields in order; scales [groups, out]
   fp16; g_idx [in]; w = (q - zero) * scale; in the first version each word of zeros is stored less one per field.
expected/outputs.safetensors holds the widened matrices of one layer in fp16 and transformers' logits from a plain
checkpoint of all widened matrices.
"""
import argparse
import dataclasses
import json
import pathlib
import shutil
import sys
import tempfile

import torch
import transformers
from safetensors.torch import save_file

import golden_cases
import make_goldens
from golden_cases import Picture, Text, Vision, sections

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
KEPT = ["self_attn.k_proj", "mlp.down_proj"]  # whose widened matrices are committed


def as_int32(words):
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def pack(values, bits, dim, order=None):
    """Fields of `bits` along `dim` (0 or 1) into int32 words."""
    values = values.long() if dim == 1 else values.long().T
    per_word = 32 // bits
    fields = values.reshape(values.shape[0], -1, per_word)
    if order:
        fields = fields[:, :, order]
    words = (fields << (bits * torch.arange(per_word))).sum(-1)
    return as_int32(words if dim == 1 else words.T).contiguous()


def unpack(words, bits, dim, order=None):
    """The published way: shift, mask, reorder."""
    words = words.long() if dim == 1 else words.long().T
    per_word = 32 // bits
    fields = (words[:, :, None] >> (bits * torch.arange(per_word))) & ((1 << bits) - 1)
    if order:
        fields = fields[:, :, [order.index(c) for c in range(per_word)]]
    values = fields.reshape(words.shape[0], -1)
    return values if dim == 1 else values.T


def levels(weight, bits, group_of, groups, symmetric):
    """Round to nearest: q [in, out], zero and scale [groups, out] of weight [out, in]."""
    w, top = weight.float().T, 2**bits - 1
    zero, scale = torch.zeros(groups, w.shape[1], dtype=torch.long), torch.zeros(groups, w.shape[1], dtype=torch.float16)
    for g in range(groups):
        part = w[group_of == g]
        if symmetric:
            scale[g], zero[g] = (part.abs().amax(0) / (2**(bits - 1) - 1)).half(), 2**(bits - 1)
        else:
            low, high = part.amin(0).clamp(max=0), part.amax(0).clamp(min=0)
            scale[g] = ((high - low) / top).half()
            zero[g] = (-low / scale[g].float()).round().clamp(0, top).long()
    q = ((w / scale.float()[group_of]).round() + zero[group_of]).clamp(0, top).long()
    return q, zero, scale


def awq(weight, group):
    group_of = torch.arange(weight.shape[1]) // group
    q, zero, scale = levels(weight, 4, group_of, weight.shape[1] // group, False)
    return dict(qweight=pack(q, 4, 1, AWQ_ORDER), qzeros=pack(zero, 4, 1, AWQ_ORDER), scales=scale)


def widen_awq(parts, group):
    q, zero = (unpack(parts[name], 4, 1, AWQ_ORDER) for name in ("qweight", "qzeros"))
    q, zero, scale = q.half(), zero.half().repeat_interleave(group, 0), parts["scales"].repeat_interleave(group, 0)
    return (q - zero) * scale  # fp16, as AutoAWQ computes it


def gptq(weight, bits, group, symmetric, act_order, version, generator):
    group_of = torch.arange(weight.shape[1]) // group
    if act_order:
        group_of = group_of[torch.randperm(len(group_of), generator=generator)]
    q, zero, scale = levels(weight, bits, group_of, weight.shape[1] // group, symmetric)
    words = pack(zero, bits, 1)
    if version == "gptq":
        ones = sum(1 << shift for shift in range(0, 32, bits))
        words = as_int32((words.long() - ones) % (1 << 32))
    return dict(qweight=pack(q, bits, 0), qzeros=words, scales=scale, g_idx=group_of.to(torch.int32))


def widen_gptq(parts, bits, version):
    words = parts["qzeros"].long()
    if version == "gptq":
        words = words + sum(1 << shift for shift in range(0, 32, bits))
    q, zero = unpack(parts["qweight"], bits, 0), unpack(words, bits, 1)
    return (q - zero[parts["g_idx"].long()]).half() * parts["scales"][parts["g_idx"].long()]


@dataclasses.dataclass
class Layout:
    name: str
    config: dict
    quantize: object  # weight -> parts
    widen: object     # parts -> [in, out] fp16


def layouts():
    g = torch.Generator().manual_seed(7)
    note = dict(true_sequential=True, static_groups=False, damp_percent=0.1, lm_head=False)
    return [
        Layout("awq", dict(quant_method="awq", bits=4, group_size=128, zero_point=True, version="gemm",
                           modules_to_not_convert=["visual"]),
               lambda w: awq(w, 128), lambda p: widen_awq(p, 128)),
        Layout("gptq_act_order", dict(quant_method="gptq", bits=4, group_size=64, sym=False, desc_act=True,
                                      checkpoint_format="gptq", **note),
               lambda w: gptq(w, 4, 64, False, True, "gptq", g), lambda p: widen_gptq(p, 4, "gptq")),
        Layout("gptq_8bit", dict(quant_method="gptq", bits=8, group_size=128, sym=True, desc_act=False,
                                 checkpoint_format="gptq_v2", **note),
               lambda w: gptq(w, 8, 128, True, False, "gptq_v2", g), lambda p: widen_gptq(p, 8, "gptq_v2")),
    ]


def case_of(name):
    return golden_cases.Case(
        name, "", "flat", "old", Text(2, 1, 64, 2, 256, sections(64), True), Vision(1, 16, 40, 2, [1]),
        [("user", [Picture.merged(3, 4), "What is in the picture?"])], storage="float16", seed=50)


def is_projection(name):
    return name.startswith("model.layers.") and name.endswith("_proj.weight")


def write_layout(layout, out, tokenizer, template):
    folder, case = out / layout.name, case_of(layout.name)
    shutil.rmtree(folder, ignore_errors=True)
    golden_cases.write_configs(case, folder)
    golden_cases.write_tokenizer(case, folder, tokenizer, template)
    golden_cases.write_inputs(case, folder / "inputs")
    weights = {make_goldens.old_name(n): t for n, t in make_goldens.canonical_weights(case, case.seed).items()}
    stored, widened = {}, {}
    for name, weight in weights.items():
        if not is_projection(name):
            stored[name] = widened[name] = weight
            continue
        parts = layout.quantize(weight)
        stored |= {name.removesuffix("weight") + part: tensor for part, tensor in parts.items()}
        widened[name] = layout.widen(parts).T.contiguous()
        error = float((widened[name].float() - weight.float()).norm() / weight.float().norm())
        assert error < (0.15 if layout.config["bits"] == 4 else 0.01), (name, error)  # the layouts are read as written
        if layout.config["quant_method"] == "gptq" and "layers.0." in name:
            bias = name.removesuffix("weight") + "bias"  # GPTQ writes one of zeros where the model has none
            if bias not in weights:
                stored[bias] = torch.zeros(weight.shape[0], dtype=torch.float16)
    config = json.loads((folder / "config.json").read_text())
    with tempfile.TemporaryDirectory() as plain_name:
        plain = pathlib.Path(plain_name) / "plain"
        shutil.copytree(folder, plain)
        save_file(widened, plain / "model.safetensors", metadata={"format": "pt"})
        outputs = results(plain)
    outputs |= {f"model.layers.1.{name}.weight": widened[f"model.layers.1.{name}.weight"] for name in KEPT}
    golden_cases.write_json(folder / "config.json", config | dict(quantization_config=layout.config))
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "expected").mkdir()
    save_file({n: t.detach().contiguous() for n, t in outputs.items()}, folder / "expected" / "outputs.safetensors",
              dict(transformers=transformers.__version__, torch=torch.__version__))
    print(folder.name, sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) // 1000, "kB", flush=True)


def results(folder):
    inputs = make_goldens.Inputs(folder)
    logits = {name: make_goldens.forward(make_goldens.load_model(folder, dtype, "sdpa"), inputs).logits[0][-24:]
              for name, dtype in (("fp32", torch.float32), ("bf16_sdpa", torch.bfloat16))}
    return dict(logits_fp32=logits["fp32"], logits_bf16_sdpa=logits["bf16_sdpa"],
                input_ids=torch.tensor(inputs.ids, dtype=torch.int32))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=make_goldens.REPOSITORY / "tests" / "quantized")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    template = (make_goldens.REPOSITORY / "models" / "qwen-tokenizer" / "chat_template.jinja").read_text()
    tokenizer = golden_cases.trained_tokenizer()
    for layout in layouts():
        write_layout(layout, arguments.out, tokenizer, template)


if __name__ == "__main__":
    sys.exit(main())
