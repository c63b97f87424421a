"""Which tensors of a folder are not those of a model in memory."""

import json

import torch

from ..errors import Error

# How the same tensor is called in files and in models, of either era.
_PREFIXES = ("model.language_model.", "language_model.model.", "language_model.", "model.visual.", "model.", "visual.")


def _stem(name):
    """The name without what differs between eras; the tower stays told apart."""
    tower = "visual." if "visual." in name else ""
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return tower + name.removeprefix(prefix).removeprefix("visual.")
    return name


def _files(folder):
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return sorted({folder / file for file in json.loads(index.read_text())["weight_map"].values()})
    single = folder / "model.safetensors"
    if not single.exists():
        raise Error("not_found", f"{folder} holds no model.safetensors", "give a folder in Hugging Face form")
    return [single]


def compare_weights(folder, model):
    """[{tensor, what}] of the folder's tensors that differ from the model's, in the folder's order; at most 20 of them."""
    from safetensors import safe_open
    held = {}
    for name, tensor in model.state_dict().items():
        held.setdefault(_stem(name), (name, tensor))
    found, seen = [], set()
    for file in _files(folder):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():
                what = _difference(tensors.get_tensor(name), held.get(_stem(name)))
                seen.add(_stem(name))
                if what:
                    found.append({"tensor": name, "what": what})
    found += [{"tensor": name, "what": "is not in the folder"} for stem, (name, tensor) in held.items()
              if stem not in seen and not _is_tied(tensor, stem, held, seen)]
    return found[:20]


def _is_tied(tensor, stem, held, seen):
    """Whether it is another name of a tensor that the folder holds, as the head of a model with tied embeddings is."""
    return any(other in seen and other != stem and held[other][1].data_ptr() == tensor.data_ptr() for other in held)


def _difference(mine, other):
    if other is None:
        return "is not in the model"
    theirs = other[1]
    if mine.shape != theirs.shape:
        return f"has the shape {list(mine.shape)}, in the model {list(theirs.shape)}"
    wrong = mine.to(theirs.dtype) != theirs.cpu()
    count = int(wrong.sum())
    if count == 0:
        return ""
    largest = float((mine.float() - theirs.cpu().float()).abs().max())
    first = [int(i) for i in torch.nonzero(wrong)[0]]
    return f"{count} of {mine.numel()} values differ, by at most {largest:.3g}; the first at {first}"
