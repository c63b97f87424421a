"""The compiled part, loaded when it is first needed, and how many threads it uses: as many as torch."""

import sys

from .errors import Error


def load():
    try:
        from . import _fovea
    except ImportError as error:
        raise Error("not_found", f"the compiled part of fovea is not here: {error}",
                    "pip install . in a clone of the repository (it needs a C++20 compiler and the libraries of docs/dependencies.md)") from None
    return _fovea


def wanted_threads(threads=None):
    """So many; None: torch.get_num_threads() where torch is loaded, else one for each core or OMP_NUM_THREADS."""
    torch = sys.modules.get("torch")
    if threads is None and hasattr(torch, "get_num_threads"):
        return torch.get_num_threads()
    return load().default_threads() if threads is None else threads
