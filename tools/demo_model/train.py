"""Trains models/fovea-demo, a small Qwen2.5-VL that reads cards and finds facts, on a CPU in a few hours.

    pip install torch==2.13.0 tokenizers==0.22.1 pillow numpy
    python tools/demo_model/train.py --fovea build/fovea --work build/demo-training      # again: resumes

Stages (STAGES below): first reading one or two cards, vision tower included; then finding things among more and more
cards, facts and filler with the vision tower held still; then the large q/k biases of the real Qwen2.5 are planted
(plant_biases) and training goes on with them in place. log.csv holds the loss curve, best.pt what export.py needs.

State: a first run (one core, about two hours) did NOT succeed and no model ships. log.csv has 4,464 steps of it (read
1,114, find 1,228, grow 2,122). On 400 fresh `easy` questions with unseen handwriting, after "read" and after "grow":
colours 100 % and 100 %, shapes 62 % and 47 %, digits 8 % and 11 % (guessing: 10 %), the code of a single fact 0 % and
100 %. Digits were not read when "read" ended, and the vision tower was then held still all the same. Why they were not
read in that many steps is not known. The next run should at least end "read" by accuracy on unseen digits.
"""

import argparse
import csv
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import data
import torch
import torch.nn.functional as F
from model import Config, Model

VOCABULARY = 1024
# Rotary pairs 28 to 31 of 32 turn by at most 0.03 rad over 4,000 tokens: a constant key there cancels in softmax.
SLOW_PAIRS = range(28, 32)

# Each stage: optimizer steps, which sets it draws from (kind, records, options), whether the vision tower learns.
STAGES = [
    dict(name="read", steps=1100, vision=True, rate=1e-3, tokens=4096, sets=[
        ("multi-image", 1500, dict(images="1", turns="1")), ("multi-image", 700, dict(images="2", turns="2"))]),
    dict(name="find", steps=1200, vision=False, rate=1e-3, tokens=6144, sets=[
        ("multi-image", 1500, dict(images="2-3", turns="3")),
        ("long-context", 1500, dict(tokens="0-40", facts="2-4", turns="4"))]),
    dict(name="grow", steps=2000, vision=False, rate=1e-3, tokens=6144, sets=[
        ("multi-image", 1200, dict(images="2-8", turns="6")),
        ("long-context", 1000, dict(tokens="20-300", facts="3-12", turns="8")),
        ("easy", 200, {}),
        ("mixed", 500, dict(tokens="0-200", images="1-4", facts="2-6", turns="6"))]),
    dict(name="long", steps=1200, vision=False, rate=6e-4, tokens=8192, biases=True, sets=[
        ("multi-image", 800, dict(images="2-12", turns="8")),
        ("long-context", 500, dict(tokens="100-1500", facts="6-20", turns="12")),
        ("easy", 300, {}),
        ("mixed", 300, dict(tokens="50-800", images="1-6", facts="3-8", turns="8"))]),
    dict(name="longest", steps=500, vision=False, rate=3e-4, tokens=8192, biases=True, sets=[
        ("multi-image", 500, dict(images="2-16", turns="8")),
        ("long-context", 250, dict(tokens="500-4000", facts="8-24", turns="16")),
        ("easy", 200, {}),
        ("mixed", 200, dict(tokens="100-2000", images="1-8", facts="4-12", turns="10"))]),
]


def slow_channels(config):
    half = config.head_dim // 2
    return torch.tensor([c for pair in SLOW_PAIRS for c in (pair, pair + half)])


def boundary_layers(model):
    return [model.language_model.layers[0].self_attn, model.language_model.layers[-1].self_attn]


def rows_of_slow_channels(attention, projection):
    heads = projection.weight.shape[0] // attention.c.head_dim
    return (torch.arange(heads)[:, None] * attention.c.head_dim + slow_channels(attention.c)).flatten()


def hold_slow_keys(model):
    """Before the biases stand, boundary layers keep no key content in the slow channels: then planting a constant
    key and a query offset there changes no attention weight in exact arithmetic."""
    with torch.no_grad():
        for attention in boundary_layers(model):
            rows = rows_of_slow_channels(attention, attention.k_proj)
            attention.k_proj.weight[rows] = 0
            attention.k_proj.bias[rows] = 0


@torch.no_grad()
def plant_biases(model, layers):
    """Adds, per layer, key biases of one size and query offsets per head in the slow channels."""
    for attention, (key, queries) in zip((layer.self_attn for layer in model.language_model.layers), layers):
        attention.k_proj.bias[rows_of_slow_channels(attention, attention.k_proj)] += key
        rows = rows_of_slow_channels(attention, attention.q_proj).view(attention.c.heads, -1)
        for head, query in enumerate(queries):
            attention.q_proj.bias[rows[head]] += query


# Per-head key norms of Qwen2.5-7B, 302 (first layer), 11 (median) and 460 (last layer), on 8 channels; query offset
# 13.4; one head of the last layer with queries of 56, beyond the range of fp16 (published: up to 69).
BIASES = [(107.0, (13.4,) * 4), (4.0, (13.4,) * 4), (163.0, (13.4, 13.4, 13.4, 56.0))]


class Pool:
    """The records of one stage, made by the program in a thread while training runs on the previous ones."""

    def __init__(self, fovea, reader):
        self.fovea, self.reader = fovea, reader
        self.worker = ThreadPoolExecutor(1)
        self.next = None

    def make(self, stage, seed):
        samples = []
        for i, (kind, count, options) in enumerate(stage["sets"]):
            records = data.make_suite(self.fovea, kind, count, seed * 100 + i, **options)
            samples += [self.reader.sample(record) for record in records]
        return samples

    def take(self, stage, seed, then):
        if self.next is None or self.next[0] != (stage["name"], seed):
            self.next = ((stage["name"], seed), self.worker.submit(self.make, stage, seed))
        samples = self.next[1].result()
        self.next = ((then[0]["name"], then[1]), self.worker.submit(self.make, *then)) if then else None
        return samples


def batches_of(samples, tokens, shuffle):
    """Samples of similar length together, about `tokens` padded rows a batch."""
    order = sorted(samples, key=lambda s: len(s.ids) * (shuffle.uniform(0.9, 1.1)))
    out, batch = [], []
    for sample in order:
        if batch and max(len(sample.ids), len(batch[-1].ids)) * (len(batch) + 1) > tokens:
            out.append(batch)
            batch = []
        batch.append(sample)
    out.append(batch)
    shuffle.shuffle(out)
    return out


def embed_images(model, images):
    """Vision embeddings of all images, in order, [rows, hidden]; equally sized ones run together."""
    groups, out = {}, [None] * len(images)
    for i, image in enumerate(images):
        groups.setdefault(image[:2], []).append(i)
    for (height, width), members in groups.items():
        for at in range(0, len(members), 64):
            part = members[at:at + 64]
            rows = model.visual(torch.stack([images[i][2] for i in part]), height, width)
            for i, embedded in zip(part, rows):
                out[i] = embedded
    return torch.cat(out) if out else torch.zeros(0, model.c.hidden)


@torch.no_grad()
def replace_images(model, samples):
    """With the vision tower held still, its output takes the place of the patches, once."""
    images = [(s, i) for s in samples for i in range(len(s.images))]
    with torch.autocast("cpu", torch.bfloat16):
        for at in range(0, len(images), 512):
            part = images[at:at + 512]
            rows = embed_images(model, [s.images[i] for s, i in part]).float()
            for (s, i), embedded in zip(part, rows.split([s.images[i][0] * s.images[i][1] // 4 for s, i in part])):
                s.images[i] = embedded


def run(model, samples, image_pad, eager=False, keep=None):
    batch = data.collate(samples, image_pad)
    images = batch.image_rows
    if not images:
        vision = torch.zeros(0, model.c.hidden)
    elif torch.is_tensor(images[0]):
        vision = torch.cat(images)
    else:
        vision = embed_images(model, images)
    logits = model(batch.ids, batch.positions, vision, batch.vision_places, batch.answer_places, eager, keep)
    return logits.float(), batch


@torch.no_grad()
def accuracy(model, samples, image_pad, dtype=torch.bfloat16, eager=False, tokens=8192):
    """Share of records whose own answer, end token included, is the most likely one at every step."""
    right = total = 0
    for batch in batches_of(samples, tokens, random.Random(0)):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits, made = run(model, batch, image_pad, eager)
        wrong = made.answer_places[(logits.argmax(-1) != made.expected) & made.final][:, 0]
        right += len(batch) - len(wrong.unique())
        total += len(batch)
    return right / total


class Run:
    def __init__(self, arguments):
        self.work = Path(arguments.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.fovea = arguments.fovea
        self.tokenizer = self.load_tokenizer()
        self.reader = data.Reader(self.tokenizer)
        self.pool = Pool(self.fovea, self.reader)
        torch.manual_seed(1)
        self.model = Model(Config(ids=self.reader.id, vocab=VOCABULARY))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
        self.stage = self.step = self.pool_number = 0
        self.planted = False
        self.seconds = 0.0
        if (self.work / "last.pt").exists():
            self.load(self.work / "last.pt")

    def load_tokenizer(self):
        path = self.work / "tokenizer.json"
        if not path.exists():
            texts = [part["text"] + " " + record["answer"]
                     for kind in ("easy", "multi-image", "mixed")
                     for record in data.make_suite(self.fovea, kind, 1500, 7, turns="6")
                     for message in record["messages"] if message["role"] == "user"
                     for part in message["content"] if part["type"] == "text"]
            data.train_tokenizer(texts + [data.SYSTEM, "user\n assistant\n"], VOCABULARY).save(str(path))
        return data.Tokenizer.from_file(str(path))

    def load(self, path):
        state = torch.load(path, weights_only=False)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in ("stage", "step", "pool_number", "planted", "seconds"):
            setattr(self, name, state[name])

    def save(self, name="last.pt"):
        state = {key: getattr(self, key) for key in ("stage", "step", "pool_number", "planted", "seconds")}
        state |= {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                  "config": self.model.c}
        torch.save(state, self.work / "writing.pt")
        (self.work / "writing.pt").rename(self.work / name)

    def evaluate(self):
        pad = self.reader.id["<|image_pad|>"]
        sets = {"easy": ("easy", {}), "images": ("multi-image", dict(images="4-8")),
                "short": ("long-context", dict(tokens="100-400", facts="8-12")),
                "long": ("long-context", dict(tokens="1000-3000", facts="8-16"))}
        scores = []
        for name, (kind, options) in sets.items():
            if name == "long" and self.stage < 3:
                continue
            records = data.make_suite(self.fovea, kind, 96, 900_000, digits="unseen", **options)
            samples = [self.reader.sample(r) for r in records]
            replace_images(self.model, samples)
            flash = accuracy(self.model, samples, pad)
            eager = accuracy(self.model, samples, pad, eager=True)
            scores.append(f"{name} {flash:.3f} (eager {eager:.3f})")
        print(f"[{STAGES[self.stage]['name']} {self.step}] " + ", ".join(scores), flush=True)

    def learn(self, samples, rate):
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            logits, batch = run(self.model, samples, self.reader.id["<|image_pad|>"])
        loss = F.cross_entropy(logits, batch.expected)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        if not self.planted:
            hold_slow_keys(self.model)
        # The first token of each answer says whether it was found; end tokens are easy.
        content = batch.expected != self.reader.id["<|im_end|>"]
        return loss.item(), (logits.argmax(-1) == batch.expected)[content].float().mean().item()

    def train(self):
        shuffle = random.Random(1000 * self.stage + self.pool_number)
        log = (self.work / "log.csv").open("a", newline="")
        writer = csv.writer(log)
        while self.stage < len(STAGES):
            stage = STAGES[self.stage]
            if stage.get("biases") and not self.planted:
                self.evaluate()
                plant_biases(self.model, BIASES)
                self.planted = True
                print("planted the biases", flush=True)
                self.evaluate()
            self.model.visual.requires_grad_(stage["vision"])
            self.one_pool(stage, shuffle, writer)
            log.flush()
            self.save()
            if self.step >= stage["steps"]:
                self.evaluate()
                self.save(f"{stage['name']}.pt")
                self.stage, self.step = self.stage + 1, 0
        self.save("best.pt")

    def one_pool(self, stage, shuffle, writer):
        self.pool_number += 1
        samples = self.pool.take(stage, self.pool_number, (stage, self.pool_number + 1))
        if not stage["vision"]:
            replace_images(self.model, samples)
        began = time.time()
        for samples_now in batches_of(samples, stage["tokens"], shuffle):
            warm = min(1.0, (self.step + 1) / 50)
            fall = 0.5 + 0.5 * math.cos(math.pi * min(1, self.step / stage["steps"]))
            loss, right = self.learn(samples_now, stage["rate"] * warm * (0.1 + 0.9 * fall))
            self.step += 1
            writer.writerow([stage["name"], self.step, round(loss, 4), round(right, 4)])
            if self.step % 20 == 0:
                spent = time.time() - began
                print(f"{stage['name']} {self.step} loss {loss:.3f} right {right:.3f} {spent:.0f} s", flush=True)
            if self.step % 300 == 0:
                self.evaluate()
        self.seconds += time.time() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fovea", default="build/fovea", help="the program, which makes the question sets")
    parser.add_argument("--work", default="build/demo-training", help="checkpoints and log; resumes from there")
    Run(parser.parse_args()).train()


if __name__ == "__main__":
    main()
