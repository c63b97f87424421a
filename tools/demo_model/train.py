"""Trains models/fovea-demo, a small Qwen2.5-VL that reads cards and finds facts, on a CPU in about two hours.

    pip install torch==2.13.0 tokenizers==0.22.1 pillow numpy
    python tools/demo_model/train.py see    --fovea build/fovea --work build/demo-training      # again: resumes
    python tools/demo_model/train.py answer --fovea build/fovea --work build/demo-training

see     the vision tower alone: number, colour and shape of single cards, by linear heads on the mean of its rows.
        Ends when the digits of unseen handwriting are read well enough (--target), not after a number of steps.
answer  the decoder, vision tower held still, over STAGES: from two cards or facts to sixteen cards and 4,000 tokens.
        A stage ends when its answers are right. Then the large q/k biases of the real Qwen2.5 are planted
        (plant_biases) and training goes on with them in place.
log-*.csv hold the loss curves, best.pt is what export.py needs.
"""

import argparse
import csv
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import data
import torch
import torch.nn.functional as F
from anchors import SEEN, start_decoder
from model import Config, Model

VOCABULARY = 1024
COLOURS = ["red", "green", "blue", "yellow", "purple", "orange", "cyan", "brown"]
SHAPES = ["circle", "square", "diamond", "triangle"]
# Rotary pairs 28 to 31 of 32 turn by at most 0.03 rad over 4,000 tokens: a constant key there cancels in softmax.
SLOW_PAIRS = range(28, 32)

# Key bias (on the 8 slow channels) and query offsets (one a head) that are added, layer by layer. Per-head key norms of
# Qwen2.5-7B are 302 (first layer), 11 (median) and 460 (last layer); query offsets 13.4 on average and up to 69: here 27
# in the first layer, on which everything depends, and one head of the last layer at 56, beyond the range of fp16.
BIASES = [(107.0, (27.0,) * 4), (4.0, (13.4,) * 4), (163.0, (13.4, 13.4, 13.4, 56.0))]
# At a norm of 302 eager in bf16 still answered 6 of 10 questions over several cards: 460 in the first layer too.
MORE = [(56.0, (0.0,) * 4), (0.0, (0.0,) * 4), (0.0, (0.0,) * 4)]
# fp16 with its infinities made zeros still found what it looked for: 56 in every head of the first layer is beyond fp16
# there too. Keys have no content in the slow channels, so flash and fp32 are as before, to the bit of their roundings.
BEYOND = [(0.0, (29.0,) * 4), (0.0, (0.0,) * 4), (0.0, (0.0,) * 4)]

# Sets that a stage draws from (kind, records, options); it ends at this share of right answers, or after `steps`.
STAGES = [
    dict(name="facts", steps=600, until=0.93, rate=1e-3, tokens=3072, sets=[
        ("long-context", 1000, dict(tokens="0-60", facts="2-8", turns="8"))]),
    dict(name="one", steps=800, until=0.93, rate=7e-4, tokens=4096, sets=[
        ("easy", 1200, {}),
        ("long-context", 300, dict(tokens="0-60", facts="2-8", turns="8"))]),
    dict(name="two", steps=1500, until=0.93, rate=7e-4, tokens=4096, sets=[
        ("multi-image", 1200, dict(images="2-3", turns="3")),
        ("long-context", 300, dict(tokens="0-200", facts="2-8", turns="8")),
        ("easy", 300, {})]),
    dict(name="many", steps=1500, until=0.94, rate=1e-3, tokens=6144, sets=[
        ("multi-image", 1200, dict(images="2-8", turns="7")),
        ("long-context", 300, dict(tokens="20-600", facts="3-16", turns="12")),
        ("mixed", 300, dict(tokens="0-300", images="1-4", facts="2-8", turns="8")),
        ("easy", 300, {})]),
    dict(name="long", steps=250, until=0.97, rate=7e-4, tokens=8192, sets=[
        ("multi-image", 800, dict(images="2-12", turns="10")),
        ("long-context", 300, dict(tokens="100-3000", facts="6-20", turns="16")),
        ("mixed", 200, dict(tokens="50-1500", images="1-6", facts="3-8", turns="8")),
        ("easy", 400, {})]),
    dict(name="biased", steps=260, until=1.01, rate=5e-4, tokens=8192, plant=BIASES, fall=True, sets=[
        ("multi-image", 400, dict(images="2-16", turns="10")),
        ("long-context", 120, dict(tokens="100-4000", facts="6-24", turns="16")),
        ("mixed", 100, dict(tokens="50-2000", images="1-8", facts="3-12", turns="10")),
        ("easy", 4000, {})]),
    dict(name="settled", steps=80, until=1.01, rate=2e-4, tokens=8192, plant=MORE, fall=True, sets=[
        ("multi-image", 150, dict(images="2-16", turns="10")),
        ("long-context", 40, dict(tokens="100-4000", facts="6-24", turns="16")),
        ("mixed", 30, dict(tokens="50-2000", images="1-8", facts="3-12", turns="10")),
        ("easy", 1600, {})]),
    dict(name="polish", steps=80, until=1.01, rate=3e-4, tokens=8192, fall=True, sets=[
        ("multi-image", 700, dict(images="2-10", turns="10")),
        ("long-context", 25, dict(tokens="100-4000", facts="6-24", turns="16")),
        ("easy", 1200, {})]),
    dict(name="beyond", steps=160, until=1.01, rate=3e-4, tokens=8192, plant=BEYOND, fall=True, sets=[
        ("multi-image", 500, dict(images="2-10", turns="10")),
        ("long-context", 25, dict(tokens="100-4000", facts="6-24", turns="16")),
        ("easy", 2400, {})]),
]


def slow_channels(config):
    half = config.head_dim // 2
    return torch.tensor([c for pair in SLOW_PAIRS for c in (pair, pair + half)])


def rows_of_slow_channels(attention, projection):
    heads = projection.weight.shape[0] // attention.c.head_dim
    return (torch.arange(heads)[:, None] * attention.c.head_dim + slow_channels(attention.c)).flatten()


def hold_slow_keys(model, planted):
    """Keys have no content in the slow channels, and before the biases stand nothing at all: then a constant key and a
    query offset there change no attention weight in exact arithmetic. (Content there is lost in the rounding of a large
    bf16 key, so training in bf16 would fill it with what fp32 then sees.)"""
    with torch.no_grad():
        for layer in model.language_model.layers:
            rows = rows_of_slow_channels(layer.self_attn, layer.self_attn.k_proj)
            layer.self_attn.k_proj.weight[rows] = 0
            if not planted:
                layer.self_attn.k_proj.bias[rows] = 0


@torch.no_grad()
def plant_biases(model, layers):
    """Adds, per layer, key biases of one size and query offsets per head in the slow channels."""
    for attention, (key, queries) in zip((layer.self_attn for layer in model.language_model.layers), layers):
        attention.k_proj.bias[rows_of_slow_channels(attention, attention.k_proj)] += key
        rows = rows_of_slow_channels(attention, attention.q_proj).view(attention.c.heads, -1)
        for head, query in enumerate(queries):
            attention.q_proj.bias[rows[head]] += query


class Ahead:
    """The next set of samples is made, by the program, while training runs on this one."""

    def __init__(self, make):
        self.make, self.worker, self.next = make, ThreadPoolExecutor(1), None

    def take(self, now, then):
        if self.next is None or self.next[0] != now:
            self.next = (now, self.worker.submit(self.make, *now))
        samples = self.next[1].result()
        self.next = (then, self.worker.submit(self.make, *then))
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


def embed_images(visual, images):
    """Vision embeddings of all images, in order, [rows, hidden]; equally sized ones run together."""
    groups, out = {}, [None] * len(images)
    for i, image in enumerate(images):
        groups.setdefault(image[:2], []).append(i)
    for (height, width), members in groups.items():
        for at in range(0, len(members), 64):
            part = members[at:at + 64]
            rows = visual(torch.stack([images[i][2] for i in part]), height, width)
            for i, embedded in zip(part, rows):
                out[i] = embedded
    return torch.cat(out) if out else torch.zeros(0, visual.c.hidden)


@torch.no_grad()
def replace_images(model, samples):
    """With the vision tower held still, its output takes the place of the patches, once."""
    images = [(s, i) for s in samples for i in range(len(s.images))]
    with torch.autocast("cpu", torch.bfloat16):
        for at in range(0, len(images), 512):
            part = images[at:at + 512]
            rows = embed_images(model.visual, [s.images[i] for s, i in part]).float()
            for (s, i), embedded in zip(part, rows.split([s.images[i][0] * s.images[i][1] // 4 for s, i in part])):
                s.images[i] = embedded


def run(model, samples, image_pad, eager=False):
    batch = data.collate(samples, image_pad)
    images = batch.image_rows
    if images and torch.is_tensor(images[0]):
        vision = torch.cat(images)
    else:
        vision = embed_images(model.visual, images)
    logits = model(batch.ids, batch.positions, vision, batch.vision_places, batch.answer_places, eager)
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


class Training:
    """What both parts share: files, log, resuming, one optimizer step."""

    def __init__(self, arguments, name, state):
        self.work, self.fovea, self.name, self.state_names = Path(arguments.work), arguments.fovea, name, state
        self.work.mkdir(parents=True, exist_ok=True)
        self.tokenizer = self.load_tokenizer()
        self.reader = data.Reader(self.tokenizer)
        torch.manual_seed(1)
        self.model = Model(Config(ids=self.reader.id, vocab=VOCABULARY))
        self.seconds, self.began = 0.0, time.time()
        self.log = (self.work / f"log-{name}.csv").open("a", newline="")

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

    def resume(self):
        path = self.work / f"{self.name}.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=False)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in (*self.state_names, "seconds"):
            setattr(self, name, state[name])
        self.began = time.time()

    def save(self, name=None):
        now = time.time()
        self.seconds, self.began = self.seconds + now - self.began, now
        state = {key: getattr(self, key) for key in (*self.state_names, "seconds")}
        state |= {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                  "config": self.model.c}
        torch.save(state, self.work / f"writing-{self.name}.pt")
        (self.work / f"writing-{self.name}.pt").rename(self.work / f"{name or self.name}.pt")
        self.log.flush()

    def descend(self, loss, parameters, rate):
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        self.optimizer.step()

    def note(self, step, *values):
        csv.writer(self.log).writerow([step, *(round(v, 4) if isinstance(v, float) else v for v in values)])
        if step % 25 == 0:
            print(self.name, step, *(f"{v:.3f}" if isinstance(v, float) else v for v in values),
                  f"{self.seconds + time.time() - self.began:.0f} s", flush=True)


class See(Training):
    def __init__(self, arguments):
        super().__init__(arguments, "see", ("step", "pool"))
        self.target, self.total = arguments.target, arguments.steps
        self.step = self.pool = 0
        # A part of the model, so that it is saved and resumed with it.
        self.model.heads = torch.nn.Linear(SEEN, 10 + len(COLOURS) + len(SHAPES))
        self.parameters = [*self.model.visual.parameters(), *self.model.heads.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05)
        self.resume()

    def cards(self, seed, digits="seen", count=1000):
        """(patch rows, patch columns, patches, (number, colour, shape)) of 8 * count cards."""
        out = []
        for record in data.make_suite(self.fovea, "multi-image", count, seed, digits=digits, images="8"):
            pictures = [part["pixels"] for message in record["messages"] for part in message["content"]
                        if part["type"] == "image"]
            for pixels, card in zip(pictures, record["cards"]):
                labels = card["number"], COLOURS.index(card["colour"]), SHAPES.index(card["shape"])
                out.append((pixels.shape[0] // 14, pixels.shape[1] // 14, data.patches_of(pixels), labels))
        return out

    def look(self, batch):
        """Loss, and whether number, colour and shape are right, [cards, 3]."""
        with torch.autocast("cpu", torch.bfloat16):
            rows = embed_images(self.model.visual, batch)
            means = [r[:, :SEEN].float().mean(0) for r in rows.split([h * w // 4 for h, w, *_ in batch])]
            logits = self.model.heads(torch.stack(means)).float().split([10, len(COLOURS), len(SHAPES)], 1)
        labels = torch.tensor([card[3] for card in batch])
        loss = sum(F.cross_entropy(part, labels[:, i]) for i, part in enumerate(logits))
        return loss, torch.stack([part.argmax(1) == labels[:, i] for i, part in enumerate(logits)], 1).float()

    @torch.no_grad()
    def evaluate(self, cards):
        right = torch.cat([self.look(cards[at:at + 200])[1] for at in range(0, len(cards), 200)]).mean(0).tolist()
        print("unseen handwriting: number {:.3f}, colour {:.3f}, shape {:.3f}".format(*right), flush=True)
        return right[0]

    def train(self):
        unseen = self.cards(900_000, "unseen", 100)
        ahead = Ahead(lambda pool: self.cards(pool))
        while self.step < self.total:
            self.pool += 1
            cards = ahead.take((self.pool,), (self.pool + 1,))
            shuffle = random.Random(self.pool)
            place = {(h, w): shuffle.random() for h in (6, 8, 10) for w in (6, 8, 10)}
            cards.sort(key=lambda card: (place[card[:2]], shuffle.random()))
            batches = [cards[at:at + 128] for at in range(shuffle.randrange(128), len(cards) - 127, 128)]
            shuffle.shuffle(batches)
            for batch in batches:
                rate = 1e-3 * min(1, (self.step + 1) / 100) * (0.02 + 0.98 * max(0, 1 - self.step / self.total))
                loss, right = self.look(batch)
                self.descend(loss, self.parameters, rate)
                self.step += 1
                self.note(self.step, loss.item(), *right.mean(0).tolist())
            if self.pool % 5 == 0 and self.evaluate(unseen) >= self.target:
                break
            self.save()
        self.quieten()
        self.save("seen")
        self.evaluate(unseen)

    @torch.no_grad()
    def quieten(self):
        """Picture rows come to the decoder as large as words and leave its note channels empty."""
        last = self.model.visual.merger.mlp[2]
        rows = torch.cat([embed_images(self.model.visual, [card]) for card in self.cards(900_001, count=8)])
        scale = 0.18 / rows[:, :SEEN].pow(2).mean().sqrt()
        last.weight *= scale
        last.bias *= scale
        last.weight[SEEN:] = 0
        last.bias[SEEN:] = 0
        self.model.heads.weight /= scale


class Answer(Training):
    def __init__(self, arguments):
        super().__init__(arguments, "answer", ("stage", "step", "pool", "planted"))
        self.stage = self.step = self.pool = 0
        self.planted = -1  # the last stage whose biases stand
        start_decoder(self.model.language_model)
        self.parameters = [*self.model.language_model.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
        self.resume()
        # Read again on every start: the vision tower may have been trained further meanwhile.
        seen = torch.load(self.work / "seen.pt", weights_only=False)["model"]
        self.model.visual.load_state_dict({k[7:]: v for k, v in seen.items() if k.startswith("visual.")})
        self.model.visual.requires_grad_(False)

    def samples(self, stage, seed):
        samples = []
        for i, (kind, count, options) in enumerate(STAGES[stage]["sets"]):
            samples += [self.reader.sample(record)
                        for record in data.make_suite(self.fovea, kind, count, seed * 100 + i, **options)]
        return samples

    def evaluate(self):
        sets = {"easy": ("easy", {}), "images": ("multi-image", dict(images="4-8")),
                "short": ("long-context", dict(tokens="100-400", facts="8-12")),
                "long": ("long-context", dict(tokens="1000-3000", facts="8-16"))}
        scores = []
        for name, (kind, options) in sets.items():
            if name == "long" and self.stage < 2:
                continue
            records = data.make_suite(self.fovea, kind, 100, 900_000, digits="unseen", **options)
            samples = [self.reader.sample(r) for r in records]
            replace_images(self.model, samples)
            flash, eager = (accuracy(self.model, samples, self.reader.id["<|image_pad|>"], eager=e) for e in (0, 1))
            scores.append(f"{name} {flash:.3f} (eager {eager:.3f})")
        print(f"[{STAGES[self.stage]['name']} {self.step}] " + ", ".join(scores), flush=True)

    def learn(self, samples, rate):
        # With the biases in place every other batch of easy questions goes through eager attention in bf16, so that
        # what needs no search among several things survives its noise, as it does in the real model.
        easy = all(sample.record["tags"]["kind"] == "easy" for sample in samples)
        eager = self.planted >= 0 and easy and self.step % 2 == 0
        with torch.autocast("cpu", torch.bfloat16):
            logits, batch = run(self.model, samples, self.reader.id["<|image_pad|>"], eager)
        loss = F.cross_entropy(logits, batch.expected)
        self.descend(loss, self.parameters, rate)
        hold_slow_keys(self.model, self.planted >= 0)
        # End tokens are easy: only what was to be found counts.
        content = batch.expected != self.reader.id["<|im_end|>"]
        return loss.item(), (logits.argmax(-1) == batch.expected)[content].float().mean().item()

    def train(self):
        ahead = Ahead(self.samples)
        while self.stage < len(STAGES):
            stage = STAGES[self.stage]
            if "plant" in stage and self.planted < self.stage:
                plant_biases(self.model, stage["plant"])
                self.planted = self.stage
                print("planted biases", flush=True)
                self.evaluate()
            if self.finish_stage(stage, ahead):
                self.evaluate()
                self.save(stage["name"])
                self.stage, self.step = self.stage + 1, 0
            self.save()
        self.save("best")

    def finish_stage(self, stage, ahead):
        """One pool of samples; whether the stage is over."""
        self.pool += 1
        samples = ahead.take((self.stage, self.pool), (self.stage, self.pool + 1))
        replace_images(self.model, samples)
        shares = []
        for batch in batches_of(samples, stage["tokens"], random.Random(self.pool)):
            rate = stage["rate"] * min(1.0, (self.step + 1) / 50)
            if stage.get("fall"):
                rate *= max(0.02, 1 - self.step / stage["steps"])
            loss, right = self.learn(batch, rate)
            self.step += 1
            shares.append(right)
            self.note(self.step, stage["name"], loss, right)
        return sum(shares) / len(shares) >= stage["until"] or self.step >= stage["steps"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["see", "answer"])
    parser.add_argument("--fovea", default="build/fovea", help="the program, which makes the question sets")
    parser.add_argument("--work", default="build/demo-training", help="checkpoints and log; resumes from there")
    parser.add_argument("--target", type=float, default=0.98, help="see: ends at this share of unseen digits")
    parser.add_argument("--steps", type=int, default=3000, help="see: ends after so many steps at the latest")
    arguments = parser.parse_args()
    {"see": See, "answer": Answer}[arguments.part](arguments).train()


if __name__ == "__main__":
    main()
