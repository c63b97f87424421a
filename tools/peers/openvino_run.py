#!/usr/bin/env python3
"""Times OpenVINO GenAI on this CPU in bf16. compare_peers runs this file with the interpreter that has openvino-genai
and pillow. Prints one JSON object. DIR is what `optimum-cli export openvino --weight-format fp16` made of our folder.

    openvino_run.py DIR THREADS REPETITIONS text LENGTH
    openvino_run.py DIR THREADS REPETITIONS vision QUESTION IMAGE ...
"""

import json
import statistics
import sys

import numpy
import openvino
import openvino_genai
from PIL import Image

DECODED = 16   # tokens, as many as fovea bench decodes


def generate(pipeline, prompt, tokens, chat, images=()):
    config = openvino_genai.GenerationConfig(max_new_tokens=tokens, min_new_tokens=tokens, ignore_eos=True,
                                             do_sample=False, apply_chat_template=chat)
    tensors = [openvino.Tensor(numpy.asarray(Image.open(path).convert("RGB"))[None]) for path in images]
    return pipeline.generate(prompt, images=tensors, generation_config=config).perf_metrics


def text(pipeline, length):
    """A prompt of one word again and again, then 16 tokens one by one."""
    metrics = generate(pipeline, " the" * length, DECODED + 1, False)
    if metrics.get_num_input_tokens() != length:
        sys.exit(f"the prompt has {metrics.get_num_input_tokens()} tokens, not {length}")
    first, *others = metrics.raw_metrics.token_infer_durations   # microseconds
    if len(others) != DECODED:
        sys.exit(f"{len(others)} tokens were decoded, not {DECODED}")
    return {f"prefill.{length}": first / 1e6, f"decode.{length}": sum(others) / 1e6}, {}


def vision(pipeline, question, paths):
    """The tower alone, and from the decoded images to the first token."""
    metrics = generate(pipeline, question, 1, True, paths)
    return ({"vision": metrics.get_prepare_embeddings_duration().mean / 1e3,
             "first_token": metrics.get_ttft().mean / 1e3}, {"prompt_tokens": metrics.get_num_input_tokens()})


def main():
    folder, threads, repetitions, kind, *rest = sys.argv[1:]
    pipeline = openvino_genai.VLMPipeline(folder, "CPU", INFERENCE_NUM_THREADS=int(threads),
                                          INFERENCE_PRECISION_HINT="bf16")
    generate(pipeline, "Hello", 2, False)   # pages and caches
    run = (lambda: text(pipeline, int(rest[0]))) if kind == "text" else (lambda: vision(pipeline, rest[0], rest[1:]))
    results = [run() for _ in range(int(repetitions))]
    seconds = {name: statistics.median(result[0][name] for result in results) for name in results[0][0]}
    print(json.dumps({"seconds": seconds, "settings": {"openvino": openvino.__version__,
                                                       "openvino_genai": openvino_genai.__version__,
                                                       **results[0][1]}}))


if __name__ == "__main__":
    main()
