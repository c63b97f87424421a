#!/usr/bin/env python3
"""Writes src/attention/attention_goldens.bin: what transformers' eager attention computes in bf16 and fp16 on a CPU.

Made with torch 2.13.0+cpu and transformers 4.57.6. Inputs are not stored: attention_golden_test.cc draws the same
numbers from splitmix64. The file is the raw 16-bit results, case after case, [tokens_q, heads_q, columns] each:
the attention output, and for cases named "probabilities" the normalised P instead.
"""
import pathlib
import types

import numpy as np
import torch
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import eager_attention_forward

# name, tokens_q, tokens_kv, heads_q, heads_kv, head_dim, causal, bias (on K's first 4 columns; Q's get 13.4)
CASES = [
    ("probabilities", 40, 64, 2, 1, 64, True, 0.0),
    ("probabilities", 32, 64, 2, 2, 64, True, 50.0),
    ("output", 40, 40, 2, 2, 80, False, 0.0),
    ("output", 12, 150, 4, 2, 128, True, 0.0),
    ("output", 12, 300, 2, 1, 128, True, 100.0),
]


def splitmix64(seed, count):
    state = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def values(seed, tokens, heads, head_dim, offset):
    """Nearly normal: the sum of four uniform 16-bit numbers, centred, of deviation 1; offset on columns 0..3."""
    bits = splitmix64(seed, tokens * heads * head_dim)
    total = sum(((bits >> np.uint64(s)) & np.uint64(0xFFFF)).astype(np.float64) for s in (0, 16, 32, 48))
    x = ((total - 131070.0) / 37837.0).reshape(tokens, heads, head_dim)
    x[:, :, :4] += offset
    return torch.from_numpy(x.astype(np.float32))


def run(index, case, dtype):
    name, tokens_q, tokens_kv, heads_q, heads_kv, head_dim, causal, bias = case
    seed = 100 * (index + 1)
    per_head = lambda x: x.to(dtype).transpose(0, 1).unsqueeze(0)
    q = per_head(values(seed, tokens_q, heads_q, head_dim, 13.4 if bias else 0.0))
    k = per_head(values(seed + 1, tokens_kv, heads_kv, head_dim, bias))
    v = per_head(values(seed + 2, tokens_kv, heads_kv, head_dim, 0.0))
    mask = None
    if causal:
        hidden = torch.ones(tokens_q, tokens_kv, dtype=torch.bool).triu(tokens_kv - tokens_q + 1)
        mask = torch.zeros(tokens_q, tokens_kv, dtype=dtype).masked_fill(hidden, torch.finfo(dtype).min)[None, None]
    module = types.SimpleNamespace(num_key_value_groups=heads_q // heads_kv, training=False)
    output, probabilities = eager_attention_forward(module, q, k, v, mask, scaling=head_dim**-0.5)
    result = probabilities[0].transpose(0, 1) if name == "probabilities" else output[0]
    return result.contiguous().view(torch.int16).numpy().astype("<i2").tobytes()


def main():
    torch.set_num_threads(1)
    blobs = [run(i, case, dtype) for dtype in (torch.bfloat16, torch.float16) for i, case in enumerate(CASES)]
    out = pathlib.Path(__file__).resolve().parent.parent / "src" / "attention" / "attention_goldens.bin"
    out.write_bytes(b"".join(blobs))
    print(out.name, out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
