import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy
from typing_extensions import Unpack

from .errors import Error
from .report import Report

Picture = str | os.PathLike[str] | bytes | bytearray | memoryview | Any
Video = Picture | list[Picture] | tuple[Picture, ...]
Messages = Iterable[dict[str, Any]]

class Sampling(TypedDict, total=False):
    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    do_sample: bool
    seed: int
    repetition_penalty: float
    no_repeat_ngram_size: int
    stop: str | list[str]
    ignore_eos: bool
    prefill_chunk: int
    prompt_lookup_num_tokens: int

@dataclass
class Answer:
    text: str
    token_ids: list[int]
    finish_reason: str
    prompt_tokens: int
    warnings: list[str] = ...
    timings: dict[str, float] = ...

@dataclass
class Plan:
    peak_bytes: int
    peak_phase: str
    context: int
    prompt_tokens: int
    image_tokens: int
    parts: dict[str, dict[str, Any]]

class Engine:
    def __init__(self, model: str | os.PathLike[str], *, dtype: Any = None, attn_implementation: str | None = None,
                 vision_attn_implementation: str | None = None, preset: str | None = None, precision: str | None = None,
                 guard: str | None = None, kv_cache_dtype: str | None = None, chat_template: str | None = None,
                 min_pixels: int | None = None, max_pixels: int | None = None, max_image_tokens: int | None = None,
                 max_total_image_tokens: int | None = None, threads: int | None = None,
                 mmproj: str | os.PathLike[str] | None = None) -> None: ...
    @property
    def info(self) -> dict[str, Any]: ...
    @property
    def threads(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Engine: ...
    def __exit__(self, *exception: object) -> None: ...
    def generate(self, prompt: str | Messages, images: Iterable[Picture] | None = None, videos: Iterable[Video] | None = None,
                 system: str | None = None, *, on_text: Callable[[str], object] | None = None, **sampling: Unpack[Sampling]) -> Answer: ...
    async def agenerate(self, prompt: str | Messages, images: Iterable[Picture] | None = None, videos: Iterable[Video] | None = None,
                        system: str | None = None, *, on_text: Callable[[str], object] | None = None,
                        **sampling: Unpack[Sampling]) -> Answer: ...
    def stream(self, prompt: str | Messages, images: Iterable[Picture] | None = None, videos: Iterable[Video] | None = None,
               system: str | None = None, **sampling: Unpack[Sampling]) -> Iterator[str]: ...
    def astream(self, prompt: str | Messages, images: Iterable[Picture] | None = None, videos: Iterable[Video] | None = None,
                system: str | None = None, **sampling: Unpack[Sampling]) -> AsyncIterator[str]: ...
    def chat(self, system: str | None = None, **sampling: Unpack[Sampling]) -> Chat: ...
    def batch(self, prompts: Iterable[str | Messages | dict[str, Any]], *, max_num_seqs: int = 16, kv_cache_tokens: int | None = None,
              **sampling: Unpack[Sampling]) -> list[Answer | Error]: ...
    async def abatch(self, prompts: Iterable[str | Messages | dict[str, Any]], *, max_num_seqs: int = 16,
                     kv_cache_tokens: int | None = None, **sampling: Unpack[Sampling]) -> list[Answer | Error]: ...
    def logits(self, prompt: str | Messages, images: Iterable[Picture] | None = None, videos: Iterable[Video] | None = None,
               system: str | None = None) -> numpy.ndarray: ...
    def encode(self, images: Iterable[Picture] | None, videos: Iterable[Video] | None = None) -> numpy.ndarray: ...
    def token_ids(self, prompt: str | Messages, images: Iterable[Picture] | None = None, videos: Iterable[Video] | None = None,
                  system: str | None = None) -> list[int]: ...
    def plan(self, prompt: str | Messages, images: Iterable[Picture] | None = None, videos: Iterable[Video] | None = None,
             system: str | None = None, *, max_new_tokens: int = 512) -> Plan: ...
    def audit(self, suite: str | os.PathLike[str], *, compare: str | Sequence[str] | None = None, reference: str | None = None,
              attribute: bool = True, drift: bool = True, search: bool = False, target: float | None = None, limit: int | None = None,
              max_new_tokens: int | None = None, progress: Callable[[str, int, int], object] | None = None) -> Report: ...

class Chat:
    engine: Engine
    sampling: Sampling
    messages: list[dict[str, Any]]
    def __init__(self, engine: Engine, system: str | None, sampling: Sampling) -> None: ...
    def send(self, prompt: str | Messages, images: Iterable[Picture] | None = None, videos: Iterable[Video] | None = None,
             **sampling: Unpack[Sampling]) -> Answer: ...
