"""fovea.Engine: a checkpoint that answers, on the CPU."""

import asyncio
import concurrent.futures
import json
import os
import queue
from dataclasses import dataclass, field
from pathlib import Path

from ._compiled import load, wanted_threads
from .errors import Error
from .media import messages_of

_END = object()


@dataclass
class Answer:
    """What a model said. `finish_reason`: "stop", "length" or "cancelled"."""

    text: str
    token_ids: list
    finish_reason: str
    prompt_tokens: int
    warnings: list = field(default_factory=list)
    timings: dict = field(default_factory=dict)

    def __str__(self):
        return self.text


@dataclass
class Plan:
    """Predicted memory of a request in bytes, part by part (docs/guide/memory.md)."""

    peak_bytes: int
    peak_phase: str
    context: int
    prompt_tokens: int
    image_tokens: int
    parts: dict


def _hub_cache():
    """Where Hugging Face's tools keep downloads."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return str(Path(os.environ[name]).expanduser())
    if os.environ.get("HF_HOME"):
        return str(Path(os.environ["HF_HOME"]).expanduser() / "hub")
    return str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub")


def _stated(options):
    return {name: value for name, value in options.items() if value is not None}


class Engine:
    """A loaded checkpoint. One request runs at a time, on a thread of its own; others wait.

    model: a folder in Hugging Face form, "ORG/NAME[@REVISION]" in the local Hugging Face cache, or a GGUF file of llama.cpp;
    mmproj: with a GGUF file, the one that holds its vision tower.
    dtype: "bfloat16", "float16" or "float32"; None: the checkpoint's own.
    attn_implementation, vision_attn_implementation: "flash_attention_2" (the default), "sdpa" or "eager".
    preset, precision, guard, kv_cache_dtype, chat_template: as `fovea run` takes them (docs/guide/precision.md).
    min_pixels, max_pixels, max_image_tokens, max_total_image_tokens: limits of pictures, for every request.
    threads: of this engine; None follows torch.get_num_threads() where torch is loaded, and is one for each core otherwise.
    """

    def __init__(self, model, *, dtype=None, attn_implementation=None, vision_attn_implementation=None, preset=None, precision=None, guard=None,
                 kv_cache_dtype=None, chat_template=None, min_pixels=None, max_pixels=None, max_image_tokens=None, max_total_image_tokens=None,
                 threads=None, mmproj=None):
        options = _stated({"dtype": dtype and str(dtype).removeprefix("torch."), "attn_implementation": attn_implementation,
                           "vision_attn_implementation": vision_attn_implementation, "preset": preset, "precision": precision, "guard": guard,
                           "kv_cache_dtype": kv_cache_dtype, "chat_template": chat_template})
        self._limits = json.dumps(_stated({"min_pixels": min_pixels, "max_pixels": max_pixels, "max_image_tokens": max_image_tokens,
                                           "max_total_image_tokens": max_total_image_tokens}))
        self._threads, self._process = threads, os.getpid()
        self._compiled = load()
        self._engine = self._compiled.Engine(os.fspath(model), os.fspath(mmproj or ""), _hub_cache(), json.dumps(options), wanted_threads(threads))
        self._worker = concurrent.futures.ThreadPoolExecutor(1, "fovea")
        self._info = json.loads(self._engine.info())

    @property
    def info(self):
        """dir, dtype, attention, sizes, kernels, warnings."""
        return dict(self._info)

    @property
    def threads(self):
        """As many as the last request was computed on."""
        return self._engine.threads()

    def __repr__(self):
        return f"<fovea.Engine {self._info['dir']} {self._info['dtype']} {self._info['attn_implementation']}>"

    def __reduce__(self):
        raise TypeError("a fovea.Engine cannot be pickled: open it in each process")

    def close(self):
        """Ends its thread; a closed engine answers no more."""
        self._worker.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- how a request runs ------------------------------------------------------------------------------------------
    def _submit(self, work):
        if os.getpid() != self._process:
            raise Error("unsupported", "this engine was opened before a fork, and its threads stayed in the other process",
                        'open it in each process, or start processes with multiprocessing.set_start_method("spawn")')
        threads = wanted_threads(self._threads)  # here: torch's number is one of the calling thread

        def run():
            self._engine.set_threads(threads)
            return work()

        try:
            return self._worker.submit(run)
        except RuntimeError as error:
            raise Error("invalid_argument", f"the engine is closed: {error}", "open another one") from None

    def _wait(self, work, cancel):
        """Its result. Ctrl-C ends the request, and then goes on as KeyboardInterrupt."""
        future = self._submit(work)
        try:
            return future.result()
        except BaseException:
            cancel.set()
            concurrent.futures.wait([future])
            raise

    async def _await(self, work, cancel):
        future = self._submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            cancel.set()
            raise

    def _prepared(self, messages):
        return self._engine.prepare(json.dumps(messages), self._limits)

    def _answer(self, text):
        return Answer(**json.loads(text))

    # --- answers -----------------------------------------------------------------------------------------------------
    def generate(self, prompt, images=None, videos=None, system=None, *, on_text=None, **sampling):
        """The answer to a prompt, or to a message list of OpenAI's form.

        images: paths, bytes, PIL images or numpy arrays [height, width, 3] of uint8; videos: paths, or lists of pictures.
        sampling: max_new_tokens, temperature, top_p, top_k, do_sample, seed, repetition_penalty, no_repeat_ngram_size, stop,
        ignore_eos, prefill_chunk, prompt_lookup_num_tokens; what is not stated is the checkpoint's own.
        on_text: called with each piece of the answer, on another thread.
        """
        cancel = self._compiled.Cancel()
        return self._wait(self._generation(messages_of(prompt, images, videos, system), sampling, on_text, cancel), cancel)

    async def agenerate(self, prompt, images=None, videos=None, system=None, *, on_text=None, **sampling):
        """generate() for asyncio; cancelling the task ends the request."""
        cancel = self._compiled.Cancel()
        return await self._await(self._generation(messages_of(prompt, images, videos, system), sampling, on_text, cancel), cancel)

    def _generation(self, messages, sampling, on_text, cancel):
        options = _options(sampling)
        return lambda: self._answer(self._engine.generate(self._prepared(messages), options, on_text, cancel))

    def stream(self, prompt, images=None, videos=None, system=None, **sampling):
        """The answer in pieces, as they come. Leaving the loop ends the request."""
        cancel, pieces = self._compiled.Cancel(), queue.SimpleQueue()
        work = self._generation(messages_of(prompt, images, videos, system), sampling, pieces.put, cancel)
        future = self._submit(work)
        future.add_done_callback(lambda _: pieces.put(_END))
        try:
            while (piece := pieces.get()) is not _END:
                yield piece
            future.result()
        finally:
            cancel.set()
            concurrent.futures.wait([future])

    async def astream(self, prompt, images=None, videos=None, system=None, **sampling):
        """stream() for asyncio."""
        cancel, loop, pieces = self._compiled.Cancel(), asyncio.get_running_loop(), asyncio.Queue()
        put = lambda piece: loop.call_soon_threadsafe(pieces.put_nowait, piece)
        future = self._submit(self._generation(messages_of(prompt, images, videos, system), sampling, put, cancel))
        future.add_done_callback(lambda _: put(_END))
        try:
            while (piece := await pieces.get()) is not _END:
                yield piece
            future.result()
        finally:
            cancel.set()

    def chat(self, system=None, **sampling):
        """A conversation that remembers what was said."""
        return Chat(self, system, sampling)

    def batch(self, prompts, *, max_num_seqs=16, kv_cache_tokens=None, **sampling):
        """Answers to many prompts side by side, in their order, each with the tokens that it gets alone. A prompt is a string,
        a message list, or a dict of generate()'s arguments. In place of an answer that failed stands its Error.
        kv_cache_tokens: room for keys and values; None: for all prompts at once."""
        cancel = self._compiled.Cancel()
        return self._wait(self._batch(prompts, max_num_seqs, kv_cache_tokens, sampling, cancel), cancel)

    async def abatch(self, prompts, *, max_num_seqs=16, kv_cache_tokens=None, **sampling):
        """batch() for asyncio."""
        cancel = self._compiled.Cancel()
        return await self._await(self._batch(prompts, max_num_seqs, kv_cache_tokens, sampling, cancel), cancel)

    def _batch(self, prompts, max_num_seqs, kv_cache_tokens, sampling, cancel):
        requests = [dict(one) if isinstance(one, dict) else {"prompt": one} for one in prompts]
        places = ("prompt", "images", "videos", "system")
        messages = [messages_of(*(one.get(name) for name in places)) for one in requests]
        options = [_options({**sampling, **{name: value for name, value in one.items() if name not in places}}) for one in requests]

        def work():
            prepared = [self._prepared(one) for one in messages]
            found = json.loads(self._engine.batch(prepared, options, kv_cache_tokens or 0, max_num_seqs, cancel))
            return [Error(**one["error"]) if one and "error" in one else one and Answer(**one) for one in found]

        return work

    # --- numbers -----------------------------------------------------------------------------------------------------
    def logits(self, prompt, images=None, videos=None, system=None):
        """Logits of every prompt token, numpy float32 [tokens, vocab]."""
        messages, cancel = messages_of(prompt, images, videos, system), self._compiled.Cancel()
        return self._wait(lambda: self._engine.logits(self._prepared(messages), cancel), cancel)

    def encode(self, images, videos=None):
        """What the vision tower makes of pictures, numpy float32 [tokens, hidden]."""
        messages, cancel = messages_of("", images, videos, None), self._compiled.Cancel()
        return self._wait(lambda: self._engine.encode(self._prepared(messages)), cancel)

    def token_ids(self, prompt, images=None, videos=None, system=None):
        """The prompt as the model is fed it."""
        messages, cancel = messages_of(prompt, images, videos, system), self._compiled.Cancel()
        return self._wait(lambda: list(self._prepared(messages).ids), cancel)

    def plan(self, prompt, images=None, videos=None, system=None, *, max_new_tokens=512):
        """The memory that a request needs, predicted."""
        messages, cancel = messages_of(prompt, images, videos, system), self._compiled.Cancel()
        return Plan(**json.loads(self._wait(lambda: self._engine.plan(self._prepared(messages), max_new_tokens), cancel)))

    def audit(self, suite, *, compare=None, reference=None, attribute=True, drift=True, search=False, target=None, limit=None, max_new_tokens=None,
              progress=None):
        """`fovea audit`: which configurations are safe on a suite, and why the others are not. A fovea.probe.Report."""
        from .report import Report
        names = compare if compare is None or isinstance(compare, str) else ",".join(compare)
        options = _stated({"compare": names, "reference": reference, "attribute": attribute, "drift": drift, "search": search, "target": target,
                           "limit": limit, "max_new_tokens": max_new_tokens})
        cancel = self._compiled.Cancel()
        return Report(json.loads(self._wait(lambda: self._engine.audit(os.fspath(suite), json.dumps(options), progress, cancel), cancel)))


_SAMPLING = {"max_new_tokens", "temperature", "top_p", "top_k", "do_sample", "seed", "repetition_penalty", "no_repeat_ngram_size", "stop", "ignore_eos",
             "prefill_chunk", "prompt_lookup_num_tokens"}


def _options(sampling):
    for name in sampling:
        if name not in _SAMPLING:
            raise TypeError(f"unexpected keyword argument '{name}'; known are {', '.join(sorted(_SAMPLING))}")
    stop = sampling.get("stop")
    return json.dumps(_stated({**sampling, "stop": [stop] if isinstance(stop, str) else stop}))


class Chat:
    """A conversation. `messages` is what was said so far."""

    def __init__(self, engine, system, sampling):
        self.engine, self.sampling = engine, sampling
        self.messages = [{"role": "system", "content": system}] if system is not None else []

    def send(self, prompt, images=None, videos=None, **sampling):
        """Says something and returns the Answer. What was interrupted is not remembered."""
        said = messages_of(prompt, images, videos, None)
        answer = self.engine.generate([*self.messages, *said], **{**self.sampling, **sampling})
        self.messages += [*said, {"role": "assistant", "content": answer.text}]
        return answer
