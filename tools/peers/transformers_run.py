#!/usr/bin/env python3
"""Times transformers on this CPU, bf16 with sdpa attention. compare_peers runs this file with the interpreter that has
transformers, torch and pillow. Prints one JSON object.

    transformers_run.py DIR THREADS REPETITIONS text LENGTH
    transformers_run.py DIR THREADS REPETITIONS vision QUESTION IMAGE ...
"""

import json
import statistics
import sys
import time

import torch
import transformers
from PIL import Image
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessor

DECODED = 16   # tokens, as many as fovea bench decodes


def timed(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def text(model, length):
    """A prompt of random words, then 16 tokens one by one, the most likely each."""
    ids = torch.randint(0, 100000, (1, length))
    prefill, out = timed(lambda: model(input_ids=ids, use_cache=True, logits_to_keep=1))
    decode = 0
    for _ in range(DECODED):
        token = out.logits[:, -1:].argmax(-1)
        seconds, out = timed(lambda: model(input_ids=token, past_key_values=out.past_key_values, use_cache=True))
        decode += seconds
    return {f"prefill.{length}": prefill, f"decode.{length}": decode}, {}


def vision(model, folder, question, paths):
    """The tower alone, and from the pixels to the first token."""
    pixels = Qwen2VLImageProcessor.from_pretrained(folder)(images=[Image.open(path).convert("RGB") for path in paths],
                                                           return_tensors="pt")
    grid, patches = pixels["image_grid_thw"], pixels["pixel_values"].to(model.dtype)
    counts = [t * h * w // 4 for t, h, w in grid.tolist()]
    pictures = "".join("<|vision_start|>" + "<|image_pad|>" * count + "<|vision_end|>" for count in counts)
    prompt = (f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{pictures}{question}"
              "<|im_end|>\n<|im_start|>assistant\n")
    ids = AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    tower, _ = timed(lambda: model.model.visual(patches, grid_thw=grid))
    first, _ = timed(lambda: model(input_ids=ids, pixel_values=patches, image_grid_thw=grid, use_cache=True,
                                   logits_to_keep=1))
    return {"vision": tower, "first_token": first}, {"image_tokens": sum(counts), "prompt_tokens": ids.shape[1]}


@torch.no_grad()
def main():
    folder, threads, repetitions, kind, *rest = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16,
                                                               attn_implementation="sdpa").eval()
    model(input_ids=torch.zeros(1, 8, dtype=torch.long))   # pages and caches
    run = (lambda: text(model, int(rest[0]))) if kind == "text" else (lambda: vision(model, folder, rest[0], rest[1:]))
    results = [run() for _ in range(int(repetitions))]
    seconds = {name: statistics.median(result[0][name] for result in results) for name in results[0][0]}
    print(json.dumps({"seconds": seconds, "settings": {"transformers": transformers.__version__,
                                                       "torch": torch.__version__, **results[0][1]}}))


if __name__ == "__main__":
    main()
