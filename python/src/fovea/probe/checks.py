"""What looks like attention and is not: positions, masks, padding and pixels. Each finding is {kind, message, remedy}."""

import json
from pathlib import Path

import torch

from .runner import Stopped

PADDING = 7  # tokens on the left, in the check of masks


def finding(kind, message, remedy):
    return {"kind": kind, "message": message, "remedy": remedy}


class PositionCheck:
    """Hears the position ids that the decoder rotates by: pictures at the positions of text are no attention problem."""

    def __init__(self, model):
        config = model.config
        self.ids = [i for i in (getattr(config, name, None) for name in ("image_token_id", "video_token_id")) if i is not None]
        self.positions = None
        self.hooks = [module.register_forward_pre_hook(self._heard, with_kwargs=True) for name, module in model.named_modules()
                      if type(module).__name__.endswith("RotaryEmbedding") and "Vision" not in type(module).__name__]

    def _heard(self, _, arguments, keywords):
        positions = keywords.get("position_ids", arguments[1] if len(arguments) > 1 else None)
        if torch.is_tensor(positions):
            self.positions = positions.detach()

    def text_only(self, input_ids):
        """Whether the run before gave several tokens of pictures the positions of text; None where that cannot be said."""
        if self.positions is None or self.positions.dim() != 3 or self.positions.shape[0] < 3 or not self.ids:
            return None
        ids = input_ids[0, : self.positions.shape[-1]]
        pictures = torch.isin(ids, torch.tensor(self.ids, device=ids.device))
        if int(pictures.sum()) < 2:
            return None
        axes = self.positions[-3:, 0, : len(ids)].to(pictures.device)[:, pictures]
        return bool((axes == axes[0]).all())

    def remove(self):
        for hook in self.hooks:
            hook.remove()


def positions_finding(broken, asked, inputs, version):
    if not broken:
        return None
    lacks = "mm_token_type_ids" not in inputs and not version.startswith("4.")
    cause = (f"their inputs hold no mm_token_type_ids, without which transformers {version} computes no three-axis positions and "
             "says nothing" if lacks else "their position ids are those of text")
    return finding("text_only_positions",
                   f"{broken} of {asked} questions with pictures run with the positions of text: {cause}; every figure here is of such inputs",
                   "hand the processor's whole output to the model, or add mm_token_type_ids: 1 where input_ids is an image "
                   "token, 2 where it is a video token, else 0" if lacks else "leave position_ids out of the inputs")


def folder_limits(model, processor):
    """(min, max) pixels that the checkpoint's folder states, else those of the processor; None where neither does."""
    def limits(values):
        size = values.get("size") or {}
        low = values.get("min_pixels") or size.get("shortest_edge")
        high = values.get("max_pixels") or size.get("longest_edge")
        return (low, high) if low and high else None

    for name in ("preprocessor_config.json",):
        try:
            found = limits(json.loads((Path(model.config._name_or_path) / name).read_text()))
        except (OSError, ValueError, AttributeError):
            found = None
        if found:
            return found
    images = getattr(processor, "image_processor", None)
    return limits({"size": dict(getattr(images, "size", None) or {})}) if images is not None else None


def pixels_finding(model, processor, grids):
    """grids: (question id, [t, h, w] in patches) of every still picture."""
    limits = folder_limits(model, processor)
    vision = getattr(model.config, "vision_config", None)
    patch = getattr(vision, "patch_size", None)
    if limits is None or patch is None:
        return None
    outside = [(id, h * w * patch * patch) for id, (_, h, w) in grids if not limits[0] <= h * w * patch * patch <= limits[1]]
    if not outside:
        return None
    id, pixels = outside[0]
    return finding("pixels", f"{len(outside)} of {len(grids)} pictures leave the folder's limits of {limits[0]:,} to {limits[1]:,} pixels "
                   f"(the first: {pixels:,}, in {id}): the model was not made for such sizes",
                   "let the processor resize them with the folder's own min_pixels and max_pixels")


def padding_side_finding(tokenizer):
    if getattr(tokenizer, "padding_side", "left") != "right":
        return None
    return finding("padding_side", "the tokenizer pads on the right: a batch of questions of different lengths is then continued behind its padding",
                   'set processor.tokenizer.padding_side = "left" before batches are made')


class _MaskListener:
    def __init__(self, padding):
        self.padding, self.seen = padding, None

    def attended(self, site, query, key, value, out, visibility, scale, nodes):
        if site.tower != "text" or self.seen is not None:
            return
        visible = visibility.rows(torch.tensor([query.shape[2] - 1], device=query.device))
        self.seen = True if visible is None else bool(visible[..., : self.padding].any())

    def finished(self, *_):
        pass


def padded(inputs, token):
    """The same question behind some padding."""
    length = inputs["input_ids"].shape[1]
    result = dict(inputs)
    mask = inputs.get("attention_mask")
    result["attention_mask"] = mask if mask is not None else torch.ones_like(inputs["input_ids"])
    result.pop("position_ids", None)
    for name, value in list(result.items()):
        if value.dim() == 2 and value.shape == (1, length):
            fill = token if name == "input_ids" else 0
            result[name] = torch.cat([value.new_full((1, PADDING), fill), value], -1)
    return result


@torch.no_grad()
def mask_finding(evaluator, configuration, question):
    """Whether padding is seen by the attention of this configuration, asked of one question behind padding."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    runner, name = evaluator.runner, configuration.own
    runner.use(configuration)
    listener = runner.listener = _MaskListener(PADDING)
    pad = runner.model.generation_config.pad_token_id
    inputs = padded(evaluator.inputs(question), pad if isinstance(pad, int) else (evaluator.ends or [0])[0])
    evaluator._forget_positions()
    try:
        runner.model(**inputs, **({"logits_to_keep": 1} if "logits_to_keep" in evaluator.parameters else {}))
    except Stopped:
        return None
    finally:
        runner.listener = None
    if not listener.seen:
        return None
    missing = name not in ALL_MASK_ATTENTION_FUNCTIONS._global_mapping
    cause = f'"{name}" is not registered in AttentionMaskInterface, so that transformers hands it no mask' if missing else "it ignores the mask"
    return finding("missing_mask", f"{configuration.name}: attention sees padding: {cause}; batches of questions of different lengths are silently wrong",
                   f'AttentionMaskInterface.register("{name}", transformers.masking_utils.sdpa_mask), or ask one question at a time'
                   if missing else "ask one question at a time")
