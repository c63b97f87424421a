#!/usr/bin/env python3
"""Times PyTorch's scaled_dot_product_attention on this CPU: `torch_sdpa.py LENGTH THREADS REPETITIONS`.

One causal attention in the shape of Qwen2.5-VL-3B's decoder: 16 query heads, 2 key heads of 128, bf16. Key heads are
shared by the operator itself (enable_gqa) or repeated beforehand, untimed, as transformers does; the faster counts.
compare_peers runs this file with the interpreter that has torch. Prints one JSON object.
"""

import json
import statistics
import sys
import time

import torch

HEADS, KEY_HEADS, HEAD_DIM = 16, 2, 128


def median_seconds(call, repetitions):
    call()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@torch.no_grad()
def main():
    length, threads, repetitions = map(int, sys.argv[1:])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    values = lambda heads: (torch.rand(1, length, heads, HEAD_DIM) * 2 - 1).bfloat16().transpose(1, 2)
    q, k, v = values(HEADS), values(KEY_HEADS), values(KEY_HEADS)
    repeated = [x.repeat_interleave(HEADS // KEY_HEADS, dim=1) for x in (k, v)]
    sdpa = torch.nn.functional.scaled_dot_product_attention
    times = {"enable_gqa": median_seconds(lambda: sdpa(q, k, v, is_causal=True, enable_gqa=True), repetitions),
             "repeated keys": median_seconds(lambda: sdpa(q, *repeated, is_causal=True), repetitions)}
    variant = min(times, key=times.get)
    print(json.dumps({"seconds": {f"attention.causal.{length}": times[variant]},
                      "settings": {"torch": torch.__version__, "variant": variant}}))


if __name__ == "__main__":
    main()
