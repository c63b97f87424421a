"""Training data of the demo model: question sets of `fovea suite make`, as tensors.

The sets that the audit asks and those that training reads come from the same program, with other seeds and other
handwriting (--digits seen against unseen).
"""

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
           "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>",
           "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
# The pre-tokenizer of Qwen2 and later.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")


def make_suite(fovea, kind, count, seed, digits="seen", **options):
    """The records of a fresh suite; each image already an RGB array."""
    out = Path(tempfile.mkdtemp(prefix="suite-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        command = [fovea, "suite", "make", "--kind", kind, "--count", count, "--seed", seed, "--digits", digits,
                   "--out", out]
        for name, value in options.items():
            command += [f"--{name}", value]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        records = [json.loads(line) for line in (out / "suite.jsonl").open()]
        for record in records:
            for message in record["messages"]:
                for part in message["content"] if isinstance(message["content"], list) else []:
                    if part["type"] == "image":
                        part["pixels"] = np.asarray(Image.open(out / part["image"]).convert("RGB"))
        return records
    finally:
        shutil.rmtree(out)


def train_tokenizer(texts, size):
    tokenizer = Tokenizer(models.BPE(unk_token=None, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size - len(SPECIAL), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    return tokenizer


def patches_of(pixels):
    """[height/14 * width/14, 1176] in the reference's order: merge blocks, then channel, time, y, x."""
    x = (pixels.astype(np.float32) / 255 - MEAN) / STD
    h, w = x.shape[0] // 14, x.shape[1] // 14
    x = x.transpose(2, 0, 1).reshape(3, h // 2, 2, 14, w // 2, 2, 14).transpose(1, 4, 2, 5, 0, 3, 6)
    x = x.reshape(h * w, 3, 1, 196).repeat(2, 2)
    return torch.from_numpy(np.ascontiguousarray(x.reshape(h * w, 1176)))


@dataclass
class Sample:
    ids: list
    positions: np.ndarray  # [3, rows]
    answers: list          # (row whose logits are scored, expected id, whether it is the record's own answer)
    images: list           # (height, width, patches)
    record: dict


class Reader:
    """Turns records into samples: chat template, token ids, M-RoPE positions (transformers' get_rope_index)."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.id = {name: tokenizer.token_to_id(name) for name in SPECIAL}

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def sample(self, record):
        out = Sample([], None, [], [], record)
        spans = []  # (first row, merged height, merged width)
        text = SYSTEM
        turns = record["messages"] + [{"role": "assistant", "content": record["answer"]}]
        for number, turn in enumerate(turns):
            text += f"<|im_start|>{turn['role']}\n"
            if turn["role"] == "assistant":
                out.ids += self.encode(text)
                expected = self.encode(turn["content"]) + [self.id["<|im_end|>"]]
                last = number == len(turns) - 1
                out.answers += [(len(out.ids) - 1 + i, token, last) for i, token in enumerate(expected)]
                out.ids += expected
                text = "\n"
                continue
            for part in turn["content"]:
                if part["type"] == "text":
                    text += part["text"]
                    continue
                out.ids += self.encode(text + "<|vision_start|>")
                height, width = part["pixels"].shape[0] // 28, part["pixels"].shape[1] // 28
                spans.append((len(out.ids), height, width))
                out.ids += [self.id["<|image_pad|>"]] * (height * width)
                out.images.append((2 * height, 2 * width, patches_of(part["pixels"])))
                text = "<|vision_end|>"
            text += "<|im_end|>\n"
        out.positions = positions_of(len(out.ids), spans)
        return out


def positions_of(rows, spans):
    positions = np.zeros((3, rows), np.int64)
    row = start = 0
    for first, height, width in [*spans, (rows, 0, 0)]:
        positions[:, row:first] = start + np.arange(first - row)
        start += first - row
        row = first + height * width
        if height:
            y, x = np.mgrid[0:height, 0:width]
            positions[:, first:row] = start + np.stack([0 * y.ravel(), y.ravel(), x.ravel()])
            start += max(height, width)
    return positions


@dataclass
class Batch:
    ids: torch.Tensor            # [batch, rows]
    positions: torch.Tensor      # [3, batch, rows]
    vision_places: torch.Tensor  # [vision rows, 2]
    answer_places: torch.Tensor  # [answers, 2]
    expected: torch.Tensor       # [answers]
    final: torch.Tensor          # [answers], bool: belongs to the record's own answer
    image_rows: list             # embedded images in order, by the index within the batch's samples


def collate(samples, image_pad):
    rows = -(-max(len(s.ids) for s in samples) // 16) * 16
    ids = torch.zeros(len(samples), rows, dtype=torch.long)
    positions = torch.zeros(3, len(samples), rows, dtype=torch.long)
    answers = []
    for i, sample in enumerate(samples):
        ids[i, :len(sample.ids)] = torch.tensor(sample.ids)
        positions[:, i, :len(sample.ids)] = torch.from_numpy(sample.positions)
        answers += [(i, row, token, last) for row, token, last in sample.answers]
    answers = torch.tensor(answers)
    return Batch(ids, positions, (ids == image_pad).nonzero(), answers[:, :2], answers[:, 2],
                 answers[:, 3].bool(), [image for s in samples for image in s.images])
