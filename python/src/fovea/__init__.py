"""fovea: an engine for Qwen2.5-VL on CPUs, and the audit of attention where a model already runs.

    import fovea
    report = fovea.probe(model, processor, "suite.jsonl", compare=["eager", "sdpa"])
    print(report)

Nothing is loaded before it is used: the probe needs torch and transformers, but nothing that is compiled.
"""

import importlib
import importlib.metadata

from .errors import Error

try:
    __version__ = importlib.metadata.version("fovea-vl")
except importlib.metadata.PackageNotFoundError:
    __version__ = "0+clone"  # from a folder in PYTHONPATH
__all__ = ["Error", "probe", "verify"]

_MODULES = {"probe", "verify"}


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module("." + name, __name__)
    raise AttributeError(f"module 'fovea' has no attribute {name!r}")


def __dir__():
    return sorted(set(globals()) | _MODULES)
