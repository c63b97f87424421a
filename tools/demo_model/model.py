"""A compact Qwen2.5-VL in PyTorch for training the demo model on a CPU.

It computes what transformers' Qwen2_5_VLForConditionalGeneration computes and its parameters have the same names and
shapes (transformers 4.57 layout), but it runs batches of equally sized images and padded sequences in few large
products. train.py checks it against transformers on every export.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    hidden: int = 256
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    inner: int = 768
    vocab: int = 1024
    rope_theta: float = 1e6
    mrope_section: tuple = (8, 12, 12)
    vision_hidden: int = 192
    vision_depth: int = 4
    vision_heads: int = 6
    vision_inner: int = 512
    full_attention_blocks: tuple = (1, 3)
    window: int = 8  # patches a side: 112 pixels
    ids: dict = field(default_factory=dict)  # special tokens by name

    @property
    def head_dim(self):
        return self.hidden // self.heads


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x.float(), x.shape[-1:], self.weight, 1e-6)


class Mlp(nn.Module):
    def __init__(self, width, inner, bias):
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=bias)
        self.up_proj = nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


class VisionAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c.vision_heads
        self.qkv = nn.Linear(c.vision_hidden, 3 * c.vision_hidden)
        self.proj = nn.Linear(c.vision_hidden, c.vision_hidden)

    def forward(self, x, cos, sin, mask):
        n, rows, width = x.shape
        q, k, v = self.qkv(x).view(n, rows, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = (rotate(t.float(), cos, sin).to(v.dtype) for t in (q, k))
        # Written out: for such short rows far faster on a CPU, backward above all, than scaled_dot_product_attention.
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        out = (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1).to(v.dtype) @ v
        return self.proj(out.transpose(1, 2).reshape(n, rows, width))


class VisionBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(c.vision_hidden), RMSNorm(c.vision_hidden)
        self.attn = VisionAttention(c)
        self.mlp = Mlp(c.vision_hidden, c.vision_inner, True)

    def forward(self, x, cos, sin, mask):
        x = x + self.attn(self.norm1(x), cos, sin, mask)
        return x + self.mlp(self.norm2(x))


class Merger(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ln_q = RMSNorm(c.vision_hidden)
        self.mlp = nn.Sequential(nn.Linear(4 * c.vision_hidden, 4 * c.vision_hidden), nn.GELU(),
                                 nn.Linear(4 * c.vision_hidden, c.hidden))

    def forward(self, x):
        return self.mlp(self.ln_q(x).reshape(x.shape[0], -1, 4 * x.shape[-1]))


class PatchEmbed(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.proj = nn.Conv3d(3, c.vision_hidden, (2, 14, 14), (2, 14, 14), bias=False)

    def forward(self, patches):
        return F.linear(patches, self.proj.weight.flatten(1))


def patch_places(height, width):
    """(y, x) of every patch of a height x width patch grid, in merge-block order: the order of the pixel rows."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    order = lambda t: t.view(height // 2, 2, width // 2, 2).permute(0, 2, 1, 3).flatten()
    return order(y), order(x)


class Vision(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.patch_embed = PatchEmbed(c)
        self.blocks = nn.ModuleList(VisionBlock(c) for _ in range(c.vision_depth))
        self.merger = Merger(c)

    def forward(self, patches, height, width):
        """patches [images, height * width, 1176] of one grid -> [images, height * width / 4, hidden]. Patches stay in
        raster order: windows are a mask, so no order has to be undone."""
        c = self.c
        y, x = patch_places(height, width)
        pairs = c.vision_hidden // c.vision_heads // 4
        inverse = 1e4 ** (-torch.arange(pairs) / pairs)
        angles = torch.cat([y[:, None] * inverse, x[:, None] * inverse], 1).repeat(1, 2)
        cos, sin = angles.cos(), angles.sin()
        window = y // c.window * 1000 + x // c.window
        mask = window[:, None] == window[None, :]
        if mask.all():
            mask = None
        hidden = self.patch_embed(patches)
        for i, block in enumerate(self.blocks):
            hidden = block(hidden, cos, sin, None if i in c.full_attention_blocks else mask)
        return self.merger(hidden)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.q_proj = nn.Linear(c.hidden, c.hidden)
        self.k_proj = nn.Linear(c.hidden, c.kv_heads * c.head_dim)
        self.v_proj = nn.Linear(c.hidden, c.kv_heads * c.head_dim)
        self.o_proj = nn.Linear(c.hidden, c.hidden, bias=False)

    def forward(self, x, cos, sin, eager):
        n, rows, _ = x.shape
        split = lambda t: t.view(n, rows, -1, self.c.head_dim).transpose(1, 2)
        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        # In the compute type, three roundings: as transformers rotates.
        q, k = rotate(q, cos.to(q.dtype), sin.to(q.dtype)), rotate(k, cos.to(q.dtype), sin.to(q.dtype))
        attend = eager_attention if eager else F.scaled_dot_product_attention
        groups = self.c.heads // self.c.kv_heads
        out = attend(q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), is_causal=True)
        return self.o_proj(out.transpose(1, 2).reshape(n, rows, -1))


def eager_attention(q, k, v, is_causal):
    """transformers' eager attention: scores stored in the type of q, before and after scaling."""
    scores = (q @ k.transpose(-1, -2)) * (q.shape[-1] ** -0.5)
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    return scores.softmax(-1, dtype=torch.float32).to(q.dtype) @ v


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(c.hidden), RMSNorm(c.hidden)
        self.self_attn = Attention(c)
        self.mlp = Mlp(c.hidden, c.inner, False)

    def forward(self, x, cos, sin, eager):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, eager)
        return x + self.mlp(self.post_attention_layernorm(x))


class Text(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed_tokens = nn.Embedding(c.vocab, c.hidden)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.hidden)

    def rope(self, positions):
        """positions [3, batch, rows] -> cos, sin [batch, 1, rows, head_dim]."""
        half = self.c.head_dim // 2
        inverse = self.c.rope_theta ** (-torch.arange(half) / half)
        axis = torch.repeat_interleave(torch.arange(3), torch.tensor(self.c.mrope_section))
        angles = positions[axis].permute(1, 2, 0).float() * inverse
        angles = angles.repeat(1, 1, 2)[:, None]
        return angles.cos(), angles.sin()


class Model(nn.Module):
    """Tied head."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.visual = Vision(c)
        self.language_model = Text(c)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding, nn.Conv3d)):
                nn.init.normal_(module.weight, std=0.18 if isinstance(module, nn.Embedding) else 0.04)
                if getattr(module, "bias", None) is not None:
                    nn.init.zeros_(module.bias)
        # What a layer adds must not drown the word itself, or its identity cannot be copied.
        for layer in self.language_model.layers:
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                nn.init.normal_(projection.weight, std=0.008)

    def forward(self, ids, positions, vision_rows, vision_places, answer_places, eager=False):
        """Logits at the places [k, 2] (sequence, row) of `answer_places`; vision_rows are put at vision_places."""
        text = self.language_model
        x = text.embed_tokens(ids).float()
        if vision_places.numel():
            x = x.index_put((vision_places[:, 0], vision_places[:, 1]), vision_rows.float())
        cos, sin = text.rope(positions)
        for layer in text.layers:
            x = layer(x, cos, sin, eager)
        x = text.norm(x[answer_places[:, 0], answer_places[:, 1]])
        return F.linear(x, text.embed_tokens.weight)
