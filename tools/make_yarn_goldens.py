#!/usr/bin/env python3
"""Writes tests/data/yarn/goldens.json: rotary frequencies and magnitudes that transformers computes from rope_scaling.

  python tools/make_yarn_goldens.py            # torch, transformers 5
  python tools/make_yarn_goldens.py --check    # with any release

Each entry is {heads, hidden_size, max_position_embeddings, rope_theta, rope_scaling, inv_freq, attention_factor}.
"""
import argparse
import json
import random
import sys
from pathlib import Path

import torch
import transformers
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRotaryEmbedding

OUT = Path(__file__).resolve().parent.parent / "tests" / "data" / "yarn" / "goldens.json"


def scalings(rng):
    """The README's own, each optional field alone, then random ones with any of them."""
    yield {}
    yield dict(original_max_position_embeddings=None)
    for one in (dict(beta_fast=8), dict(beta_slow=3.5), dict(beta_fast=0, beta_slow=0), dict(attention_factor=1.0), dict(truncate=False),
                dict(mscale=0.7), dict(mscale=0.7, mscale_all_dim=1.2), dict(mscale=1, mscale_all_dim=0), dict(beta_fast=1, beta_slow=1)):
        yield one
    for _ in range(30):
        fields = dict(beta_fast=rng.uniform(4, 40), beta_slow=rng.uniform(0.3, 3), attention_factor=rng.uniform(0.5, 2),
                      truncate=rng.random() < 0.5, mscale=rng.uniform(0.1, 2), mscale_all_dim=rng.uniform(0.1, 2))
        yield {name: value for name, value in fields.items() if rng.random() < 0.4}


def shapes(rng):
    """[heads, hidden_size, max_position_embeddings, rope_theta, factor, original length]: the released ones first."""
    yield 28, 3584, 128000, 1e6, 4, 32768
    yield 16, 2048, 32768, 1e6, 4.0, 32768
    while True:
        head_dim = rng.choice([16, 32, 64, 128])
        yield 2, 2 * head_dim, 4096, rng.choice([1e4, 5e5, 1e6]), rng.choice([1, 1.5, 2, 4, 32]), rng.choice([16, 256, 2048, 32768])


def computed(heads, hidden, longest, theta, scaling):
    config = Qwen2_5_VLTextConfig(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=heads,
                                  max_position_embeddings=longest, rope_theta=theta, rope_scaling=dict(scaling))
    rotary = Qwen2_5_VLRotaryEmbedding(config)
    return dict(heads=heads, hidden_size=hidden, max_position_embeddings=longest, rope_theta=theta, rope_scaling=scaling,
                inv_freq=rotary.inv_freq.tolist(), attention_factor=rotary.attention_scaling)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    transformers.logging.set_verbosity_error()
    if parser.parse_args().check:
        inputs = ("heads", "hidden_size", "max_position_embeddings", "rope_theta", "rope_scaling")
        goldens = json.loads(OUT.read_text())["scalings"]
        wrong = [golden for golden in goldens if computed(*(golden[name] for name in inputs)) != golden]
        print(f"{transformers.__version__}: {len(goldens) - len(wrong)} of {len(goldens)} equal", *wrong, sep="\n")
        return bool(wrong)
    rng = random.Random(4)
    goldens = []
    for fields, (heads, hidden, longest, theta, factor, original) in zip(scalings(rng), shapes(rng)):
        pairs = hidden // heads // 2
        scaling = dict(type="yarn", rope_type="yarn", factor=factor, original_max_position_embeddings=original,
                       mrope_section=[pairs // 4, pairs * 3 // 8, pairs - pairs // 4 - pairs * 3 // 8]) | fields
        goldens.append(computed(heads, hidden, longest, theta, {k: v for k, v in scaling.items() if v is not None}))
    OUT.parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(golden) for golden in goldens)
    OUT.write_text(f'{{"transformers": "{transformers.__version__}", "torch": "{torch.__version__}", "scalings": [\n{lines}\n]}}\n')
    print(f"{len(goldens)} scalings, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    sys.exit(main())
