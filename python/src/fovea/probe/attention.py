"""Attention in plain torch operations, on any device, node by node, in blocks of queries: working memory grows with the
number of keys and not with its square. And exact attention of a few rows, to judge an implementation by."""

import math

import torch

from .nodes import DTYPES
from .statistics import wide

BLOCK_BYTES = 64 << 20  # of the f32 scores of one block of queries
CENTRE_BLOCK = 256      # of k_centring=block256


def _round(x, node):
    dtype = DTYPES[node]
    return x if dtype == torch.float32 else x.to(dtype).to(x.dtype)


class Visibility:
    """Which keys a query sees, from what transformers hands to an attention function: nothing (all, or causal), a bool
    or additive mask [batch, 1 or heads, queries, keys], or a 2-D mask of padding [batch, keys]."""

    def __init__(self, mask, queries, keys, causal, device):
        self.mask, self.queries, self.keys, self.device = mask, queries, keys, device
        self.causal = causal and queries > 1 and (mask is None or mask.dim() == 2)

    def rows(self, rows):
        """bool [batch or 1, heads or 1, len(rows), keys], or None when these see all keys. rows: a 1-D tensor."""
        visible = None
        if self.mask is not None and self.mask.dim() == 4:
            part = self.mask[:, :, rows, : self.keys]
            visible = part if part.dtype == torch.bool else part > torch.finfo(part.dtype).min / 2
        elif self.mask is not None:
            visible = self.mask[:, None, None, : self.keys].bool()
        if self.causal:
            last = rows + (self.keys - self.queries)
            seen = (torch.arange(self.keys, device=self.device)[None, :] <= last[:, None])[None, None]
            visible = seen if visible is None else visible & seen
        return visible


def is_causal(module, argument):
    return bool(argument if argument is not None else getattr(module, "is_causal", True))


def _probabilities(scores, visible, scale, head_dim, nodes):
    """Scores f32 [..., queries, keys], products; becomes P, and what P.V is divided by (None: nothing)."""
    shown = torch.ones((), dtype=torch.bool, device=scores.device) if visible is None else visible
    factor = 1.0 if nodes.scale in ("before", "split") else scale
    corrections = None
    if nodes.k_centring == "mean":
        count = shown.expand(scores.shape).sum(-1, keepdim=True).clamp_min(1)
        scores = scores - (scores.double() if scores.device.type != "mps" else scores).masked_fill(~shown, 0).sum(-1, keepdim=True).div(count).float()
    elif nodes.k_centring == "block256":
        scores, corrections = _centre_blocks(scores, shown, factor)
    scores = _round(scores, nodes.scores)
    if nodes.scale in ("after", "fused"):
        scores = scores * scale
    elif nodes.scale == "divide":
        scores = scores / math.sqrt(head_dim)
    if nodes.score_shift == "row_max":
        scores = scores - scores.masked_fill(~shown, -math.inf).amax(-1, keepdim=True)
    if nodes.scale not in ("before", "split"):
        scores = _round(scores, nodes.scaled)
    if visible is not None:
        if nodes.mask == "skip":
            scores = scores.masked_fill(~shown, -math.inf)
        else:
            lowest = torch.finfo(DTYPES[nodes.scaled]).min
            scores = torch.where(shown, scores, _round(scores + lowest, nodes.scaled))
    if nodes.inf_to_zero:
        scores = torch.where(scores.isinf(), torch.zeros((), device=scores.device), scores)
    if corrections is not None:
        scores = scores + corrections
    if nodes.normalised:
        return _round(scores.softmax(-1), nodes.probabilities), None
    weights = (scores - scores.amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).min)).exp()
    return _round(weights, nodes.probabilities), weights.sum(-1, keepdim=True)


def _centre_blocks(scores, shown, factor):
    """Each block of keys less the mean of what is seen of it; that part returns after the rounding."""
    shown = shown.expand(scores.shape)
    centred, corrections = torch.empty_like(scores), torch.empty_like(scores)
    for first in range(0, scores.shape[-1], CENTRE_BLOCK):
        part = slice(first, first + CENTRE_BLOCK)
        seen = shown[..., part]
        count = seen.sum(-1, keepdim=True)
        mean = scores[..., part].masked_fill(~seen, 0).sum(-1, keepdim=True) / count.clamp_min(1)
        centred[..., part] = scores[..., part] - mean
        corrections[..., part] = torch.where(count > 0, mean, torch.full_like(mean, -math.inf))
    corrections = corrections - corrections.amax(-1, keepdim=True)
    return centred, corrections.clamp_min(torch.finfo(torch.float32).min) * factor


def attend(query, key, value, visibility, scale, nodes):
    """query [B, Hq, Q, D], key and value [B, Hkv, K, D]; returns [B, Q, Hq, D] in the dtype of query."""
    batch, heads, queries, dim = query.shape
    groups, keys = key.shape[1], key.shape[2]
    dtype = wide(query.device) if nodes.kind == "exact" else torch.float32
    out = torch.empty((batch, queries, heads, value.shape[-1]), dtype=query.dtype, device=query.device)
    per_group = heads // groups
    block = max(1, min(queries, BLOCK_BYTES // (4 * batch * per_group * keys)))
    for group in range(groups):
        part = slice(group * per_group, (group + 1) * per_group)
        k, v = key[:, group : group + 1].to(dtype), value[:, group : group + 1].to(dtype)
        if nodes.scale == "split":
            k = _round(k * scale ** 0.5, nodes.scaled)
        for first in range(0, queries, block):
            rows = torch.arange(first, min(queries, first + block), device=query.device)
            q = query[:, part, first : first + block].to(dtype)
            if nodes.scale in ("before", "split"):
                q = _round(q * (scale if nodes.scale == "before" else scale ** 0.5), nodes.scaled)
            visible = visibility.rows(rows)
            if visible is not None and visible.shape[1] > 1:
                visible = visible[:, part]
            weights, total = _probabilities(q @ k.transpose(-1, -2), visible, scale, dim, nodes)
            result = weights @ v
            if total is not None:
                result = result / total
            out[:, first : first + block, part] = _round(result, nodes.output).transpose(1, 2).to(query.dtype)
    return out


def examine(query, key, value, out, visibility, rows, scale, nodes, measure):
    """Exact attention of the query rows `rows` (a list) of the first sequence beside what an implementation made of
    them, `out` [B, Q, Hq, D]. Returns a dict of f64 CPU tensors [heads]: sums over the rows, `largest` the largest
    |scaled score|."""
    dtype, device = wide(query.device), query.device
    at = torch.tensor(rows, device=device)
    visible = visibility.rows(at)
    heads, groups = query.shape[1], key.shape[1]
    per_group = heads // groups
    sums = {name: [] for name in ("largest", "at_risk", "overflows", "measured", "kernel_error", "spread", "predicted_error")}
    for group in range(groups):
        part = slice(group * per_group, (group + 1) * per_group)
        q, k = query[0, part][:, at].to(dtype), key[0, group].to(dtype)
        shown = None if visible is None else (visible[0, part] if visible.shape[1] > 1 else visible[0])
        scores = (q @ k.T) * scale
        if shown is not None:
            scores = scores.masked_fill(~shown, -math.inf)
        largest = (scores.abs() if shown is None else scores.abs().masked_fill(~shown, 0)).amax(-1)  # [heads, rows]
        sums["largest"].append(largest.amax(-1))
        sums["at_risk"].append(nodes.row_at_risk(largest).sum(-1))
        sums["overflows"].append(nodes.overflows(largest, scale).sum(-1))
        if measure:
            _measure(scores, largest, value[0, group].to(dtype), out[0][at][:, part].transpose(0, 1).to(dtype), nodes, sums)
    return {name: torch.cat(parts).double().cpu() for name, parts in sums.items() if parts}


def _measure(scores, largest, v, out, nodes, sums):
    weights = scores.softmax(-1)
    exact = weights @ v
    norm = exact.norm(dim=-1)
    counts = norm > 0  # otherwise there is no direction to be relative to
    safe = norm.masked_fill(~counts, 1)
    error = (out - exact).norm(dim=-1) / safe
    distance = (v * v).sum(-1) - 2 * exact @ v.T + (exact * exact).sum(-1, keepdim=True)
    spread = (weights * weights * distance.clamp_min(0)).sum(-1).sqrt() / safe
    sums["measured"].append(counts.sum(-1))
    for name, values in (("kernel_error", error), ("spread", spread), ("predicted_error", nodes.predicted_error(largest, spread))):
        sums[name].append(values.masked_fill(~counts, 0).sum(-1))
