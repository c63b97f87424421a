"""Asks questions under configurations: the reference answers greedily, its tokens are fed to every other configuration,
so that distributions and layers are compared on the same input; where these differ the free answer is generated."""

import inspect
import time
from dataclasses import dataclass, field

import torch

from ..errors import Error
from .questions import extended, inputs_of, tokenizer_of
from .runner import Stopped
from .scoring import is_right
from .statistics import kl_divergence, wide
from .trace import FiniteOnly, Trace

GROUP_BYTES = 512 << 20  # of what is kept of the reference at a time


@dataclass
class Facts:
    context: int = 0
    images: int = 0
    patches: int = 0


@dataclass
class Result:
    answer: str = ""
    correct: bool = False
    problem: str = ""
    tokens: int = 0
    first_divergence: int = None
    kl: list = field(default_factory=list)
    agreed: int = 0
    logits_error: list = field(default_factory=lambda: [0.0, 0.0])
    seconds: float = 0.0
    layers: list = field(default_factory=list)


@dataclass
class Reference:
    """What is kept of the reference's run of one question."""

    tokens: list
    logits: torch.Tensor  # f32 on the CPU, [tokens, vocab]
    rows: dict            # of layers; empty without drift


class RowCounter:
    """How many rows each tower has in a run."""

    def __init__(self):
        self.rows = {"text": 0, "vision": 0}

    def attended(self, site, query, *_):
        if site.layer == 0:
            self.rows[site.tower] += query.shape[2]

    def finished(self, *_):
        pass


class Evaluator:
    def __init__(self, runner, processor, reference, max_new_tokens, progress=None, note=None):
        self.runner, self.processor, self.reference = runner, processor, reference
        self.max_new_tokens, self.progress, self.note = max_new_tokens, progress or (lambda *_: None), note or (lambda _: None)
        self.model = runner.model
        self.device = self.model.get_input_embeddings().weight.device
        self.parameters = set(inspect.signature(self.model.forward).parameters)
        self.results, self.facts, self.problems, self.vision_sums, self._kept = {}, {}, {}, {}, {}
        self.tokenizer = tokenizer_of(processor)
        config = self.model.generation_config
        eos = config.eos_token_id if config.eos_token_id is not None else getattr(self.tokenizer, "eos_token_id", None)
        self.ends = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
        self.penalty = config.repetition_penalty or 1.0
        self._cache = {}

    # --- inputs ----------------------------------------------------------------------------------------------------
    def inputs(self, question):
        if question.id not in self._cache:
            inputs = inputs_of(self.processor, question, self.parameters)
            self._cache = {question.id: inputs}  # of one question
            grids = [inputs[name] for name in ("image_grid_thw", "video_grid_thw") if name in inputs]
            self.facts[question.id] = Facts(inputs["input_ids"].shape[1], sum(len(g) for g in grids) or self._pictures(inputs),
                                            sum(int(g.prod(-1).sum()) for g in grids))
        return {name: value.to(self.device) for name, value in self._cache[question.id].items()}

    @staticmethod
    def _pictures(inputs):
        pixels = inputs.get("pixel_values")
        return 0 if pixels is None else pixels.shape[0]

    # --- forward passes --------------------------------------------------------------------------------------------
    @torch.no_grad()
    def forced_logits(self, inputs, tokens):
        """Logits that predict each of `tokens`, fed behind the prompt; f32 [tokens, vocab]."""
        fed = extended(inputs, tokens[:-1])
        self._forget_positions()
        keep = {"logits_to_keep": len(tokens)} if "logits_to_keep" in self.parameters else {}
        if "use_cache" in self.parameters:
            keep["use_cache"] = False
        return self.model(**fed, **keep).logits[0, -len(tokens):].float()

    @torch.no_grad()
    def generate(self, inputs, tokens, most):
        """The greedy continuation of prompt and tokens, at most `most` tokens, an end token included."""
        from transformers import GenerationConfig
        if most <= 0:
            return []
        fed = extended(inputs, tokens)
        self._forget_positions()
        own = self.model.generation_config
        config = GenerationConfig(do_sample=False, max_new_tokens=most, eos_token_id=self.ends or None, pad_token_id=own.pad_token_id
                                  if own.pad_token_id is not None else (self.ends or [0])[0], repetition_penalty=self.penalty)
        out = self.model.generate(**fed, generation_config=config)
        return out[0, fed["input_ids"].shape[1]:].tolist()

    def _forget_positions(self):
        for module in self.model.modules():
            if getattr(module, "rope_deltas", None) is not None:
                module.rope_deltas = None

    def choose(self, logits, seen):
        """The token that greedy decoding takes, as transformers does: with the folder's repetition penalty."""
        if self.penalty != 1.0:
            logits = logits.clone()
            ids = torch.tensor(sorted(set(seen)), device=logits.device)
            chosen = logits[ids]
            logits[ids] = torch.where(chosen < 0, chosen * self.penalty, chosen / self.penalty)
        return int(logits.argmax())

    # --- one question ----------------------------------------------------------------------------------------------
    def _rows(self, inputs, question, tokens):
        facts = self.facts[question.id]
        text, vision = facts.context + max(len(tokens) - 1, 0), facts.patches
        if facts.images and not vision:
            counter = self.runner.listener = RowCounter()
            self.forced_logits(inputs, tokens or [0])
            vision = counter.rows["vision"]
        return {"text": text, "vision": vision}, {"text": facts.context - 1, "vision": vision}

    def run_reference(self, question, drift):
        """The reference's answer, and what the others are compared with; None in place of it when it stopped."""
        self.runner.use(self.reference)
        inputs, result, start = self.inputs(question), Result(), time.perf_counter()
        rows = {} if drift else None
        try:
            counts, starts = self._rows(inputs, question, [])
            seeing = self.runner.listener = Trace(counts, starts, rows, keeping=True, towers=("vision",))
            self.runner.reuse_vision = False
            tokens = self.generate(inputs, [], self.max_new_tokens)
            self.runner.reuse_vision = True
            reading = self.runner.listener = Trace(*self._rows(inputs, question, tokens), rows, keeping=True, towers=("text",))
            logits = self.forced_logits(inputs, tokens)
            if not logits.isfinite().all():
                raise Stopped("the logits of the reference are not finite")
        except Stopped as stopped:
            return Result(problem=str(stopped), seconds=time.perf_counter() - start), None
        finally:
            self.runner.listener, self.runner.reuse_vision = None, False
        result.kl, result.agreed, result.layers = [0.0] * len(tokens), len(tokens), seeing.sums() + reading.sums()
        self.vision_sums[question.id, self.reference.dtype, self.reference.vision] = (drift, seeing.sums())
        result.seconds = time.perf_counter() - start
        self._judge(question, tokens, result)
        return result, Reference(tokens, logits.cpu(), rows or {})

    def run(self, configuration, question, known, drift, examine=True):
        """`examine`: with the layers' largest scores and rows at risk, with `drift` their errors too."""
        self.runner.use(configuration)
        inputs, result, start, tokens = self.inputs(question), Result(), time.perf_counter(), known.tokens
        place = (question.id, configuration.dtype, configuration.vision)
        seen = self.vision_sums.get(place)
        self.runner.reuse_vision = not examine or (seen is not None and seen[0] >= drift)
        trace = Trace(*self._rows(inputs, question, tokens), known.rows if drift else None)
        self.runner.listener = trace if examine else FiniteOnly()
        try:
            logits = self.forced_logits(inputs, tokens)
            if not logits.isfinite().all():
                raise Stopped("the logits hold a NaN or infinite value")
            result.kl = kl_divergence(known.logits.to(logits.device), logits)
            self._compare_logits(known.logits.to(logits.device), logits, result)
            self.runner.listener, self.runner.reuse_vision = FiniteOnly(), True
            self._judge(question, self._free_answer(inputs, tokens, logits, result), result)
        except Stopped as stopped:
            result.problem = str(stopped)
        finally:
            self.runner.listener, self.runner.reuse_vision = None, False
        result.seconds = time.perf_counter() - start
        if examine:
            result.layers = self._with_vision(trace.sums(), place, drift)
        return result

    def _with_vision(self, sums, place, drift):
        """The tower that was not run again has the sums of its run."""
        vision = [layer for layer in sums if layer.tower == "vision"]
        if vision:
            self.vision_sums[place] = (drift, vision)
            return sums
        return self.vision_sums.get(place, (drift, []))[1] + sums

    @staticmethod
    def _compare_logits(expected, logits, result):
        expected, logits = expected.to(wide(expected.device)), logits.to(wide(logits.device))
        result.logits_error = [float(((logits - expected) ** 2).sum()), float((expected ** 2).sum())]

    def _free_answer(self, inputs, tokens, logits, result):
        result.agreed = sum(a == b for a, b in zip(logits.argmax(-1).tolist(), tokens))
        seen, chosen = inputs["input_ids"][0].tolist(), []
        for place, token in enumerate(tokens):
            chosen.append(self.choose(logits[place], seen + chosen))
            if chosen[-1] != token:
                result.first_divergence = place
                break
        if result.first_divergence is None or chosen[-1] in self.ends:
            return chosen
        return chosen + self.generate(inputs, chosen, self.max_new_tokens - len(chosen))

    def _judge(self, question, tokens, result):
        result.tokens = len(tokens)
        result.answer = self.tokenizer.decode(tokens, skip_special_tokens=True) if hasattr(self.tokenizer, "decode") else str(tokens)
        result.correct = bool(question.answers) and is_right(result.answer, question.answers, question.match)

    # --- many ------------------------------------------------------------------------------------------------------
    def _groups(self, questions, drift):
        """Questions whose reference is kept at the same time."""
        group, held = [], 0
        for question in questions:
            cost = self._cost(question, drift)
            if group and held + cost > GROUP_BYTES:
                yield group
                group, held = [], 0
            group.append(question)
            held += cost
        if group:
            yield group

    def _cost(self, question, drift):
        config = self.model.config.get_text_config()
        logits = self.max_new_tokens * config.vocab_size * 4
        return logits + (2 * 36 * (8 << 20) if drift and self.runner.dtype != torch.float32 and config.hidden_size > 1024 else 0)

    def evaluate(self, stage, configurations, questions, drift=False, examine=False):
        """Every question under every configuration that has not answered it; questions that cannot be asked are noted."""
        missing = lambda c, q: (c.key, q.id) not in self.results
        questions = [q for q in questions if q.id not in self.problems]
        wanted = [c for c in configurations if c.key != self.reference.key]
        todo = [q for q in questions if missing(self.reference, q) or any(missing(c, q) for c in wanted)]
        done, total = 0, len(todo) * (1 + len(wanted))
        order = sorted(range(len(wanted)), key=lambda i: (str(wanted[i].dtype), i))
        for group in self._groups(todo, drift):
            kept = {}
            for question in group:
                kept[question.id] = self._ask_reference(question, drift)
                done += 1
                self.progress(stage, done, total)
            for index in order:
                for question in group:
                    if kept[question.id] is not None and missing(wanted[index], question):
                        self.results[wanted[index].key, question.id] = self.run(wanted[index], question, kept[question.id], drift, examine)
                    done += 1
                    self.progress(stage, done, total)

    def _ask_reference(self, question, drift):
        if not drift and question.id in self._kept:
            return self._kept[question.id]
        try:
            result, kept = self.run_reference(question, drift)
        except Error as error:
            if error.kind not in ("not_found", "invalid_argument") or question.inputs is not None:
                raise
            self.problems[question.id] = {"file": question.file, "line": question.line, "id": question.id,
                                          "message": error.message, "remedy": error.remedy}
            self.note(f"{question.id} is skipped: {error.message}")
            return None
        self.results.setdefault((self.reference.key, question.id), result)
        self.runner.total = dict(self.runner.counts)
        if kept is None:
            self.note(f"{question.id}: the reference stopped: {result.problem}")
        elif kept.logits.numel() * 4 * (len(self._kept) + 1) <= GROUP_BYTES:
            self._kept[question.id] = Reference(kept.tokens, kept.logits, {})
        return kept

    def answered(self, configuration, questions):
        """[(question, result)] of those that have one."""
        return [(q, self.results[configuration.key, q.id]) for q in questions if (configuration.key, q.id) in self.results]
