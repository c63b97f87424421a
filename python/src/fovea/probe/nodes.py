"""Where attention rounds, and what that costs: the nodes of src/base/precision.h and the formulas of
src/audit/score_error.h. A node's value is "fp32", "bf16" or "fp16"."""

import math
from dataclasses import dataclass, replace

import torch

from ..errors import Error

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NAMES = {dtype: name for name, dtype in DTYPES.items()} | {torch.float64: "fp64"}
ROUNDOFF = {"bf16": 2.0 ** -8, "fp16": 2.0 ** -11, "fp32": 2.0 ** -24}
BEYOND_FP16 = 65520.0  # rounds to infinity


@dataclass(frozen=True)
class Nodes:
    """One attention. `kind`: eager, sdpa, flash_attention_2, or exact (f64)."""

    kind: str = "sdpa"
    scores: str = "fp32"         # the raw product q.k
    scale: str = "fused"         # after, divide, before, split, fused
    scaled: str = "fp32"         # the scaled score, and its sum with the mask
    mask: str = "skip"           # additive: finfo.min is added; skip: -inf takes the place
    inf_to_zero: bool = False    # after scale and mask, infinite scores become 0 (old fp16 eager)
    probabilities: str = "fp32"  # P as it meets V
    normalised: bool = False     # P is divided by its sum before it is rounded
    output: str = "fp32"
    score_shift: str = "none"    # none, row_max
    k_centring: str = "none"     # none, mean, block256

    @property
    def rounds_product(self):
        return self.scale != "fused" and self.scores != "fp32"

    @property
    def rounds_scaled(self):
        return self.scale not in ("before", "split") and self.scaled != "fp32"

    @property
    def cured(self):
        return self.score_shift != "none" or self.k_centring != "none"

    @property
    def scores_are_rounded(self):
        return not self.cured and (self.rounds_product or self.rounds_scaled)

    def row_at_risk(self, largest):
        """`largest`: |scaled score| of rows, a tensor. S u > 1/8, where an error beyond 10 % begins."""
        if not self.scores_are_rounded:
            return torch.zeros_like(largest, dtype=torch.bool)
        roundoff = max(ROUNDOFF[self.scores] if self.rounds_product else 0, ROUNDOFF[self.scaled] if self.rounds_scaled else 0)
        return largest * roundoff > 0.125

    def overflows(self, largest, scale):
        beyond = torch.zeros_like(largest, dtype=torch.bool)
        if self.rounds_product and self.scores == "fp16":
            beyond |= largest / (1 if self.scale in ("before", "split") else scale) >= BEYOND_FP16
        if self.rounds_scaled and self.scaled == "fp16":
            beyond |= largest >= BEYOND_FP16
        return beyond

    def predicted_error(self, largest, spread):
        """Expected relative error of rows; NaN where it is not the score that is rounded."""
        if self.cured:
            return torch.full_like(largest, math.nan)
        squared = sum((0.424 * ROUNDOFF[dtype]) ** 2 for dtype, rounds in
                      ((self.scores, self.rounds_product), (self.scaled, self.rounds_scaled)) if rounds)
        x = spread * largest * math.sqrt(squared or (0.424 * ROUNDOFF["fp32"]) ** 2)
        probabilities = 0.42 * spread * 2 * ROUNDOFF[self.probabilities]
        return (x * x / (1 + x * x) + probabilities ** 2 + (0.42 * 2 * ROUNDOFF[self.output]) ** 2).sqrt()

    def low_nodes(self):
        """Those that are stored in 16 bits, in the order of the computation."""
        low = [name for name in ("scores", "scaled", "probabilities", "output") if getattr(self, name) != "fp32"]
        return [name for name in low if not (name == "scores" and self.scale == "fused")]

    def with_node(self, node, value):
        return replace(self, **{node: value})


def nodes_of(kind, dtype):
    """What `kind` computes when the model has this dtype ("fp32", "bf16", "fp16")."""
    if kind == "eager":
        return Nodes(kind, scores=dtype, scale="after", scaled=dtype, mask="additive", probabilities=dtype,
                     normalised=True, output=dtype)
    if kind == "flash_attention_2":
        return Nodes(kind, probabilities=dtype, output=dtype)
    return Nodes(kind, output=dtype)


# The settings of --precision that concern attention, and what they may be.
_CHOICES = {"scale": ("after", "divide", "before", "split", "fused"), "mask": ("additive", "skip"),
            "score_shift": ("none", "row_max"), "k_centring": ("none", "mean", "block256"),
            "normalised": ("on", "off"), "inf_to_zero": ("on", "off")}


def setting(node, value):
    """The checked value of a node, for Nodes.with_node."""
    if node in ("scores", "scaled", "probabilities", "output"):
        if value not in DTYPES:
            raise Error("invalid_argument", f"{node}={value}: no such dtype", "write fp32, bf16 or fp16")
        return value
    if node not in _CHOICES:
        raise Error("unsupported", f"the probe cannot set the node '{node}': it sees attention from its q, k and v on",
                    f"use one of scores, scaled, probabilities, output, {', '.join(_CHOICES)}; "
                    "`fovea audit` varies every other node")
    if value not in _CHOICES[node]:
        raise Error("invalid_argument", f"{node}={value}: no such value", f"write {', '.join(_CHOICES[node])}")
    return value == "on" if "on" in _CHOICES[node] else value
