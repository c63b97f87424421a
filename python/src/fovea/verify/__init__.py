"""`fovea.verify(folder, images=[...])`: one checkpoint in the installed transformers and in fovea, step by step. The module
itself is callable; `python -m fovea.verify MODEL` does the same from a shell."""

import sys
import types

from .compare import Verification, verify

__all__ = ["Verification", "verify"]


class _Callable(types.ModuleType):
    def __call__(self, *arguments, **keywords):
        return verify(*arguments, **keywords)


_Callable.__call__.__doc__ = verify.__doc__
sys.modules[__name__].__class__ = _Callable
