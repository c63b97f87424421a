"""The compiled part, loaded when it is first needed, with as many threads as torch has."""

import sys

from .errors import Error


def load():
    try:
        from . import _fovea
    except ImportError as error:
        raise Error("not_found", f"the compiled part of fovea is not here: {error}",
                    "pip install . in a clone of the repository (it needs a C++20 compiler and the libraries of docs/dependencies.md)") from None
    return _fovea


def follow_threads(threads=None):
    """So many threads; None: torch.get_num_threads() where torch is loaded, else one for each core or OMP_NUM_THREADS."""
    compiled, torch = load(), sys.modules.get("torch")
    if threads is None and torch is not None and hasattr(torch, "get_num_threads"):
        threads = torch.get_num_threads()
    if threads is None:
        compiled.set_default_threads()
    elif threads != compiled.threads():
        compiled.set_threads(threads)
    return compiled
