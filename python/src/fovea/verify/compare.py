"""What transformers and fovea make of the same request, step by step, with the difference that rounding explains."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import _program
from ..errors import Error
from .weights import compare_weights

QUESTION = "Describe the picture."
TEXT_QUESTION = "Write about the sea."
# x / 255 less the mean, divided by the deviation: three roundings of numbers below 4 that a deviation of 0.26 enlarges.
PIXELS_ALLOWED = 3 * 2.0 ** -24 * 4 / 0.26
# transformers' own rounding error is measured: its distance from a run of the same weights in the next wider dtype. fovea's
# is of that size, too, but its sums run in another order: three times as much is its own, and once theirs.
OWN_ERRORS = 4
FLOOR = 2.0 ** -22
WIDER = {"float32": torch.float64, "bfloat16": torch.float32, "float16": torch.float32}


@dataclass
class Verification:
    """`rows`: {step, transformers, fovea, difference, allowed, equal, note}; `weights`: what was found in the tensors, if looked for."""

    versions: dict
    rows: list
    weights: list

    @property
    def equal(self):
        return all(row["equal"] for row in self.rows)

    @property
    def json(self):
        return {"format": "fovea-verify", "version": 1, "equal": self.equal, **self.versions, "steps": self.rows, "weights": self.weights}

    def __str__(self):
        columns = ["step", "transformers", "fovea", "difference", "allowed", ""]
        cells = [[row["step"], row["transformers"], row["fovea"], row["difference"], row["allowed"], "equal" if row["equal"] else "DIFFERS"]
                 for row in self.rows]
        widths = [max(len(line[i]) for line in [columns, *cells]) for i in range(len(columns))]
        line = lambda values: "| " + " | ".join(value.ljust(width) for value, width in zip(values, widths)) + " |"
        text = [", ".join(f"{name} {value}" for name, value in self.versions.items()), "", line(columns),
                "| " + " | ".join("-" * width for width in widths) + " |", *map(line, cells), ""]
        text += [f"{row['step']}: {row['note']}" for row in self.rows if row["note"]]
        text += [f"weight {w['tensor']}: {w['what']}" for w in self.weights]
        return "\n".join([*text, "All equal." if self.equal else "Not equal."])


def _relative(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-300))


class _Theirs:
    """The request in transformers."""

    def __init__(self, model, processor, dtype):
        from ..probe.checks import PositionCheck
        self.model, self.processor, self.dtype = model, processor, dtype
        self.positions = PositionCheck(model)

    def inputs(self, question):
        import inspect

        from ..probe.questions import inputs_of
        return inputs_of(self.processor, question, set(inspect.signature(self.model.forward).parameters))

    @torch.no_grad()
    def run(self, inputs, attention):
        """(embeddings of pictures or None, logits of every token)"""
        self.model.set_attn_implementation(attention)
        embeddings = []
        tower = getattr(self.model, "visual", None) or getattr(getattr(self.model, "model", None), "visual", None)
        hook = tower and tower.register_forward_hook(lambda _, __, out: embeddings.append(_features(out).double()))
        for module in self.model.modules():
            if getattr(module, "rope_deltas", None) is not None:
                module.rope_deltas = None
        try:
            logits = self.model(**inputs, use_cache=False).logits[0].double()
        finally:
            if hook:
                hook.remove()
        return (torch.cat(embeddings) if embeddings else None), logits

    def run_wider(self, inputs, attention):
        """The same in the next wider dtype: what rounding costs this model."""
        own, wider = getattr(torch, self.dtype), WIDER[self.dtype]
        parameters = list(self.model.parameters())
        needed = sum(p.numel() for p in parameters) * wider.itemsize
        if needed > _memory_available():
            raise Error("exhausted", f"the run in {str(wider)[6:]} that says what rounding costs needs {needed / 1e9:.1f} GB",
                        "verify a smaller model of the family, or on a machine with more memory")
        kept = [p.data for p in parameters]  # buffers stay: the frequencies of RoPE are part of the model as they are
        try:
            for p in parameters:
                if p.dtype == own:
                    p.data = p.data.to(wider)
            return self.run(inputs, attention)
        finally:
            for p, data in zip(parameters, kept):
                p.data = data

    @torch.no_grad()
    def greedy(self, inputs, count):
        from transformers import GenerationConfig
        own = self.model.generation_config
        ends = own.eos_token_id if own.eos_token_id is not None else getattr(self.processor.tokenizer, "eos_token_id", None)
        config = GenerationConfig(do_sample=False, max_new_tokens=count, eos_token_id=ends, repetition_penalty=own.repetition_penalty,
                                  pad_token_id=own.pad_token_id if own.pad_token_id is not None else (ends if isinstance(ends, int) else (ends or [0])[0]))
        return self.model.generate(**inputs, generation_config=config)[0, inputs["input_ids"].shape[1]:].tolist()


def _memory_available():
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return float("inf")


def _features(out):
    """What the vision tower returns: a tensor, or in 5.x an object whose pooler_output is what the decoder gets."""
    if torch.is_tensor(out):
        return out
    return out.pooler_output if getattr(out, "pooler_output", None) is not None else out[0]


def _ours(folder, messages_file, name, attention, resize, count):
    """What the program makes of it: (tensors of `fovea logits`, JSON of `fovea run`)."""
    from safetensors.torch import load_file
    common = ["-m", folder, "--messages", messages_file, "--dtype", name, "--attn", attention, "--resize", resize]
    out = messages_file.with_name("logits.safetensors")
    _program.run("logits", *common, "--out", out)
    answer = json.loads(_program.run("run", *common, "--json", "--temperature", "0", "--max-new-tokens", count))
    return load_file(out), answer


def _row(step, theirs, ours, difference, allowed, equal, note=""):
    short = lambda value: value if isinstance(value, str) else f"{value:.2g}"
    return {"step": step, "transformers": theirs, "fovea": ours, "difference": short(difference), "allowed": short(allowed), "equal": bool(equal), "note": note}


def _exact(step, theirs, ours, unit):
    if theirs.shape != ours.shape:
        return _row(step, f"{list(theirs.shape)}", f"{list(ours.shape)}", "shape", "none", False, "there are not as many")
    wrong = (theirs != ours).flatten().nonzero()
    note = f"the first at {int(wrong[0])}: {theirs.flatten()[wrong[0]].item()} there, {ours.flatten()[wrong[0]].item()} here" if len(wrong) else ""
    return _row(step, f"{theirs.numel()} {unit}", f"{ours.numel()} {unit}", f"{len(wrong)}", "none", not len(wrong), note)


def _close(step, theirs, ours, allowed):
    if theirs.shape != ours.shape:
        return _row(step, f"{list(theirs.shape)}", f"{list(ours.shape)}", "shape", "none", False, "there are not as many")
    difference = _relative(ours, theirs)
    return _row(step, f"{list(theirs.shape)}", f"{list(ours.shape)}", difference, allowed, difference <= allowed)


def _compare_tokens(theirs, ours, logits):
    same = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), None)
    if same is None and len(theirs) == len(ours):
        return _row("greedy tokens", f"{len(theirs)}", f"{len(ours)}", "0", "none", True)
    place = same if same is not None else min(len(theirs), len(ours))
    first = [tokens[place] if place < len(tokens) else "end" for tokens in (theirs, ours)]
    return _row("greedy tokens", f"{len(theirs)}", f"{len(ours)}", f"from {place} on", "none", False,
                f"token {place}: {first[0]} there, {first[1]} here")


def verify(folder, images=(), prompt=None, messages=None, *, model=None, fovea_model=None, dtype="float32", attention="sdpa",
           max_new_tokens=16, torchvision=False, weights=True):
    """Runs `folder` in the installed transformers and in fovea and compares every step.

    images, prompt: one user message; or messages: a list of them (see docs/guide/pictures-and-video.md).
    model: a model of transformers that is loaded already, in place of the folder's; fovea_model: another folder for fovea,
    to compare a conversion with what it came from.
    dtype: "float32" (tokens must be equal), "bfloat16" or "float16". torchvision: pictures are resized by AutoProcessor and
    torchvision, not by Pillow. weights: where something differs, compare the tensors of fovea's folder with the model's.
    """
    import transformers

    from ..probe.questions import PillowProcessor, question_of
    names = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
    if dtype not in names:
        raise Error("invalid_argument", f"dtype={dtype!r}", "use float32, bfloat16 or float16")
    if messages is None:
        content = [{"type": "image", "image": str(Path(image).resolve())} for image in images]
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": prompt or (QUESTION if images else TEXT_QUESTION)}]}]
    processor = transformers.AutoProcessor.from_pretrained(folder) if torchvision else PillowProcessor(folder)
    if model is None:
        from ..probe.__main__ import load_model
        model = load_model(str(folder), dtype, "cpu")
    else:
        model = model.to(getattr(torch, dtype)) if next(model.parameters()).dtype != getattr(torch, dtype) else model
    theirs, before = _Theirs(model.eval(), processor, dtype), model.config._attn_implementation
    try:
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "messages.json"
            file.write_text(json.dumps(messages))
            question = question_of({"id": "verify", "messages": messages}, ".", needs_answer=False)
            rows = _steps(theirs, question, fovea_model or folder, file, names[dtype], attention, "torchvision" if torchvision else "pil", max_new_tokens)
    finally:
        theirs.positions.remove()
        model.set_attn_implementation(before)
    differs = not all(row["equal"] for row in rows)
    found = compare_weights(Path(fovea_model or folder), model) if weights and differs else []
    version = _program.run("--version").splitlines()[0].removeprefix("fovea ")
    return Verification({"transformers": transformers.__version__, "torch": torch.__version__, "fovea": version, "dtype": dtype,
                         "attention": attention, "model": str(folder), **({"fovea_model": str(fovea_model)} if fovea_model else {})}, rows, found)


def _steps(theirs, question, folder, file, name, attention, resize, count):
    inputs = theirs.inputs(question)
    embeddings, logits = theirs.run(inputs, attention)
    positions = theirs.positions.positions
    exact_embeddings, exact_logits = theirs.run_wider(inputs, attention)
    tensors, answer = _ours(folder, file, name, attention, resize, count)
    rows = [_exact("token ids", inputs["input_ids"][0], tensors["input_ids"], "ids")]
    if positions is not None:
        axes = positions[-3:, 0] if positions.dim() == 3 else positions[:1].expand(3, -1)
        rows.append(_exact("position ids", axes.long(), tensors["position_ids"], "positions"))
    if "pixel_values" in inputs:
        mine = tensors.get("pixel_values", torch.empty(0))
        rows.append(_pixels(inputs["pixel_values"].float(), mine))
        rows.append(_close("embeddings", embeddings, tensors.get("vision_embeddings", torch.empty(0)),
                           max(OWN_ERRORS * _relative(embeddings, exact_embeddings), FLOOR)))
    rows.append(_close("logits", logits, tensors["logits"], max(OWN_ERRORS * _relative(logits, exact_logits), FLOOR)))
    theirs.model.set_attn_implementation(attention)
    tokens = _compare_tokens(theirs.greedy(inputs, count), answer["token_ids"], logits)
    if name != "fp32" and not tokens["equal"]:
        tokens["equal"], tokens["allowed"] = rows[-1]["equal"], "rounding"  # 16 bits decide close calls either way
    return [*rows, tokens]


def _pixels(theirs, ours):
    if theirs.shape != ours.shape:
        return _row("pixels", f"{list(theirs.shape)}", f"{list(ours.shape)}", "shape", "none", False, "the sizes of the pictures differ")
    difference = float((theirs - ours).abs().max())
    return _row("pixels", f"{list(theirs.shape)}", f"{list(ours.shape)}", difference, PIXELS_ALLOWED, difference <= PIXELS_ALLOWED)
