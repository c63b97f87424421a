"""fovea: an engine for Qwen2.5-VL on CPUs, and the audit of attention where a model already runs.

    import fovea
    engine = fovea.Engine("Qwen/Qwen2.5-VL-3B-Instruct")
    print(engine.generate("What is on the picture?", images=["a.png"]).text)

    report = fovea.probe(model, processor, "suite.jsonl", compare=["eager", "sdpa"])  # a model of transformers
    print(report)

    import fovea.transformers                                                         # attn_implementation="fovea"

Nothing is loaded before it is used: the probe needs torch and transformers, but nothing that is compiled.
"""

import importlib
import importlib.metadata

from .errors import Error

try:
    __version__ = importlib.metadata.version("fovea-vl")
except importlib.metadata.PackageNotFoundError:
    __version__ = "0+clone"  # from a folder in PYTHONPATH

__all__ = ["Answer", "Chat", "Engine", "Error", "probe", "verify"]

_MODULES = {"probe", "verify", "transformers"}
_NAMES = {"Answer": "engine", "Chat": "engine", "Engine": "engine", "Plan": "engine"}


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module("." + name, __name__)
    if name in _NAMES:
        return getattr(importlib.import_module("." + _NAMES[name], __name__), name)
    raise AttributeError(f"module 'fovea' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_MODULES, *_NAMES})
