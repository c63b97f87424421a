"""What a probe compares. A name of transformers (eager, sdpa, flash_attention_2, or any that is registered) runs that
code; a name of fovea's presets runs the same arithmetic node by node, in blocks of queries."""

import re
from dataclasses import dataclass, field, replace
from typing import Optional

import torch

from ..errors import Error
from .nodes import DTYPES, NAMES, Nodes, nodes_of, setting

FUSED = ("sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
# name: (kind, dtype or None for the model's, nodes that differ, what it is)
PRESETS = {
    "fp32": ("sdpa", "fp32", {}, "everything in fp32"),
    "reference": ("exact", "fp32", {}, "fp32 with attention in fp64"),
    "eager-bf16": ("eager", "bf16", {}, "transformers' eager in bf16"),
    "eager-bf16-old": ("eager", "bf16", {"scale": "divide"}, "the same in transformers 4.49 to 4.51"),
    "eager-fp16": ("eager", "fp16", {}, "transformers' eager in fp16"),
    "eager-fp16-old": ("eager", "fp16", {"scale": "divide", "inf_to_zero": True}, "the same in 4.49 to 4.51, with its patch"),
    "eager-qkv-fp32": ("eager", None, {"scores": "fp32", "scaled": "fp32", "probabilities": "fp32"},
                       "eager with q, k and v cast to fp32 and the output cast back"),
    "eager-qk-fp32": ("eager", None, {"scores": "fp32", "scaled": "fp32"}, "eager with q and k cast to fp32"),
    "sdpa-math-low": ("eager", None, {"scale": "split", "mask": "skip"}, "torch's sdpa math kernel before 2.5"),
    "flash-bf16": ("flash_attention_2", "bf16", {}, "FlashAttention-2 in bf16"),
    "flash-fp16": ("flash_attention_2", "fp16", {}, "FlashAttention-2 in fp16"),
    "eager-bf16-maxshift": ("eager", "bf16", {"scale": "fused", "scores": "fp32", "score_shift": "row_max", "mask": "skip"},
                            "eager-bf16 with each row's maximum subtracted in fp32"),
    "eager-bf16-kcentred": ("eager", "bf16", {"k_centring": "mean"}, "eager-bf16 with the mean key subtracted"),
    "eager-bf16-kcentred256": ("eager", "bf16", {"k_centring": "block256"}, "the same per block of 256 keys"),
}
_SETTING = re.compile(r"^(text|vision)\.(?:layers\.(-?\d+)(?:-(-?\d+))?\.)?(\w+)=(\w+)$")


@dataclass(frozen=True)
class Tower:
    """The attention of one tower: transformers' code under a name, or nodes."""

    own: Optional[str] = None
    nodes: Nodes = Nodes()
    layers: tuple = ()  # ((first, last), node, value): negative numbers count from the end
    operands: Optional[torch.dtype] = None  # of own: q, k and v are cast to it, the output is cast back

    def nodes_at(self, layer, count):
        nodes = self.nodes
        for (first, last), node, value in self.layers:
            first, last = (first + count if first < 0 else first), (last + count if last < 0 else last)
            if first <= layer <= last:
                nodes = nodes.with_node(node, value)
        return nodes

    def exact(self):
        return Tower(nodes=nodes_of("sdpa", "fp32"))


@dataclass(frozen=True)
class Configuration:
    name: str
    dtype: torch.dtype  # of everything outside attention
    text: Tower
    vision: Tower
    advice: str = field(default="", compare=False)  # how to get it in transformers

    @property
    def own(self):
        """The implementation of transformers that both towers run unchanged, if they do."""
        plain = self.text.own == self.vision.own and self.text.operands is None and self.vision.operands is None
        return self.text.own if plain else None

    def tower(self, name):
        return self.vision if name == "vision" else self.text

    def with_tower(self, name, tower):
        return replace(self, **{name: tower})

    @property
    def key(self):
        return (self.dtype, self.text, self.vision)


def _dtype_name(dtype):
    return NAMES.get(dtype, str(dtype).removeprefix("torch."))


def _own(name, model_dtype):
    dtype = _dtype_name(model_dtype)
    tower = Tower(own=name, nodes=nodes_of(name if name in ("eager", "flash_attention_2") else "sdpa", dtype))
    vision = replace(tower, nodes=replace(tower.nodes, mask="skip"))
    return Configuration(name, model_dtype, tower, vision, f'attn_implementation="{name}", dtype=torch.{str(model_dtype)[6:]}')


def _advice(preset, dtype):
    kind, _, changed, line = PRESETS[preset]
    name = f"torch.{str(dtype)[6:]}"
    if not changed and kind != "exact":
        return f'attn_implementation="{kind}", dtype={name}'
    return f'attn_implementation="eager", dtype={name} and in eager_attention_forward: {line}'


def parse_configuration(text, model_dtype, registered=()):
    """`text`: "sdpa", "eager-bf16" or "eager-bf16:text.scores=fp32;text.layers.0-3.scaled=fp32"."""
    text = text.strip()
    name, _, settings = text.partition(":")
    name = name.strip()
    if name in ("eager", *FUSED) or (name not in PRESETS and name in registered):
        if settings:
            raise Error("invalid_argument", f"{text}: {name} is transformers' own code, which has no settings",
                        f"vary a preset in its place, say eager-{_dtype_name(model_dtype)}:{settings}")
        if name not in ("eager", *registered):
            raise Error("not_found", f"{name} is not registered in this transformers", "leave it out, or install what it needs")
        return _own(name, model_dtype)
    if name not in PRESETS:
        raise Error("invalid_argument", f"there is no configuration '{name}'",
                    f"use a name that transformers knows ({', '.join(['eager', *registered])}) or one of {', '.join(PRESETS)}")
    kind, dtype, changed, _ = PRESETS[name]
    dtype = DTYPES[dtype] if dtype else model_dtype
    nodes = replace(nodes_of(kind, _dtype_name(dtype)), **changed)
    vision = replace(nodes, mask="skip", inf_to_zero=False)
    configuration = Configuration(text, dtype, Tower(nodes=nodes), Tower(nodes=vision), _advice(name, dtype))
    for one in filter(None, (part.strip() for part in settings.replace(";", ",").split(","))):
        configuration = _with_setting(configuration, one)
    if settings:
        configuration = replace(configuration, advice=f"{configuration.advice}, with {settings.strip()}")
    for tower in (configuration.text, configuration.vision):
        changed = {node for _, node, _ in tower.layers} & {"scores", "scaled", "scale", "score_shift", "k_centring"}
        nodes = tower.nodes
        if nodes.kind != "eager" and (changed or nodes.cured or (nodes.scores, nodes.scaled, nodes.scale) != ("fp32", "fp32", "fused")):
            raise Error("invalid_argument", f"{text}: {nodes.kind} stores no scores that could be rounded", "vary an eager preset")
    return configuration


def _with_setting(configuration, text):
    found = _SETTING.match(text)
    if not found:
        raise Error("invalid_argument", f"'{text}' is no setting", "write text.NODE=VALUE, vision.NODE=VALUE or text.layers.L.NODE=VALUE")
    name, first, last, node, value = found.groups()
    value, tower = setting(node, value), configuration.tower(found[1])
    if first is None:
        tower = replace(tower, nodes=tower.nodes.with_node(node, value))
    else:
        tower = replace(tower, layers=(*tower.layers, ((int(first), int(last or first)), node, value)))
    return configuration.with_tower(name, tower)
