from contextlib import AbstractContextManager
from typing import Any

import torch

NAME: str
KINDS: tuple[str, ...]

def attention(kind: str) -> AbstractContextManager[None]: ...
def threads() -> int: ...
def fovea_attention(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
                    dropout: float = 0.0, scaling: float | None = None, is_causal: bool | None = None,
                    **extra: Any) -> tuple[torch.Tensor, None]: ...
def fovea_mask(batch_size: int, kv_length: int, kv_offset: int = 0, mask_function: Any = ..., attention_mask: torch.Tensor | None = None,
               cache_position: torch.Tensor | None = None, q_length: Any = None, q_offset: Any = None, **_: Any) -> torch.Tensor | None: ...
