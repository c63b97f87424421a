"""`import fovea.transformers` registers fovea's attention, and its mask, in transformers (4.57 and 5.x):

    model = AutoModelForImageTextToText.from_pretrained(name, attn_implementation="fovea")

Tensors on the CPU in bfloat16, float16 or float32, read where they lie; inference only. What it does not do, it refuses by
name: gradients, dropout, other devices, sliding windows, softcapping, attention maps, masks that are not causal with padding.

    with fovea.transformers.attention("sdpa"): ...      # "flash_attention_2" (the default), "sdpa", "eager", "reference" (f64)
"""

import collections
import contextlib
import contextvars
import functools

import torch
from transformers.masking_utils import AttentionMaskInterface, causal_mask_function
from transformers.modeling_utils import AttentionInterface

from ._compiled import load
from .errors import Error

_NUMBERS = 5  # of fovea_mask
NAME = "fovea"  # a slash, "flash" or "sdpa" in a name has a meaning for transformers
KINDS = ("flash_attention_2", "sdpa", "eager", "reference")

_Row = collections.namedtuple("_Row", "first last begin end causal keys")

_kind = contextvars.ContextVar("fovea_attention", default="flash_attention_2")
_compiled = load()
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_REFUSED = {"softcap": "softcapping of scores", "s_aux": "attention sinks", "position_bias": "a position bias", "head_mask": "a mask of heads"}


@contextlib.contextmanager
def attention(kind):
    """Which of fovea's attentions is computed inside."""
    if kind not in KINDS:
        raise Error("invalid_argument", f"there is no attention {kind!r}", f"use one of {', '.join(KINDS)}")
    token = _kind.set(kind)
    try:
        yield
    finally:
        _kind.reset(token)


def threads():
    """As many as the last attention was computed on: what torch.get_num_threads() said then."""
    return _compiled.attention_threads()


def _refuse(what, remedy):
    raise Error("unsupported", f"fovea's attention: {what}", remedy)


def fovea_attention(module, query, key, value, attention_mask, dropout=0.0, scaling=None, is_causal=None, **extra):
    """What transformers calls: query [B, Hq, Q, D], key and value [B, Hkv, K, D]; returns ([B, Q, Hq, D], None)."""
    if query.dtype not in _DTYPES or query.device.type != "cpu":
        _refuse(f"{query.dtype} on {query.device}", "bfloat16, float16 or float32 on the CPU")
    if query.requires_grad and torch.is_grad_enabled() or dropout:
        _refuse("a gradient or dropout was asked for", "call it under torch.no_grad() in eval() mode; train with another attn_implementation")
    if extra:
        _check_extra(extra, key)
    batch, heads, queries, dim = query.shape
    causal = bool(is_causal if is_causal is not None else getattr(module, "is_causal", True)) and queries > 1
    out = torch.empty((batch, queries, heads, dim), dtype=query.dtype)
    call = functools.partial(_compiled.attend, scale=scaling if scaling is not None else dim ** -0.5, kind=_kind.get(), threads=torch.get_num_threads())
    query, key, value = query.detach(), key.detach(), value.detach()
    if attention_mask is None:
        call(query, key, value, out, causal=causal, ranges=[])
    elif attention_mask.dtype == torch.int64 and attention_mask.dim() == 4 and attention_mask.shape[-1] >= _NUMBERS:
        _attend_masked(call, query, key, value, out, attention_mask)
    else:
        ranges, causal = _ranges_of_4d(attention_mask, query, key)
        call(query, key, value, out, causal=causal, ranges=ranges)
    return out, None


def _attend_masked(call, query, key, value, out, mask):
    """With a mask of fovea_mask."""
    found = getattr(mask, "_fovea_rows", None)
    if found is None:  # once for all layers
        found = mask._fovea_rows = [_Row(*row[:_NUMBERS], torch.tensor(row[_NUMBERS:], dtype=torch.bool).nonzero().flatten()) for row in mask.flatten(1).tolist()]
    queries, causal = query.shape[2], bool(found[0].causal) and query.shape[2] > 1
    if mask.shape[-1] == _NUMBERS:
        call(query, key, value, out, causal=causal, ranges=[number for row in found for number in row[:4]])
    for b, row in enumerate(found):
        one = slice(b, b + 1)
        if mask.shape[-1] > _NUMBERS:  # the keys that are seen, side by side
            keys, seen = row.keys, len(row.keys)
            if seen:
                call(query[one], key[one, :, keys], value[one, :, keys], out[one], causal=causal, ranges=[0, seen, row.begin, row.end])
            else:
                out[one].zero_()
        else:
            keys, seen = slice(row.first, row.last), row.last - row.first
        if row.end < queries and seen:  # padding behind the tokens sees them all, as in sdpa, and generate() looks at it
            call(query[one, :, row.end:], key[one, :, keys], value[one, :, keys], out[one, row.end:], causal=False, ranges=[])


def _check_extra(extra, key):
    for name, what in _REFUSED.items():
        if extra.get(name) is not None:
            _refuse(f"{what} ({name}) is not implemented", "use another attn_implementation for this model")
    if extra.get("output_attentions"):
        _refuse("it keeps no attention maps", 'ask for them with attn_implementation="eager"')
    window = extra.get("sliding_window")
    if window is not None and key.shape[2] > window:
        _refuse(f"a sliding window of {window} tokens is not implemented", "use another attn_implementation, or fewer tokens")
    bounds = extra.get("cu_seq_lens_q")
    if bounds is not None and len(bounds) > 2:
        _refuse("several sequences packed into one (cu_seq_lens_q)", "give each a row of the batch")


def fovea_mask(batch_size, kv_length, kv_offset=0, mask_function=causal_mask_function, attention_mask=None, cache_position=None, q_length=None,
               q_offset=None, **_):
    """What transformers calls for a mask: None for plain causal attention, else int64 [B, 1, 1, 5]: of each row of the batch
    the first and last keys and queries that are no padding, and whether it is causal. Where padding lies between tokens, a
    flag for each key follows. Never N x N."""
    if q_length is None or torch.is_tensor(q_length) and q_length.dim():
        cache_position = cache_position if cache_position is not None else q_length
        q_length, q_offset = len(cache_position), int(cache_position[0])
    q_length, q_offset = int(q_length), int(q_offset if q_offset is not None else 0) - int(kv_offset)
    causal = _is_causal(mask_function, batch_size, q_length, q_offset + int(kv_offset), kv_length, int(kv_offset))
    end = q_offset + q_length if causal else kv_length
    shown = None
    if attention_mask is not None:
        shown = attention_mask[:, kv_offset:kv_offset + end].bool()
        if shown.shape[1] < end:
            shown = torch.nn.functional.pad(shown, (0, end - shown.shape[1]))
        shown = None if bool(shown.all()) else shown
    if shown is None and causal and end == kv_length:
        return None
    rows = [[0, end, 0, q_length, causal]] * batch_size
    if shown is not None:
        rows = [[*_row(one, q_offset, q_length, causal), causal] for one in shown]
        if any(row[1] - row[0] != int(one.sum()) for row, one in zip(rows, shown)):
            rows = [[*row, *one.tolist()] for row, one in zip(rows, shown)]
    return torch.tensor(rows, dtype=torch.int64).view(batch_size, 1, 1, -1)


def _is_causal(mask_function, batch_size, q_length, q_offset, kv_length, kv_offset):
    """Whether a mask function is the causal one or shows everything, here; others are refused."""
    if mask_function is causal_mask_function:
        return True
    if getattr(mask_function, "__name__", "") == "bidirectional_mask_function":
        return False
    end = q_offset + q_length
    keys = torch.arange(kv_offset, min(end, kv_offset + kv_length))[None, None, None]
    rows = torch.arange(batch_size)[:, None, None, None]
    for first in range(q_offset, end, 256):  # such as a sliding window that is wider than the sequence
        queries = torch.arange(first, min(first + 256, end))[None, None, :, None]
        seen = mask_function(rows, torch.zeros_like(rows), queries, keys)
        if not torch.equal(seen.expand(batch_size, 1, queries.shape[2], keys.shape[3]), (keys <= queries).expand(batch_size, -1, -1, -1)):
            _refuse(f"the mask {getattr(mask_function, '__qualname__', mask_function)} is not plain causal (a sliding window, packed sequences)",
                    "use another attn_implementation for this model")
    return True


def _row(shown, q_offset, q_length, causal):
    """[first key, behind the last one, first query, behind the last one] of a row of the batch that are no padding."""
    places = shown.nonzero().flatten()
    if not len(places):
        return [0, 0, 0, 0]
    keys = [int(places[0]), int(places[-1]) + 1]
    if not causal:
        return [*keys, 0, q_length]
    asked = shown[q_offset:].nonzero().flatten()
    if not len(asked):
        return [*keys, 0, 0]
    begin, end = int(asked[0]), int(asked[-1]) + 1
    if end - begin != len(asked):
        _refuse("there is padding between tokens", "pad on one side of each sequence")
    return [*keys, begin, end]


def _ranges_of_4d(mask, query, key):
    """A mask that the caller made: causal with padding at the sides, or it is refused."""
    batch, queries, keys = query.shape[0], query.shape[2], key.shape[2]
    if mask.dim() != 4 or not (mask.dtype == torch.bool or mask.is_floating_point()):
        _refuse(f"a mask of shape {list(mask.shape)} of {mask.dtype}", "pass the 2-D attention_mask of a tokenizer to the model")
    if mask.shape[1] != 1:
        _refuse("a mask that differs from head to head", "use another attn_implementation for it")
    mask = mask[..., :keys].expand(batch, 1, queries, keys)[:, 0]
    visible = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    if mask.dtype != torch.bool and bool(mask[visible].any()):
        _refuse("a mask that adds something to scores", "use another attn_implementation for it")
    rows, causal = [], queries > 1 and not bool((visible == visible[:, -1:]).all())
    for one in visible:
        asked = one.any(-1).nonzero().flatten()
        if not len(asked):
            rows.append([0, 1, 0, 0])
            continue
        first, end = int(one[asked[-1]].nonzero()[0]), int(one[asked[-1]].nonzero()[-1]) + 1
        begin, stop = int(asked[0]), int(asked[-1]) + 1
        last = torch.arange(end - (stop - begin), end)[:, None] if causal else torch.full((stop - begin, 1), end - 1)
        place = torch.arange(keys)[None]
        if not torch.equal(one[begin:stop], (place >= first) & (place <= last)) or stop - begin != len(asked):
            _refuse("a mask that is not causal with padding at the sides", "use another attn_implementation for it")
        rows.append([first, end, begin, stop])
    return [number for row in rows for number in row], causal


AttentionInterface.register(NAME, fovea_attention)
AttentionMaskInterface.register(NAME, fovea_mask)
