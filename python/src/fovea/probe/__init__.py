"""`fovea.probe(model, processor, questions)`: the audit of attention where a model already runs. The module itself is
callable; `python -m fovea.probe MODEL --suite FILE` does the same from a shell."""

import sys
import types

from ..report import Report
from .audit import probe
from .questions import PillowProcessor, load_processor

__all__ = ["PillowProcessor", "Report", "load_processor", "probe"]


class _Callable(types.ModuleType):
    def __call__(self, *arguments, **keywords):
        return probe(*arguments, **keywords)


_Callable.__call__.__doc__ = probe.__doc__
sys.modules[__name__].__class__ = _Callable
