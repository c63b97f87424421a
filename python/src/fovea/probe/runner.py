"""A model of transformers, run under one configuration after the other: switches its attention implementation and the
dtype of its parameters, hears every attention call and every layer, and puts everything back."""

import contextlib
import copy
import hashlib
import math
import sys

import torch

from ..errors import Error
from .attention import Visibility, attend, is_causal
from .nodes import NAMES

REMEMBERED = 64  # outputs of the vision tower
NAME = "fovea_probe"  # a slash, "flash" or "sdpa" in a name has a meaning for transformers
_VISION = ("visual", "vision", "vision_tower", "vision_model", "vision_encoder", "image_encoder")
_HANDLED = {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "is_causal", "position_ids", "cache_position",
            "position_embeddings", "use_cache", "output_attentions", "output_hidden_states", "return_dict", "attention_mask",
            "past_key_values", "past_key_value", "cache", "logits_to_keep", "mm_token_type_ids", "token_type_ids"}
_NUMERIC = {"softcap": "softcapping of scores", "s_aux": "attention sinks", "position_bias": "a position bias"}


_current = None  # the runner of the probe that is under way: transformers keeps what was registered for ever


def _variant_of_current(*arguments, **keywords):
    if _current is None:
        raise Error("invalid_argument", f'the attention "{NAME}" works inside fovea.probe only', "set another attn_implementation")
    return _current._variant(*arguments, **keywords)


class Stopped(Exception):
    """A value that is not finite: the configuration cannot answer this question."""


class Site:
    """One attention module."""

    def __init__(self, module, name, tower, layer):
        self.module, self.name, self.tower, self.layer = module, name, tower, layer
        self.heads = self.kv_heads = self.head_dim = self.longest = 0  # longest: keys of one call


def segments_of(query, extra):
    """Boundaries of independent segments along the tokens, where one call holds several."""
    bounds = extra.get("cu_seq_lens_q")
    if bounds is None:
        return [(0, query.shape[2])]
    bounds = [int(b) for b in bounds]
    return list(zip(bounds, bounds[1:]))


class Runner:
    """Used as a context manager. `listener`, when set, has attended(site, query, key, value, out, visibility, first_row,
    scale, nodes) and finished(site, hidden): hidden [rows, width]."""

    def __init__(self, model):
        import transformers
        from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

        self.model, self.functions = model, ALL_ATTENTION_FUNCTIONS
        self.version = transformers.__version__
        self.listener, self.sites, self._configuration = None, {}, None
        self.reuse_vision, self._seen_pictures = False, {}
        self.names = {id(module): name for name, module in model.named_modules()}
        self.counts = {"text": 0, "vision": 0}
        self._own_dtypes = [(p, p.dtype) for p in model.parameters()]
        floating = [dtype for p, dtype in self._own_dtypes if p.is_floating_point()]
        if not floating:
            raise Error("unsupported", "the model has no floating-point parameters", "give a model that is not quantized")
        self.dtype = max(set(floating), key=floating.count)
        if any(p.device.type == "meta" for p in model.parameters()):
            raise Error("unsupported", "parts of the model are offloaded to the disk or the CPU",
                        "load it whole on one device, or on several GPUs")
        if self.dtype not in NAMES or self.dtype == torch.float64:
            raise Error("unsupported", f"the model computes in {self.dtype}", "load it in bfloat16, float16 or float32")
        self.quantized = any(not p.is_floating_point() for p in model.parameters())
        AttentionInterface.register(NAME, _variant_of_current)
        AttentionMaskInterface.register(NAME, sdpa_mask)

    # --- what is put back ------------------------------------------------------------------------------------------
    def __enter__(self):
        global _current
        if _current is not None:
            raise Error("invalid_argument", "a probe is running in this process already", "run one after the other")
        _current = self
        self._before = [(config, config._attn_implementation) for config in self._configs()]
        self._training = self.model.training
        self._precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")  # TF32 would blur every figure
        self.model.eval()
        self._originals, self._hooks, self._saved = [], [], {}
        self._patch_eager()
        self._patch_vision()
        return self

    def __exit__(self, *exception):
        global _current
        _current = self._configuration = None
        for hook in self._hooks:
            hook.remove()
        for module, original in self._originals:
            module.eager_attention_forward = original
        for tower in self._towers:
            del tower.forward  # the class's own is back
        for config, name in self._before:
            config._attn_implementation_internal = name
        self.cast(None)
        torch.set_float32_matmul_precision(self._precision)
        self.model.train(self._training)

    def _configs(self):
        found, waiting = [], [self.model.config, *(getattr(m, "config", None) for m in self.model.modules())]
        while waiting:
            config = waiting.pop(0)
            if config is None or not hasattr(config, "_attn_implementation") or any(config is c for c in found):
                continue
            found.append(config)
            waiting += [getattr(config, key, None) for key in getattr(config, "sub_configs", {})]
        return found

    def _patch_eager(self):
        """`eager` is no entry of the interface but a function of each modeling file."""
        files = {type(module).__module__ for module in self.model.modules()}
        for file in sorted(files):
            module = sys.modules.get(file)
            original = getattr(module, "eager_attention_forward", None)
            if original is not None:
                self._originals.append((module, original))
                module.eager_attention_forward = self._heard(original)

    def _patch_vision(self):
        """What the vision tower makes of the same pictures under the same arithmetic is computed once."""
        self._towers = [module for name, module in self.model.named_modules()
                        if name.split(".")[-1] in _VISION and not any(part in _VISION for part in name.split(".")[:-1])]
        for tower in self._towers:
            tower.forward = self._remembered(tower, tower.forward)

    def _remembered(self, tower, forward):
        def remembered(*arguments, **keywords):
            configuration, digest = self._configuration, hashlib.blake2b()
            if configuration is None:
                return forward(*arguments, **keywords)
            for value in (*arguments, *(keywords[name] for name in sorted(keywords))):
                digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if torch.is_tensor(value) and value.numel()
                              else repr(value).encode())
            place = (id(tower), configuration.dtype, configuration.vision, digest.digest())
            if not self.reuse_vision or place not in self._seen_pictures:
                while len(self._seen_pictures) >= REMEMBERED:
                    del self._seen_pictures[next(iter(self._seen_pictures))]
                self._seen_pictures[place] = forward(*arguments, **keywords)
            return copy.copy(self._seen_pictures[place])  # the caller may replace its fields

        return remembered

    # --- parameters ------------------------------------------------------------------------------------------------
    def cast(self, dtype):
        """All parameters in `dtype`; None: as they came. 16 bits go to fp32 and back without loss; of parameters that
        lose something the originals are kept. Buffers stay: the frequencies of RoPE are fp32 in a bf16 model."""
        for parameter, own in self._own_dtypes:
            wanted = own if dtype is None or not parameter.is_floating_point() else dtype
            if parameter.dtype == wanted:
                continue
            if wanted == own and id(parameter) in self._saved:
                parameter.data = self._saved.pop(id(parameter))
            else:
                base = self._saved.get(id(parameter), parameter.data)
                if parameter.dtype == own and not (wanted == torch.float32 and own in (torch.bfloat16, torch.float16)):
                    self._saved[id(parameter)] = parameter.data
                parameter.data = base.to(wanted)

    # --- configurations --------------------------------------------------------------------------------------------
    def use(self, configuration):
        """The forward passes that follow are computed so."""
        if self.quantized and configuration.dtype != self.dtype:
            raise Error("unsupported", "the model's weights are quantized and cannot be computed in another dtype",
                        'compare with reference="attention-fp32", which changes attention alone')
        self.cast(configuration.dtype)
        self._configuration = configuration
        name = configuration.own or NAME
        if name != "eager" and name != NAME:
            function = self.functions[name]
            if not getattr(function, "_heard", False):
                self.functions[name] = self._heard(function)
                self._hooks.append(_Restored(self.functions, name))
        try:
            self.model.set_attn_implementation(name)
        except (ImportError, ValueError, KeyError) as error:
            raise Error("unsupported", f"{configuration.name}: transformers refuses it: {str(error).splitlines()[0]}",
                        "leave it out, or install what it needs") from error
        stubborn = [c for c in self._configs() if c._attn_implementation != name and c is not self.model.config]
        if self.model.config._attn_implementation != name or (stubborn and not self._reaches(stubborn)):
            raise Error("unsupported", f"{type(self.model).__name__} cannot switch its attention implementation",
                        "its attention does not go through transformers' interface; there is nothing to probe")

    def _reaches(self, configs):
        for config in configs:
            config._attn_implementation_internal = self._configuration.own or NAME
        return True

    # --- calls -----------------------------------------------------------------------------------------------------
    def site(self, module):
        found = self.sites.get(id(module))
        if found is None:
            name = self.names.get(id(module), type(module).__name__)
            tower = "vision" if any(part in _VISION for part in name.split(".")) else "text"
            found = self.sites[id(module)] = Site(module, name, tower, self.counts[tower])
            self.counts[tower] += 1
            self._listen_to_layer(found)
        return found

    def _listen_to_layer(self, site):
        parent = site.name.rpartition(".")[0]
        if not parent:
            return

        def finished(_, __, output):
            hidden = output[0] if isinstance(output, tuple) else output
            if self.listener is not None and torch.is_tensor(hidden):
                self.listener.finished(site, hidden.reshape(-1, hidden.shape[-1]))

        self._hooks.append(self.model.get_submodule(parent).register_forward_hook(finished))

    def _heard(self, function):
        """The model's own function; what it was given and what it returned is told to the listener."""
        def heard(module, query, key, value, attention_mask, *positional, **keywords):
            if self._configuration is None:
                return function(module, query, key, value, attention_mask, *positional, **keywords)
            result = function(module, query, key, value, attention_mask, *positional, **keywords)
            self._tell(module, query, key, value, attention_mask, result[0], keywords)
            return result

        heard._heard = True
        return heard

    def _variant(self, module, query, key, value, attention_mask, dropout=0.0, scaling=None, is_causal=None, **extra):
        """What is registered as `fovea_probe`: the nodes of the configuration, or another implementation for one tower."""
        site, configuration = self.site(module), self._configuration
        for name, what in _NUMERIC.items():
            if extra.get(name) is not None:
                raise Error("unsupported", f"{site.name} uses {what} ({name})", "compare transformers' own implementations only")
        tower = configuration.tower(site.tower)
        scale = scaling if scaling is not None else query.shape[-1] ** -0.5
        if tower.own is not None:
            out = self._own(tower, site, query, key, value, attention_mask, dict(extra, scaling=scale, is_causal=is_causal))
        else:
            nodes = tower.nodes_at(site.layer, max(self.counts[site.tower], getattr(self, "total", {}).get(site.tower, 0)))
            out = torch.cat([attend(query[:, :, a:b], self._keys(key, query, a, b), self._keys(value, query, a, b),
                                    Visibility(attention_mask, b - a, self._keys(key, query, a, b).shape[2],
                                               _causal(module, is_causal), query.device), scale, nodes)
                             for a, b in segments_of(query, extra)], 1)
        self._tell(module, query, key, value, attention_mask, out, dict(extra, scaling=scale, is_causal=is_causal))
        return out, None

    @staticmethod
    def _keys(tensor, query, first, end):
        return tensor if end - first == query.shape[2] else tensor[:, :, first:end]

    def _own(self, tower, site, query, key, value, mask, extra):
        dtype = tower.operands or query.dtype
        function = (getattr(sys.modules[type(site.module).__module__], "eager_attention_forward", None) if tower.own == "eager"
                    else self.functions[tower.own])
        if tower.own == "eager":
            rows = torch.arange(query.shape[2], device=query.device)
            visible = Visibility(mask, query.shape[2], key.shape[2], _causal(site.module, extra["is_causal"]), query.device).rows(rows)
            if visible is not None:
                mask = torch.zeros((), dtype=dtype, device=query.device).masked_fill(~visible, torch.finfo(dtype).min)
        configuration, self._configuration = self._configuration, None  # told once, by the caller
        try:
            return function(site.module, query.to(dtype), key.to(dtype), value.to(dtype), mask, dropout=0.0, **extra)[0].to(query.dtype)
        finally:
            self._configuration = configuration

    def _tell(self, module, query, key, value, mask, out, keywords):
        site = self.site(module)
        site.heads, site.kv_heads, site.head_dim = query.shape[1], key.shape[1], query.shape[3]
        if self.listener is None:
            return
        scale = keywords.get("scaling")
        scale = float(scale) if scale is not None else query.shape[-1] ** -0.5
        count = max(self.counts[site.tower], getattr(self, "total", {}).get(site.tower, 0))
        nodes = self._configuration.tower(site.tower).nodes_at(site.layer, count)
        for first, end in segments_of(query, keywords):
            k, v = self._keys(key, query, first, end), self._keys(value, query, first, end)
            site.longest = max(site.longest, k.shape[2])
            seen = Visibility(mask, end - first, k.shape[2], _causal(module, keywords.get("is_causal")), query.device)
            self.listener.attended(site, query[:, :, first:end], k, v, out[:, first:end], seen, scale, nodes)


def _causal(module, argument):
    return is_causal(module, argument)


class _Restored:
    """An entry of the interface that was replaced for this probe."""

    def __init__(self, functions, name):
        self.functions, self.name = functions, name

    def remove(self):
        with contextlib.suppress(KeyError):
            del self.functions[self.name]


def non_finite_node(query, key, value, out, visibility, scale, nodes):
    """The first node whose value is not finite, of the first such row; out [1, Q, Hq, D]."""
    for name, tensor in (("q", query), ("k", key), ("v", value)):
        if not tensor.isfinite().all():
            return name
    bad = (~out.isfinite()).any(-1).any(2)[0].nonzero()
    if not len(bad):
        return ""
    row, heads = bad[0], query.shape[1] // key.shape[1]
    scores = query[0, :, row].float() @ key[0].float().repeat_interleave(heads, 0).transpose(-1, -2)
    if nodes.rounds_product and nodes.scores == "fp16" and scores.abs().max() >= 65520:
        return "scores"
    if nodes.rounds_scaled and nodes.scaled == "fp16" and (scores.abs().max() * scale) >= 65520:
        return "scaled"
    return "pv" if math.isfinite(float(scores.abs().max())) else "scores"
