#!/usr/bin/env python3
"""Asks transformers the questions of a suite and sets its accuracy beside fovea's, configuration by configuration.

    pip install torch==2.13.0 transformers==4.57.6 pillow      # or transformers==5.24.0
    fovea audit -m DIR --suite SUITE --compare eager-bf16,sdpa --json audit.json
    python tools/compare_transformers.py -m DIR --suite SUITE --audit audit.json [--limit N] [--json table.json]

transformers runs on the CPU, one question at a time, greedily: fp32, bf16 with eager attention, bf16 with sdpa, as
fovea's presets fp32, eager-bf16 and sdpa. An answer counts when it equals the expected one but for white space. Prints
a Markdown table; exit status 1 if an accuracy is more than 3 points away or an fp32 answer differs.

transformers 5.x computes three-axis positions only where the inputs say which tokens are pictures (mm_token_type_ids);
without them it counts pictures as text, without a word, and answers worse. Its processors add the field; inputs made by
hand, as here, must.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import transformers
from PIL import Image
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

IS_4 = transformers.__version__.startswith("4.")
if IS_4:  # the processor that resizes with Pillow, as fovea does
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor as ImageProcessor
else:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil as ImageProcessor

CONFIGURATIONS = {"fp32": ("eager", torch.float32), "sdpa": ("sdpa", torch.bfloat16),
                  "eager-bf16": ("eager", torch.bfloat16)}


class Asker:
    def __init__(self, folder, attention, dtype):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.images = ImageProcessor.from_pretrained(folder)
        self.model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=dtype,
                                                                        attn_implementation=attention).eval()
        self.dtype = dtype

    @torch.no_grad()
    def ask(self, record, folder):
        text = self.tokenizer.apply_chat_template(record["messages"], tokenize=False, add_generation_prompt=True)
        pictures = [Image.open(folder / part["image"]).convert("RGB") for message in record["messages"]
                    if isinstance(message["content"], list) for part in message["content"] if part["type"] == "image"]
        inputs = {}
        if pictures:
            inputs = dict(self.images(images=pictures, return_tensors="pt"))
            sizes = [(h // 2, w // 2) for _, h, w in inputs["image_grid_thw"].tolist()]  # in tokens
            for h, w in sizes:
                text = text.replace("<|image_pad|>", "<|placeholder|>" * (h * w), 1)
            text = text.replace("<|placeholder|>", "<|image_pad|>")
            inputs["pixel_values"] = inputs["pixel_values"].to(self.dtype)
        inputs |= self.tokenizer(text, return_tensors="pt", add_special_tokens=False)
        if pictures and not IS_4:
            inputs["mm_token_type_ids"] = (inputs["input_ids"] == self.model.config.image_token_id).int()
        out = self.model.generate(**inputs, do_sample=False, max_new_tokens=8)
        if pictures:
            saved = sum(h * w - max(h, w) for h, w in sizes)  # a picture takes as many positions as its longer side
            assert int(self.model.model.rope_deltas) == -saved, "transformers gave pictures the positions of text"
        return self.tokenizer.decode(out[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)


def compare(name, records, ours, arguments):
    asker = Asker(arguments.model, *CONFIGURATIONS[name])
    theirs = {}
    for number, record in enumerate(records):
        theirs[record["id"]] = asker.ask(record, arguments.suite)
        if sys.stderr.isatty():
            print(f"\r{name} {number + 1}/{len(records)}", end="", file=sys.stderr)
    share = lambda answers: sum(answers[r["id"]].strip() == r["answer"] for r in records) / len(records)
    same = sum(theirs[r["id"]].strip() == ours[r["id"]].strip() for r in records)
    return {"configuration": name, "count": len(records), "transformers": share(theirs), "fovea": share(ours),
            "same_answers": same}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True, type=Path)
    parser.add_argument("--suite", required=True, type=Path, help="folder with suite.jsonl")
    parser.add_argument("--audit", required=True, type=Path, help="what `fovea audit --json` wrote for this suite")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    records = [json.loads(line) for line in (arguments.suite / "suite.jsonl").open()][:arguments.limit]
    audit = json.loads(arguments.audit.read_text())
    rows = []
    for configuration in audit["configurations"]:
        if configuration["name"] in CONFIGURATIONS:
            ours = {item["id"]: item["answer"] or "" for item in configuration["items"]}
            rows.append(compare(configuration["name"], [r for r in records if r["id"] in ours], ours, arguments))
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, {arguments.suite}")
    print("| configuration | questions | transformers | fovea | same answers |\n| --- | --- | --- | --- | --- |")
    failed = False
    for row in rows:
        print("| {configuration} | {count} | {transformers:.1%} | {fovea:.1%} | {same_answers} |".format(**row))
        failed |= abs(row["transformers"] - row["fovea"]) > 0.03
        failed |= row["configuration"] == "fp32" and row["same_answers"] != row["count"]
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
